"""Eight processes at once, twenty times: one writer each, and no lock outlives a kill."""

from programs import run_program


def test_one_of_many_gets_the_folder():
    printed = run_program("writers.py", "--rounds", "20", "--at-once", "8")
    assert "60 of 60 had one writer" in printed

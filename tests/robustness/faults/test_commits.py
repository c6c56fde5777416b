"""Every operation of every kind of commit, killed and refused."""

import csv

import pytest
from commits import CASES
from interposed import missing
from programs import run_program


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_no_fault_at_any_operation_loses_anything():
    printed = run_program("commits.py")
    rows = list(csv.DictReader(printed.splitlines(), delimiter="\t"))
    assert [row["commit"] for row in rows] == list(CASES)
    for row in rows:
        # Make, write, chmod, fsync, rename, fsync of the folder: fewer would not be a commit.
        assert int(row["operations"]) >= 6, row
        assert row["lost"] == "0", row

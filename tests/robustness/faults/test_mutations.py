"""A thousand damaged files, and none is taken for a whole one."""

from mutations import HARMLESS, NOTICED, try_all


def test_no_damage_goes_unnoticed(tmp_path):
    results = try_all(tmp_path)
    assert sum(found.total() for found in results.values()) == 1000
    for name, found in results.items():
        # Of a thousand bits of JSON, some are the space between values or the seal's own name.
        most_harmless = 20 if name == "run.json" else 0
        assert found[HARMLESS] <= most_harmless, name
        assert found[NOTICED] == found.total() - found[HARMLESS], name

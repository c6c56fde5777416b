"""A whole command on a disk that refuses its operations. All commands, with many faults each:
`python tests/robustness/faults/commands.py`.
"""

import pytest
from interposed import missing
from programs import run_program


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_command_that_is_refused_an_operation_says_so_and_loses_nothing():
    *_, line = run_program("commands.py", "--sample", "4", "data split").splitlines()
    name, _, attempts, told, _, lost = line.split("\t")
    assert (name, attempts, lost) == ("data split", "4", "0")
    assert int(told) >= 1

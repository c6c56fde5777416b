"""A whole training on a disk that fills up is told in a line, and resumed exactly when it is freed.

All commands, with many faults each: `python tests/faults/commands.py`.
"""

import pytest
from interposed import missing
from programs import run_program


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_full_disk_ends_a_training_that_goes_on_later():
    *_, line = run_program("commands.py", "--sample", "1", "--full", "fit").splitlines()
    name, _, refused, told, _, lost = line.split("\t")
    assert (name, refused, told, lost) == ("fit", "1", "1", "0")

"""Every long phase looks for a request to stop; wherever it finds one, the command ends with 75 and
goes on as if nothing had been. All commands and places: `python tests/robustness/faults/stops.py`.
"""

import pytest
from stops import stop_everywhere


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("stops")


@pytest.mark.slow
def test_a_stopped_training_is_resumed_exactly(work):
    wrong, _ = stop_everywhere(work, "fit", most=2)
    assert not wrong


@pytest.mark.parametrize("name", ["data check", "data split"])
def test_a_command_without_a_run_starts_again(work, name):
    wrong, looks = stop_everywhere(work, name)
    assert not wrong
    assert len(looks.places) >= 30

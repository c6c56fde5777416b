"""The rule for answers is read from a run as it was written, and never if it is damaged."""

import json

import numpy as np
import pytest

from cvtrain.errors import RunError
from cvtrain.evaluation.calibration import Abstention
from cvtrain.runs.run import Run
from cvtrain.steps.abstention import ABSTENTION_FILE, measure_abstention, read_abstention

RECORD = {"format": 1, "temperature": 2.0, "threshold": 0.7}
LABELS = np.array([0, 1, 0])
PROBABILITIES = np.array([[0.95, 0.05], [0.6, 0.4], [0.9, 0.1]], np.float32)


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", "fit")


def test_a_run_without_a_rule_answers_every_image(run):
    assert read_abstention(run) is None
    assert measure_abstention(run, LABELS, PROBABILITIES) == {}


def test_the_threshold_is_compared_with_calibrated_confidences(run):
    (run.path / ABSTENTION_FILE).write_text(json.dumps(RECORD))
    assert read_abstention(run) == Abstention(2.0, 0.7)
    # At temperature 2 the odds 19, 1.5 and 9 are their roots: 0.81, 0.55 and 0.75.
    measured = measure_abstention(run, LABELS, PROBABILITIES)["abstention"]
    assert (measured["num_answered"], measured["num_wrong"]) == (2, 0)


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"temperature": 0}, {"threshold": 1.5}, {"threshold": "high"}]
)
def test_a_damaged_rule_is_an_error_that_names_the_file(run, change):
    (run.path / ABSTENTION_FILE).write_text(json.dumps(RECORD | change))
    with pytest.raises(RunError, match=ABSTENTION_FILE):
        read_abstention(run)

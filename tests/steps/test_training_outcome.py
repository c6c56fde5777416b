"""Stages after one another are one training, and where it overflowed it is told what to do."""

import csv

import pytest

from cvtrain.config import load_config
from cvtrain.runs.run import Run
from cvtrain.steps.training_outcome import (
    TrainingResult,
    against_overflow,
    concat_history,
    continued,
    write_history,
)
from cvtrain.training.state import Trained


def rows(*losses, steps=5):
    return [
        {"epoch": i, "step": i * steps, "val_loss": loss} for i, loss in enumerate(losses, start=1)
    ]


def test_epochs_and_steps_go_on_counting():
    one, two = rows(3.0, 2.0), rows(1.5, 1.0, steps=2)
    found = concat_history(one, two)
    assert [(row["epoch"], row["step"]) for row in found] == [(1, 5), (2, 10), (3, 12), (4, 14)]
    assert [row["val_loss"] for row in found] == [3, 2, 1.5, 1]
    assert concat_history([], two) == two
    assert two[0]["epoch"] == 1  # what it was given is as it was


@pytest.mark.parametrize(("best", "kept", "moved"), [(2, 4, True), (0, 1, False)])
def test_the_best_epoch_is_one_of_the_whole_history(best, kept, moved):
    before = TrainingResult(rows(1.0, 2.0), best_epoch=1, start={"val_loss": 9.0})
    trained = Trained(rows(0.9, 0.8), best, "finished", 1.0, start={"val_loss": 1.0})
    result = continued(before, trained)
    assert (result.best_epoch, result.moved, len(result.history)) == (kept, moved, 4)
    assert result.start == {"val_loss": 9.0}  # that of the first stage


def test_without_an_epoch_better_than_the_start_the_start_is_kept():
    trained = Trained(rows(2.0), 0, "finished", 1.0, start={"val_loss": 1.0})
    result = continued(None, trained)
    assert (result.best_epoch, result.moved, result.start) == (0, False, {"val_loss": 1.0})


def test_the_history_reads_back(tmp_path):
    run = Run.create(tmp_path / "run", "fit")
    write_history(run, rows(1 / 3, 0.25))
    with (run.path / "history.csv").open(newline="") as file:
        found = [{name: float(text) for name, text in row.items()} for row in csv.DictReader(file)]
    assert found == [pytest.approx(row, rel=1e-6) for row in rows(1 / 3, 0.25)]


@pytest.mark.parametrize(
    ("settings", "precision", "words"),
    [
        (
            "{name: adam, learning_rate: 0.01}",
            "float32",
            "Lower fit.optimizer.learning_rate from 0.01 to 0.001 or bound the gradients",
        ),
        (
            "{name: adam, learning_rate: 0.01, clip_norm: 1.0}",
            "bfloat16",
            "from 0.01 to 0.001 or compute in float32",
        ),
        (
            "{name: adamw, learning_rate: 0.5, weight_decay: 0.9}",
            "float32",
            "Lower fit.optimizer.weight_decay from 0.9 to 0.01",
        ),
    ],
)
def test_what_overflows_is_told_what_to_lower(tmp_path, config_path, settings, precision, words):
    stage = load_config(config_path, [f"fit.optimizer={settings}"]).fit
    run = Run.create(tmp_path / "run", "fit")
    result = TrainingResult(rows(1.0), 1)
    advice = against_overflow(run, stage, 1, result, precision=precision, from_start=False)
    assert words in advice
    assert "has the weights of epoch 1, the best before that" in advice


def test_weights_that_are_too_large_from_the_start_are_no_matter_of_the_rate(tmp_path, config_path):
    run = Run.create(tmp_path / "run", "fit")
    stage = load_config(config_path).fit
    result = TrainingResult(best_epoch=None)
    advice = against_overflow(run, stage, 1, result, precision="float32", from_start=True)
    assert "take others" in advice
    assert "learning_rate" not in advice
    assert "there is no model" in advice

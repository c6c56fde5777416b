"""What a tracker does, and what all of them keep."""

from collections.abc import Mapping
from typing import Protocol

from cvtrain.runs.run import Run


class Tracker(Protocol):
    """What keeps a training elsewhere, besides the run folder. It may raise whatever it likes."""

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Keep a finished epoch: a line of `history.csv`, epochs from 1."""

    def end(self) -> None:
        """Keep what the run's record has become, whatever its status."""


def final_metrics(run: Run) -> dict[str, float]:
    """`test_accuracy`, `validation_loss` and the like of a finished run; nothing before that."""
    return {
        f"{split}_{name}": value
        for split, scores in run.record.metrics or ()
        if scores
        for name, value in {
            "accuracy": scores.accuracy,
            "loss": scores.loss,
            **scores.chosen,
        }.items()
    }

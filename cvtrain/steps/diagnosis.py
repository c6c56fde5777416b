"""Diagnose a training and its saved model: printed at its end and recorded in `run.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from textwrap import indent
from typing import Any

from cvtrain.evaluation.curve_diagnosis import read_curves
from cvtrain.evaluation.metrics import AgainstGuessing
from cvtrain.evaluation.remedies import Stage, Start
from cvtrain.steps.session import RunSession
from cvtrain.steps.training_outcome import TrainingResult
from cvtrain.system.console import Console

_MOST_PRINTED = 2


def diagnose(
    session: RunSession,
    result: TrainingResult,
    metrics: Mapping[str, Any],
    held_out: AgainstGuessing,
) -> list[dict[str, str]]:
    """The findings for `reading` of run.json, the most important first.

    Args:
        result: the result of the training.
        metrics: the metrics for run.json.
        held_out: the saved model on the validation and test images.
    """
    record, counts = session.run.record, session.dataset.index.counts
    stage = Stage(
        record.command.replace("-", "_"),
        session.config.model_dump(mode="json"),
        {split: [*by_class.values()] for split, by_class in counts.items()},
        held_out=held_out,
        best_epoch=result.best_epoch if result.history else None,
        start=Start(**dict(record.start), test_accuracy_now=metrics["test"]["accuracy"])
        if record.start
        else None,
        constant=record.constant_features,
        without_gradient=record.without_gradient,
    )
    return [asdict(reading) for reading in read_curves(result.by_column(), stage)]


def print_diagnosis(readings: Sequence[Mapping[str, str]], console: Console) -> None:
    """Print the two most important findings, with the YAML to try."""
    for reading in readings[:_MOST_PRINTED]:
        console.print(f"\n{reading['detail']}")
        if reading["proposal"]:
            console.print(f"To try:\n{indent(reading['proposal'].rstrip(), '  ')}")

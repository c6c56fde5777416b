"""The figures of a run as pictures of a page, each with a summary in words.

They are those of `plots.figures`, as SVG: crisp at any size, and small.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cvtrain.evaluation.calibration import risk_coverage
from cvtrain.evaluation.metrics import calibration_bins, measured
from cvtrain.plots.calibration import calibration_panels
from cvtrain.plots.figures import (
    History,
    Panel,
    curve_panels,
    draw_panels,
    kept,
    measured_by_all,
    svg,
    validation_panels,
)
from cvtrain.system.html import data_uri


@dataclass(frozen=True)
class Plot:
    """A plot on the page.

    Attributes:
        summary: description of the plot, its alternative text.
        picture: data URI.
    """

    summary: str
    picture: str


def plot_curves(
    history: History, best_epoch: int | None, start: Mapping[str, float] | None = None
) -> list[Plot]:
    """Loss, accuracy and such, training and validation, by epoch; none without epochs.

    Args:
        history: columns of `history.csv`.
        best_epoch: whose weights were kept; 0 for those of the start.
        start: `val_loss` and `val_accuracy` before the first epoch, where they were measured.
    """
    if not history or not history["epoch"]:
        return []
    if best_epoch == 0 and not start:
        best_epoch = None  # Runs of earlier versions have no start to mark.
    mark = "" if best_epoch is None else f"; {kept(best_epoch)}"
    summaries = []
    for metric in measured(history):
        of = {"training": history.get(metric), "validation": history[f"val_{metric}"]}
        said = "; ".join(f"{name} {_ends(column, metric)}" for name, column in of.items() if column)
        summaries.append(f"{metric.capitalize()} by epoch: {said}{mark}.")
    return _plots(curve_panels(history, best_epoch, start), summaries)


def plot_validation_curves(histories: Mapping[str, History]) -> list[Plot]:
    """Validation loss, accuracy and such of several runs by epoch; none where none has epochs."""
    if not histories:
        return []
    summaries = []
    for metric in measured_by_all(histories):
        ends = {name: _ends(one[f"val_{metric}"], metric) for name, one in histories.items()}
        said = "; ".join(f"{name} {end}" for name, end in ends.items())
        summaries.append(f"Validation {metric} by epoch: {said}.")
    return _plots(validation_panels(histories), summaries)


def plot_calibration(
    labels: np.ndarray, before: np.ndarray, after: np.ndarray | None, threshold: float | None
) -> list[Plot]:
    """Accuracy by confidence without and with the temperature, and risk by coverage.

    Args:
        labels, before, after, threshold: as `calibration_panels` takes them.
    """
    tempered = [] if after is None else [after]
    summaries = [
        f"Accuracy by confidence, {name}: {_bins_in_words(labels, probabilities)}."
        for name, probabilities in zip(
            ("without temperature", "with temperature"), [before, *tempered], strict=False
        )
    ]
    curve = risk_coverage(labels, before if after is None else after)
    summaries.append(
        f"Share of wrong predictions: {curve.risk[-1]:.1%} of all images, "
        f"{curve.risk[np.searchsorted(curve.coverage, 0.5)]:.1%} of the half with the highest "
        "confidence."
    )
    return _plots(calibration_panels(labels, before, after, threshold=threshold), summaries)


def _plots(panels: Sequence[Panel], summaries: Sequence[str]) -> list[Plot]:
    """One picture a panel: side by side on a wide screen, below each other on a phone."""
    return [
        Plot(summary, data_uri(svg(draw_panels([panel])), "image/svg+xml"))
        for panel, summary in zip(panels, summaries, strict=True)
    ]


def _ends(values: Sequence[float], metric: str) -> str:
    first, last = (
        f"{value:.3f}" if metric == "loss" else f"{value:.1%}" for value in (values[0], values[-1])
    )
    return f"from {first} to {last}"


def _bins_in_words(labels: np.ndarray, probabilities: np.ndarray) -> str:
    return "; ".join(
        f"of {row['num_images']} images at {row['confidence']:.0%}, "
        f"{row['accuracy']:.0%} are correct"
        for row in calibration_bins(labels, probabilities)
    )

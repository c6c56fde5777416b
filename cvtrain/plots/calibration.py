"""Figures of confidence: reliability diagrams, and risk by coverage."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from cvtrain.evaluation.calibration import coverage_and_risk, risk_coverage
from cvtrain.evaluation.metrics import accuracy_interval, calibration_bins, calibration_error
from cvtrain.plots.figures import Panel

_BAR, _LINE, _CHOSEN = "#1f77b4", "#d95f02", "#111111"
_MAX_INTERVALS = 60


def calibration_panels(
    labels: np.ndarray,
    before: np.ndarray,
    after: np.ndarray | None = None,
    *,
    threshold: float | None = None,
) -> list[Panel]:
    """Reliability diagrams, without and with the temperature, and risk over coverage.

    Args:
        labels: (n,) true class indices.
        before: (n, classes) probabilities of the model.
        after: the same with the temperature; None for a model without one.
        threshold: of the confidence `after`, to mark; None or 0 answers everything.
    """
    panels = [partial(_draw_reliability, labels, before, "without temperature")]
    if after is not None:
        panels.append(partial(_draw_reliability, labels, after, "with temperature"))
    risky = before if after is None else after
    return [*panels, partial(_draw_risk, labels, risky, threshold)]


def _draw_reliability(labels: np.ndarray, probabilities: np.ndarray, of: str, axes: Axes) -> None:
    bins = calibration_bins(labels, probabilities)
    confidence = [row["confidence"] for row in bins]
    accuracy = np.array([row["accuracy"] for row in bins])
    counts = np.array([row["num_images"] for row in bins])
    ends = [accuracy_interval(row["num_correct"], row["num_images"]) for row in bins]
    reach = np.abs(np.array(ends).T - accuracy)
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="perfect calibration")
    # Images below their share of the axis: a wide interval has few under it.
    axes.bar(confidence, counts / counts.sum(), 0.03, color="0.85", label="share of the images")
    style = {"fmt": "o-", "color": _BAR, "capsize": 3, "linewidth": 1.2}
    axes.errorbar(confidence, accuracy, reach, label="accuracy, 95 % interval", **style)
    error = calibration_error(labels, probabilities)
    axes.set(title=f"{of}: calibration error {error:.3f}", xlabel="confidence", ylabel="accuracy")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))


def _draw_risk(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float | None, axes: Axes
) -> None:
    curve = risk_coverage(labels, probabilities)
    some = np.unique(np.linspace(0, len(curve.risk) - 1, _MAX_INTERVALS).astype(int))
    num_answered = np.rint(curve.coverage[some] * len(labels)).astype(int)
    num_wrong = np.rint(curve.risk[some] * num_answered).astype(int)
    counts = zip(num_wrong.tolist(), num_answered.tolist(), strict=True)
    ends = np.array([accuracy_interval(*pair) for pair in counts])
    axes.fill_between(curve.coverage[some], *ends.T, color=_LINE, alpha=0.15, linewidth=0)
    axes.plot(curve.coverage, curve.risk, color=_LINE, linewidth=1.8, label="risk, 95 % interval")
    if threshold:
        chosen = coverage_and_risk(labels, probabilities, threshold)
        label = f"unknown below {threshold:.3f}"
        # Where nothing is answered there is no risk.
        axes.plot(chosen["coverage"], chosen["risk"] or 0, "o", color=_CHOSEN, label=label)
        axes.axvline(chosen["coverage"], color="0.6", linestyle=":", linewidth=1)
    axes.set(title=f"risk by coverage: area under the curve {curve.area:.3f}")
    axes.set(
        xlabel="coverage: share of images with a prediction",
        ylabel="risk: share of wrong predictions",
    )
    axes.set(xlim=(0, 1.02), ylim=(0, max(0.05, min(1.0, 2 * float(curve.risk[-1])))))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))

"""Figures of confidence: does it mean what it says, and what is gained by answering less?"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cvtrain.evaluation.calibration import coverage_and_risk, risk_coverage
from cvtrain.evaluation.metrics import accuracy_interval, calibration_bins, calibration_error

_BAR, _LINE, _CHOSEN = "#1f77b4", "#d95f02", "#111111"
_MAX_INTERVALS = 60


def draw_calibration(
    labels: np.ndarray, before: np.ndarray, after: np.ndarray, *, threshold: float | None
) -> Figure:
    """Two reliability diagrams, without and with the temperature, and risk over coverage.

    Args:
        labels: (n,) true class indices.
        before: (n, classes) probabilities of the model.
        after: the same with the temperature.
        threshold: of the confidence `after`, to mark; None or 0 answers everything.
    """
    figure = Figure(figsize=(14, 5), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _draw_reliability(left, labels, before, "the model")
    _draw_reliability(middle, labels, after, "with the temperature")
    _draw_risk(right, labels, after, threshold)
    lines = [
        line
        for axes in (middle, right)
        for line in zip(*axes.get_legend_handles_labels(), strict=True)
    ]
    figure.legend(*zip(*lines, strict=True), loc="outside lower center", ncols=len(lines))
    return figure


def _draw_reliability(axes: Axes, labels: np.ndarray, probabilities: np.ndarray, of: str) -> None:
    bins = calibration_bins(labels, probabilities)
    confidence = [row["confidence"] for row in bins]
    accuracy = np.array([row["accuracy"] for row in bins])
    counts = np.array([row["num_images"] for row in bins])
    ends = [accuracy_interval(row["num_correct"], row["num_images"]) for row in bins]
    reach = np.abs(np.array(ends).T - accuracy)
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="honest")
    # Images below their share of the axis: a wide interval has few under it.
    axes.bar(confidence, counts / counts.sum(), 0.03, color="0.85", label="share of the images")
    style = {"fmt": "o-", "color": _BAR, "capsize": 3, "linewidth": 1.2}
    axes.errorbar(confidence, accuracy, reach, label="accuracy, 95 % interval", **style)
    error = calibration_error(labels, probabilities)
    axes.set(title=f"{of}: calibration error {error:.3f}", xlabel="confidence", ylabel="accuracy")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.grid(alpha=0.25)


def _draw_risk(
    axes: Axes, labels: np.ndarray, probabilities: np.ndarray, threshold: float | None
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
    axes.set(title=f"answering less: area under the risk {curve.area:.3f}")
    axes.set(xlabel="coverage: share that is answered", ylabel="risk: share of wrong answers")
    axes.set(xlim=(0, 1.02), ylim=(0, max(0.05, min(1.0, 2 * float(curve.risk[-1])))))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.25)

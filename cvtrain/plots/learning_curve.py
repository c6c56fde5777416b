"""The figure of `cvtrain learning-curve`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

_MEASURED, _EXPECTED = "#1f77b4", "#d95f02"


def draw_learning_curve(
    points: Sequence[Mapping[str, Any]],
    curve: Sequence[Mapping[str, Any]],
    forecast: Sequence[Mapping[str, Any]],
) -> Figure:
    """Accuracy by the number of training images, measured and extrapolated.

    Args:
        points: rows with num_images and accuracy, one for each subset.
        curve: rows with num_images, accuracy and accuracy_interval, one for each size.
        forecast: the same beyond the data, in ascending order; empty for none.
    """
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    sizes, accuracies, ends = _columns(curve)
    axes.scatter(
        [point["num_images"] for point in points],
        [point["accuracy"] for point in points],
        s=16,
        facecolors="white",
        edgecolors=_MEASURED,
        linewidths=0.8,
        zorder=3,
        label="each subset",
    )
    axes.errorbar(
        sizes,
        accuracies,
        np.abs(ends.T - accuracies),
        fmt="o-",
        color=_MEASURED,
        capsize=4,
        label="measured, 95 % interval",
    )
    if forecast:
        # The measured end belongs to it: that is where it starts.
        sizes, expected, ends = _columns([curve[-1], *forecast])
        axes.plot(sizes, expected, "--", color=_EXPECTED, label="extrapolated")
        axes.fill_between(
            sizes,
            *ends.T,
            color=_EXPECTED,
            alpha=0.15,
            linewidth=0,
            label="extrapolated, 95 % interval",
        )
    axes.set(
        xscale="log",
        xlabel="number of training images",
        ylabel="accuracy on validation and test images",
    )
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right")
    return figure


def _columns(rows: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    keys = ("num_images", "accuracy", "accuracy_interval")
    sizes, accuracies, ends = (np.array([row[key] for row in rows]) for key in keys)
    return sizes, accuracies, ends

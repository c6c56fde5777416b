"""Figures of the reliability of maps: faithfulness curves and the sanity check."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cvtrain.explain.faithfulness import Measure
from cvtrain.explain.sanity import PASSES_BELOW, Cascade

_MAP, _CONTROL = "#1f77b4", "0.45"
_COLOURS = ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#66a61e", "#a6761d")


def draw_faithfulness(
    measures: Mapping[str, Measure], control: Mapping[str, Measure], method: str
) -> Figure:
    """Probability of the class against the share of changed pixels, one panel a measure.

    Args:
        measures: as `faithfulness.evaluate` returns them; those without a curve are left out.
        control: the same of `faithfulness.random_maps`.
        method: name of the method that made the maps.
    """
    curved = [name for name, measure in measures.items() if measure.curves.size]
    figure = Figure(figsize=(3.6 * len(curved), 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(curved), sharey=True), curved, strict=True):
        measure = measures[name]
        _plot(axes, control[name], "random maps", _CONTROL, "--")
        _plot(axes, measure, method, _MAP, "-")
        axes.set(xlabel=f"share of pixels {_CHANGE[name]}", ylim=(0, 1), xlim=(0, None))
        axes.set_title(f"{name}\n{measure.better} is better", fontsize=10)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    figure.axes[0].set_ylabel("probability of the class\nmean and interquartile range")
    return figure


def draw_cascades(cascades: Mapping[str, Cascade]) -> Figure:
    """Rank correlation with the maps of the trained model, by the lowest randomized layer.

    Args:
        cascades: by method, each with the same stages, of one opened model.
    """
    stages = next(iter(cascades.values())).stages
    figure = Figure(figsize=(max(7, 0.75 * len(stages) + 3.5), 4.6), layout="constrained")
    axes = figure.subplots()
    for i, (name, cascade) in enumerate(cascades.items()):
        means = np.array([np.nan if mean is None else mean for mean in [1.0, *cascade.means]])
        label = f"{name}: {cascade.verdict}"
        axes.plot(means, ".-", color=_COLOURS[i % len(_COLOURS)], label=label)
    axes.axhline(PASSES_BELOW, color="0.6", linestyle="--", linewidth=1)
    axes.annotate(
        "threshold: must end below",
        (1, PASSES_BELOW),
        xycoords=axes.get_yaxis_transform(),
        xytext=(-4, 4),
        textcoords="offset points",
        ha="right",
        fontsize=8,
    )
    names = ["trained", *(stage if len(stage) < 25 else f"{stage[:24]}…" for stage in stages)]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axes.set(
        xlabel="lowest layer with randomized weights",
        ylabel="rank correlation with the maps\nof the trained model",
        ylim=(min(-0.3, *axes.get_ylim()), 1.05),
    )
    axes.grid(alpha=0.25)
    axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


_CHANGE = {
    "deletion": "removed",
    "insertion": "restored",
    "ROAD, most relevant first": "replaced",
    "ROAD, least relevant first": "replaced",
}


def _plot(axes: Axes, measure: Measure, label: str, color: str, style: str) -> None:
    low, high = np.percentile(measure.curves, [25, 75], axis=0)
    axes.fill_between(measure.shares, low, high, color=color, alpha=0.15, linewidth=0)
    mean = measure.curves.mean(axis=0)
    axes.plot(measure.shares, mean, style, color=color, label=f"{label}: {measure.mean:.2f}")

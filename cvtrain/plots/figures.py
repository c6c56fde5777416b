"""Arrays and numbers -> figures: those of trainings, and what all figures share.

Each `draw_*` returns a Matplotlib figure; `save` commits one as PNG, `svg` makes it an image of a
page. Plots that stand side by side in a file and below each other on a phone are panels. No pyplot:
no global state, no window, safe in threads.
"""

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator

from cvtrain.evaluation.metrics import measured
from cvtrain.system.files import committed
from cvtrain.system.text import truncate

_TRAIN, _VALIDATION = "#1f77b4", "#d95f02"
_MAX_NUMBERED_CLASSES = 30
_MANY_EPOCHS = 20  # Fewer show their trend by themselves.
_LINE_STYLES = ("-", "--", ":", "-.")
_LEGEND_PITCH = 12  # characters of a legend in an inch

_ACROSS = 6  # pictures of a contact sheet

History = Mapping[str, Sequence[float]]
Panel = Callable[[Axes], None]
"""Draws one plot between axes."""
Picture = tuple[np.ndarray, str]
"""Pixels (h, w, 3) uint8 and a caption of up to three lines."""


def save(figure: Figure, path: Path) -> None:
    """Commit `figure` to `path` as PNG. Raises ResourceError when the disk refuses."""
    with committed(path) as temporary, _names_as_they_are(figure):
        figure.savefig(temporary, dpi=120)


def svg(figure: Figure) -> bytes:
    """`figure` as an SVG image without a background; the same figure gives the same bytes."""
    stream = io.BytesIO()
    for background in (figure.patch, *(axes.patch for axes in figure.axes)):
        background.set_alpha(0)
    # Not `savefig`, which draws a figure twice where there is a layout.
    with _names_as_they_are(figure), rc_context({"svg.hashsalt": "cvtrain"}):
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None})
    return stream.getvalue()


@contextmanager
def _names_as_they_are(figure: Figure) -> Iterator[None]:
    for text in figure.findobj(Text):
        # Class and file names are data: a dollar sign in one is no formula.
        text.set_parse_math(False)
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the CSV files have it right.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def smoothed(values: Sequence[float], reach: int = 3) -> np.ndarray:
    """The mean of each value and up to `reach` before and as many after it.

    An average of the past alone lags behind: where accuracy rises it ends below every late value.

    Args:
        values: (n,) one an epoch.
    """
    n = len(values)
    reaches = [min(reach, i, n - 1 - i) for i in range(n)]
    return np.array([np.mean(values[i - r : i + r + 1]) for i, r in enumerate(reaches)])


def draw_panels(panels: Sequence[Panel]) -> Figure:
    """Panels side by side, with one legend below for all of them."""
    width = 5.2 * len(panels)
    figure = Figure(layout="constrained")
    for axes, draw in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(axes)
        axes.grid(alpha=0.25)
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    # Below all, because inside any there is always a curve that it would hide.
    num_columns = max(1, int(width * _LEGEND_PITCH / (max(map(len, handles)) + 6)))
    num_rows = -(-len(handles) // num_columns)
    figure.set_size_inches(width, 4.2 + 0.22 * num_rows)
    place = {"loc": "outside lower center", "ncols": num_columns, "frameon": False}
    figure.legend(handles.values(), handles.keys(), **place)
    return figure


def curve_panels(
    history: History, best_epoch: int | None, start: Mapping[str, float] | None = None
) -> list[Panel]:
    """Each metric by epoch as measured, the kept epoch marked; of many epochs smoothed, too.

    Args:
        history: columns epoch, loss, accuracy, val_loss, val_accuracy and such.
        best_epoch: the epoch whose weights were kept, 0 for those of the start, or None.
        start: val_loss and val_accuracy before the first epoch, where they were measured.
    """

    def draw(metric: str, axes: Axes) -> None:
        for key, label, color in (
            (metric, "training", _TRAIN),
            (f"val_{metric}", "validation", _VALIDATION),
        ):
            if key not in history:
                continue
            epochs, values = [*history["epoch"]], [*history[key]]
            first = [start[key]] if start and key in start else []
            xs, ys = [0] * len(first) + epochs, first + values
            axes.plot(xs, ys, ".-", color=color, linewidth=1.6, markersize=5, label=label)
            if len(values) >= _MANY_EPOCHS:
                thin = {"linestyle": "--", "linewidth": 1, "alpha": 0.7}
                axes.plot(epochs, smoothed(values), color=color, label=f"{label}, smoothed", **thin)
        if best_epoch is not None:
            axes.axvline(best_epoch, color="0.6", linestyle=":", label=kept(best_epoch))
        _label_epochs(axes, metric)

    return [partial(draw, metric) for metric in measured(history)]


def validation_panels(histories: Mapping[str, History]) -> list[Panel]:
    """Validation loss, accuracy and what else all of several runs measured, by epoch.

    Args:
        histories: columns epoch, val_loss, val_accuracy and such by the name of the run; not empty.
    """

    def draw(metric: str, axes: Axes) -> None:
        for i, (name, history) in enumerate(histories.items()):
            style = {"color": f"C{i % 10}", "linestyle": _LINE_STYLES[i % len(_LINE_STYLES)]}
            xs, ys = history["epoch"], history[f"val_{metric}"]
            axes.plot(xs, ys, marker=".", linewidth=1.6, label=truncate(name, 50), **style)
        _label_epochs(axes, f"validation {metric}")

    return [partial(draw, metric) for metric in measured_by_all(histories)]


def measured_by_all(histories: Mapping[str, History]) -> list[str]:
    """The metrics that every one of several histories has."""
    return measured(set.intersection(*map(set, histories.values())))


def kept(best_epoch: int) -> str:
    """The epoch whose weights were kept, in words; 0 for the initial weights."""
    return f"kept: epoch {best_epoch}" if best_epoch else "kept: the initial weights"


def _label_epochs(axes: Axes, title: str) -> None:
    axes.set(title=title, xlabel="epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)


def draw_find_lr(
    rates: np.ndarray,
    losses: np.ndarray,
    smoothed: np.ndarray,
    suggestion: float | None,
) -> Figure:
    """Loss against the learning rate of a range test, and the rate that it suggests.

    Args:
        rates: (n,) rising.
        losses, smoothed: (n,) at these rates.
        suggestion: one of the rates, or None where the loss never falls.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, ".-", color=_TRAIN, linewidth=1, alpha=0.35, label="each batch")
    axes.plot(rates, smoothed, color=_TRAIN, linewidth=2.2, label="smoothed")
    if suggestion is not None:
        height = np.interp(np.log(suggestion), np.log(rates), smoothed)
        label = f"suggested rate: {suggestion:.1e}"
        axes.axvline(suggestion, color=_VALIDATION, linestyle=":")
        axes.plot(suggestion, height, "o", color=_VALIDATION, markersize=9, label=label)
    # Diverged losses would flatten all others.
    bottom, top = min(losses), max(smoothed[: max(1, len(smoothed) // 8)])
    room = max(top - bottom, 0.1 * top)
    axes.set(xscale="log", ylim=(bottom - 0.1 * room, top + 0.7 * room))
    axes.set(xlabel="learning rate", ylabel="training loss")
    axes.xaxis.set_major_formatter("{x:.0e}")
    axes.grid(alpha=0.25)
    axes.legend()
    return figure


def draw_confusion_matrix(matrix: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Counts of images by true class (rows) and predicted class; shade is the share of the row.

    Args:
        matrix: (classes, classes) counts.
    """
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(4.5, 0.55 * len(class_names) + 2), 22)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [truncate(name) for name in class_names]
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted class", ylabel="true class")
    if len(names) <= _MAX_NUMBERED_CLASSES:
        for (i, j), count in np.ndenumerate(counts):
            color = "white" if shares[i, j] > 0.6 else "black" if count else "0.8"
            axes.text(j, i, str(count), ha="center", va="center", color=color, fontsize=8)
    figure.colorbar(image, label="share of the true class", shrink=0.7)
    return figure


def draw_augmented_samples(
    rows: Sequence[Sequence[np.ndarray]], names: Sequence[str], titles: Sequence[str]
) -> Figure:
    """A contact sheet: each row one image, first as it is, then as the model sees it.

    Args:
        rows: for each image its pixels (h, w, 3) uint8, the original first.
        names: one class name a row.
        titles: one a column.
    """
    num_columns = len(rows[0])
    figure = Figure(figsize=(1.35 * num_columns, 1.35 * len(rows) + 0.4), layout="constrained")
    grid = figure.subplots(len(rows), num_columns, squeeze=False)
    for axes_row, images, name in zip(grid, rows, names, strict=True):
        for axes, pixels in zip(axes_row, images, strict=True):
            _show(axes, pixels)
        axes_row[0].set_ylabel(truncate(name, 16), fontsize=9)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=9)
    return figure


def draw_contact_sheet(
    groups: Sequence[Sequence[Picture]], *, nothing: str = "no images"
) -> Figure:
    """The pictures of each group side by side, as many groups in a row as fit.

    Args:
        groups: for each image the photograph, then what was laid over it: up to 6 pictures. Groups
            of equally many share rows, those of more come first.
        nothing: what the sheet says where there are no groups.
    """
    rows: list[list[Picture]] = []
    for length in sorted({len(group) for group in groups}, reverse=True):
        alike = [group for group in groups if len(group) == length]
        for i in range(0, len(alike), _ACROSS // length):
            rows.append([each for group in alike[i : i + _ACROSS // length] for each in group])
    num_rows = max(1, len(rows))
    figure = Figure(figsize=(2.1 * _ACROSS, 2.75 * num_rows), layout="constrained")
    grid = figure.subplots(num_rows, _ACROSS, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    if not rows:
        figure.text(0.5, 0.5, nothing, ha="center", va="center", fontsize=16, color="0.4")
    for axes_row, pictures in zip(grid, rows, strict=False):
        for axes, (pixels, caption) in zip(axes_row, pictures, strict=False):
            axes.axis("on")
            _show(axes, pixels)
            axes.set_xlabel(
                "\n".join(truncate(line, 27) for line in caption.split("\n")), fontsize=8
            )
    return figure


def draw_probe(
    depths: Sequence[Mapping[str, Any]], recommended: Mapping[str, Any], threshold: float
) -> Figure:
    """Accuracy of a linear classifier against depth and against cost, one line a backbone and size.

    Args:
        depths: rows with backbone, image_size, block, multiply_adds, accuracy and standard_error;
            those of one backbone and size in the order of the forward pass.
        recommended: the one of them to mark.
        threshold: the least accuracy that counts as good as the best.
    """
    figure = Figure(figsize=(12, 5), layout="constrained")
    by_depth, by_cost = figure.subplots(1, 2, sharey=True)
    lines: dict[tuple[str, int, int], list[Mapping[str, Any]]] = {}
    for row in depths:
        lines.setdefault((row["backbone"], *row["image_size"]), []).append(row)
    for (backbone, height, width), rows in lines.items():
        places = {
            by_depth: list(range(1, len(rows) + 1)),
            by_cost: [row["multiply_adds"] / 1e6 for row in rows],
        }
        accuracies = [row["accuracy"] for row in rows]
        errors = [row["standard_error"] for row in rows]
        for axes, x in places.items():
            label = f"{truncate(backbone, 40)}, {height}x{width}"
            bars = axes.errorbar(x, accuracies, errors, marker=".", capsize=2, label=label)
            if recommended in rows:
                i = rows.index(recommended)
                name = f"recommended cut: {truncate(recommended['block'])}"
                style = {"s": 160, "facecolors": "none", "edgecolors": "black", "zorder": 3}
                axes.scatter(x[i], accuracies[i], label=name, **style)
                axes.axvline(x[i], color=bars[0].get_color(), linestyle=":", linewidth=1)
    for axes in places:
        label = "best accuracy minus one standard error"
        axes.axhline(threshold, color="0.6", linestyle="--", linewidth=1, label=label)
        axes.grid(alpha=0.25)
    names = {tuple(row["block"] for row in rows) for rows in lines.values()}
    if len(names) == 1:
        (blocks,) = names
        by_depth.set_xticks(places[by_depth], map(truncate, blocks), rotation=90, fontsize=8)
    else:
        by_depth.get_xaxis().get_major_locator().set_params(integer=True)
    by_depth.set(xlabel="block, from input to output", ylabel="accuracy of a linear classifier")
    by_cost.set(xlabel="million multiply-adds per image", xscale="log")
    by_cost.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    by_cost.xaxis.set_major_formatter("{x:,g}")
    by_cost.xaxis.set_minor_formatter("")
    by_cost.legend(fontsize=9)
    return figure


def draw_ladder(rungs: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy with its interval and minutes of each rung, the first one at the bottom.

    Args:
        rungs: rows with name, accuracy, accuracy_interval (low, high) and minutes.
    """
    figure = Figure(figsize=(11, 0.6 * len(rungs) + 1.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    places = range(len(rungs))
    accuracies = np.array([rung["accuracy"] for rung in rungs])
    ends = np.array([rung["accuracy_interval"] for rung in rungs])
    reach = np.abs(ends.T - accuracies)
    left.errorbar(accuracies, places, xerr=reach, fmt="o", color=_TRAIN, capsize=4)
    for place, accuracy in zip(places, accuracies, strict=True):
        above = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center", "fontsize": 9}
        left.annotate(f"{accuracy:.3f}", (accuracy, place), **above)
    left.set_yticks(places, [truncate(rung["name"]) for rung in rungs])
    left.set(xlabel="test accuracy, 95 % interval", ylim=(-0.5, len(rungs) - 0.3))
    bars = right.barh(places, [rung["minutes"] for rung in rungs], height=0.5, color="0.75")
    right.bar_label(bars, fmt="%.1f", padding=4, fontsize=9)
    right.set(xlabel="minutes")
    right.margins(x=0.15)
    for axes in (left, right):
        axes.grid(alpha=0.25, axis="x")
    return figure


def _show(axes: Axes, pixels: np.ndarray) -> None:
    axes.imshow(pixels, interpolation="nearest" if max(pixels.shape[:2]) < 64 else "antialiased")
    axes.set_xticks([])
    axes.set_yticks([])

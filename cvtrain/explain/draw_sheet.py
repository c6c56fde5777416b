"""The contact sheet of explained images."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from cvtrain.system.files import short

_ACROSS = 6  # panels
Panel = tuple[np.ndarray, str]
"""Pixels (h, w, 3) uint8 and a caption of one or two lines."""


def draw_contact_sheet(groups: Sequence[Sequence[Panel]]) -> Figure:
    """The panels of each image side by side, as many images in a row as fit.

    Args:
        groups: for each image the photograph, then what was laid over it: up to 6 panels. Images
            with equally many share rows, those with more come first.
    """
    rows: list[list[Panel]] = []
    for length in sorted({len(group) for group in groups}, reverse=True):
        alike = [group for group in groups if len(group) == length]
        for i in range(0, len(alike), _ACROSS // length):
            rows.append([panel for group in alike[i : i + _ACROSS // length] for panel in group])
    figure = Figure(figsize=(2.1 * _ACROSS, 2.65 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), _ACROSS, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    for axes_row, panels in zip(grid, rows, strict=True):
        for axes, (pixels, caption) in zip(axes_row, panels, strict=False):
            axes.axis("on")
            smooth = "nearest" if max(pixels.shape[:2]) < 64 else "antialiased"
            axes.imshow(pixels, interpolation=smooth)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_xlabel("\n".join(short(line, 27) for line in caption.split("\n")), fontsize=8)
    return figure

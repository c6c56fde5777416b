"""The result of every method of explaining, and the functions that the methods share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Explanation:
    """The maps of k classes for each of n images.

    Attributes:
        maps: (n, k, h, w) float32, finite, at the size of the layer or of the input; raw, before
            relu and scaling: positive values support the class, negative ones oppose it.
        classes: (n, k) class index of each map.
        scores: (n, classes) float32, finite: the logits of all classes. A control that ignores
            the model has none: (n, 0).
        notes: remarks by image and class, such as `all negative` or `constant`; may be empty.
        box: part of the input that the maps cover: top, left, height and width in pixels; None
            for all of it.
    """

    maps: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    notes: list[list[str]]
    box: Box | None = None


# The classes (n, k) to explain, or what chooses them by the scores (n, classes) of n images.
Classes = np.ndarray | Callable[[np.ndarray], np.ndarray]
# Images (n, height, width, channels) float32 as the model takes them, and their classes. Memory
# holds the activations of all of them.
Explain = Callable[[np.ndarray, Classes], Explanation]


def resolve_classes(classes: Classes, scores: np.ndarray) -> np.ndarray:
    """The classes (n, k) to explain, now that the scores (n, classes) are known."""
    return classes(scores) if callable(classes) else np.asarray(classes)


def explanation(
    maps: np.ndarray,
    classes: np.ndarray,
    scores: np.ndarray,
    remarks: Sequence[Sequence[str]] | None = None,
    box: Box | None = None,
) -> Explanation:
    """Build an `Explanation`, with a note on every map that shows nothing.

    Args:
        maps: raw maps (n, k, h, w); one with a value that is not finite becomes all zeros.
        classes: (n, k) class indices.
        scores: (n, classes) logits.
        remarks: remarks of the method by image and class; may be empty.
        box: part of the input that the maps cover.
    """
    maps = np.array(maps, np.float32)
    broken = ~np.isfinite(maps).all(axis=(2, 3))
    maps[broken] = 0
    notes: list[list[str]] = []
    for i, row in enumerate(maps):
        notes.append([])
        for j, each in enumerate(row):
            note = "not finite" if broken[i, j] else _note(each)
            remark = remarks[i][j] if remarks else ""
            notes[-1].append("; ".join(filter(None, (note, remark))))
    scores = np.nan_to_num(np.asarray(scores, np.float32))
    return Explanation(maps, np.asarray(classes), scores, notes, box)


def padded_batches(
    *arrays: np.ndarray, batch_size: int
) -> Iterator[tuple[slice, tuple[np.ndarray, ...]]]:
    """Walk through arrays of the same length in batches that all have one size.

    The last row is repeated until the last batch is full, so that a function of a batch is compiled
    once; fewer rows than `batch_size` are one batch without repetition.

    Yields:
        The rows of the batch, and the batch of each array, of which the first
        `rows.stop - rows.start` are valid.
    """
    n = len(arrays[0])
    size = min(batch_size, n)
    for start in range(0, n, max(size, 1)):
        rows = slice(start, min(start + size, n))
        index = np.minimum(np.arange(start, start + size), n - 1)
        yield rows, tuple(array[index] for array in arrays)


def _note(values: np.ndarray) -> str:
    if np.ptp(values) <= 1e-6 * np.abs(values).max():
        return "constant"
    return "all negative" if values.max() <= 0 else ""

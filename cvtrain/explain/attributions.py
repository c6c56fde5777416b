"""Maps by pixels: which pixels change the score of a class.

These methods need no layer, so they explain any model that can be opened. Their baseline, an image
without content, is the mean colour of the image (`blank`). Unlike black it is neutral in any range
of pixels, also for dark objects.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from cvtrain.backend import keras
from cvtrain.explain.explanation import Classes, Explain, Explanation, explanation, resolve_classes
from cvtrain.explain.flat_model import FlatModel

NUM_NOISY = 50
NOISE = 0.2
NUM_STEPS = 50
GRID = 14
NUM_MASKS = 4000
MASK_CELLS = 7
MASK_KEEPS = 0.5

_EPSILON = 1e-12


def saliency(opened: FlatModel, *, batch_size: int = 32, seed: int = 0) -> Explain:  # noqa: ARG001
    """How steeply the score rises or falls with each pixel: max over channels of |dz/dx|.

    Unsigned: it shows where the score is sensitive, not in which direction. Maps have the size of
    the input. Simonyan et al. (2014), Deep Inside Convolutional Networks, section 3.1.
    """
    return _by_gradients(opened, lambda image: [image], [1.0], _steepness, batch_size)


def smoothgrad(opened: FlatModel, *, batch_size: int = 32, seed: int = 0) -> Explain:
    """Saliency of the mean gradient at 50 noisy copies of an image.

    The noise has a standard deviation of 0.2 of the image's own range and is the same for every
    image. Unsigned, at the size of the input. Smilkov et al. (2017), SmoothGrad, equation 2.
    """

    def copies(image: np.ndarray) -> Iterator[np.ndarray]:
        scale = NOISE * float(np.ptp(image))
        for i in range(NUM_NOISY):
            generator = np.random.default_rng([seed, i])
            yield image + scale * generator.standard_normal(image.shape, np.float32)

    return _by_gradients(opened, copies, [1 / NUM_NOISY] * NUM_NOISY, _steepness, batch_size)


def integrated_gradients(opened: FlatModel, *, batch_size: int = 32, seed: int = 0) -> Explain:  # noqa: ARG001
    """How much of the score each pixel adds on the straight way from the blank image.

    Signed, summed over channels, at the size of the input. A map sums to z(image) - z(blank); by
    how much it fails to, at 50 points of the trapezoid rule, is in the notes. Sundararajan et al.
    (2017), Axiomatic Attribution for Deep Networks, equations 1 and 4.
    """
    places = np.linspace(1, 0, NUM_STEPS, dtype=np.float32)
    weights = np.full(NUM_STEPS, 1 / (NUM_STEPS - 1))
    weights[[0, -1]] /= 2

    def way(image: np.ndarray) -> Iterator[np.ndarray]:
        start = blank(image)
        return (start + place * (image - start) for place in places)

    def contributions(
        image: np.ndarray, values: Sequence[np.ndarray], gradient: np.ndarray
    ) -> tuple[np.ndarray, str]:
        parts = ((image - blank(image)) * gradient).sum(axis=-1)
        difference = float(values[0]) - float(values[-1])
        error = abs(parts.sum(dtype=np.float64) - difference) / max(abs(difference), _EPSILON)
        return parts, f"completeness error {100 * min(error, 9.99):.1f} %"

    return _by_gradients(opened, way, weights, contributions, batch_size)


def occlusion(opened: FlatModel, *, batch_size: int = 32, seed: int = 0) -> Explain:  # noqa: ARG001
    """How much the score falls when a square patch is painted over with the mean colour.

    Patches are 1/14 of each side and lie side by side, so maps are (14, 14), or as many cells as a
    smaller image has pixels. Zeiler and Fergus (2014), Visualizing and Understanding Convolutional
    Networks, section 4.2.
    """
    forward = opened.inference(opened.network)

    def explain(images: np.ndarray, classes: Classes) -> Explanation:
        rows, columns = _cells(images.shape[1]), _cells(images.shape[2])
        occluded = (x for image in images for x in _occluded(image, rows, columns))
        num_variants = len(images) * (1 + len(rows) * len(columns))
        scores = by_batches(
            forward,
            ((x,) for x in itertools.chain(images, occluded)),
            min(batch_size, num_variants),
        )
        whole = np.stack(list(itertools.islice(scores, len(images))))
        requested = resolve_classes(classes, whole)
        maps = np.empty((*requested.shape, len(rows), len(columns)), np.float32)
        for i, wanted in enumerate(requested):
            for y, x in np.ndindex(maps.shape[2:]):
                maps[i, :, y, x] = (whole[i] - next(scores))[wanted]
        return explanation(maps, requested, whole)

    return explain


def rise(opened: FlatModel, *, batch_size: int = 32, seed: int = 0) -> Explain:
    """How far the score lies above its average when a pixel is kept, over 4000 random masks.

    What a mask hides has the mean colour. The average is taken off, so that a map is signed, and
    zero where a pixel does not matter. At the size of the input. Petsiuk et al. (2018), RISE,
    equation 6 less the expected score, with the share of masks that did keep a pixel for p.
    """
    forward = opened.inference(opened.network)

    def explain(images: np.ndarray, classes: Classes) -> Explanation:
        whole = np.stack(list(by_batches(forward, ((image,) for image in images), batch_size)))
        requested = resolve_classes(classes, whole)
        size = images.shape[1:3]
        generator = np.random.default_rng(seed)
        total = np.zeros((*requested.shape, *size))
        coverage = np.zeros(size)
        mean = np.zeros(requested.shape)
        for start in range(0, NUM_MASKS, batch_size):
            masks = _masks(generator, min(batch_size, NUM_MASKS - start), size)
            coverage += masks.sum(axis=0)
            for i, (image, wanted) in enumerate(zip(images, requested, strict=True)):
                variants = ((blend(image, mask),) for mask in masks)
                scores = np.stack(list(by_batches(forward, variants, batch_size)))[:, wanted]
                total[i] += np.tensordot(scores.T.astype(np.float64), masks, axes=1)
                mean[i] += scores.sum(axis=0) / NUM_MASKS
        maps = total / np.maximum(coverage, _EPSILON) - mean[:, :, None, None]
        return explanation(maps, requested, whole)

    return explain


def blank(image: np.ndarray) -> np.ndarray:
    """The image without content: its mean colour everywhere; same shape (h, w, channels)."""
    return np.broadcast_to(
        image.mean(axis=(0, 1), dtype=np.float64).astype(image.dtype), image.shape
    )


def blend(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image where `mask` (h, w) is 1, blank where it is 0, and mixed between."""
    start = blank(image)
    return start + mask[..., None] * (image - start)


def by_batches(
    function: Callable[..., Any], rows: Iterable[tuple[Any, ...]], batch_size: int
) -> Iterator[Any]:
    """Apply a compiled function to any number of rows, always `batch_size` at once.

    Args:
        function: from arrays of that many rows to an array, or a tuple of arrays, of as many.
        rows: the arguments of each row; taken as they are needed.

    Yields:
        The row of the result, or the tuple of rows, for each row.
    """
    rows = iter(rows)
    while batch := list(itertools.islice(rows, batch_size)):
        padded = batch + batch[-1:] * (batch_size - len(batch))
        results = function(*map(np.stack, zip(*padded, strict=True)))
        each = zip(*results, strict=True) if isinstance(results, tuple) else results
        yield from itertools.islice(each, len(batch))


def _by_gradients(
    opened: FlatModel,
    points: Callable[[np.ndarray], Iterable[np.ndarray]],
    weights: Sequence[float] | np.ndarray,
    finish: Callable[[np.ndarray, Sequence[np.ndarray], np.ndarray], tuple[np.ndarray, str]],
    batch_size: int,
) -> Explain:
    """A method that weights the gradients of the score at some points for each image.

    Args:
        points: image -> the points (h, w, channels).
        weights: of the gradient at each point.
        finish: image, scores (points,) and weighted sum of the gradients -> map (h, w) and remark.
    """
    network = opened.network

    def score(images: keras.KerasTensor, classes: keras.KerasTensor) -> keras.KerasTensor:
        scores = network(images, training=False)
        return keras.ops.take_along_axis(scores, classes[:, None], axis=1)[:, 0]

    forward, gradient = opened.inference(network), opened.value_and_gradient(score, network)

    def explain(images: np.ndarray, classes: Classes) -> Explanation:
        whole = np.stack(
            list(by_batches(forward, ((x,) for x in images), min(batch_size, len(images))))
        )
        requested = resolve_classes(classes, whole)
        pairs = (
            (image, c) for image, wanted in zip(images, requested, strict=True) for c in wanted
        )
        rows = ((point, np.int32(c)) for image, c in pairs for point in points(image))
        results = by_batches(gradient, rows, min(batch_size, requested.size * len(weights)))
        maps = np.empty((*requested.shape, *images.shape[1:3]), np.float32)
        remarks = [[""] * len(wanted) for wanted in requested]
        for i, j in np.ndindex(requested.shape):
            values, total = [], np.zeros(images.shape[1:], np.float32)
            for weight, (value, slope) in zip(weights, results, strict=False):
                values.append(value)
                total += np.float32(weight) * slope
            maps[i, j], remarks[i][j] = finish(images[i], values, total)
        return explanation(maps, requested, whole, remarks)

    return explain


def _steepness(
    _image: np.ndarray, _values: Sequence[np.ndarray], gradient: np.ndarray
) -> tuple[np.ndarray, str]:
    return np.abs(gradient).max(axis=-1), ""


def _cells(length: int) -> list[slice]:
    """`GRID` neighbouring pieces of a side, as equal as whole pixels allow."""
    edges = np.rint(np.linspace(0, length, min(GRID, length) + 1)).astype(int)
    return [slice(start, end) for start, end in itertools.pairwise(edges)]


def _occluded(
    image: np.ndarray, rows: Sequence[slice], columns: Sequence[slice]
) -> Iterator[np.ndarray]:
    paint = blank(image)
    for cell in itertools.product(rows, columns):
        variant = image.copy()
        variant[cell] = paint[cell]
        yield variant


def _masks(generator: np.random.Generator, num: int, size: tuple[int, int]) -> np.ndarray:
    """(num, height, width) float32 in 0..1: coarse random cells, enlarged and shifted."""
    height, width = (-(-side // MASK_CELLS) for side in size)
    enlarged = (MASK_CELLS + 1) * width, (MASK_CELLS + 1) * height
    masks = np.empty((num, *size), np.float32)
    for mask in masks:
        cells = (generator.random((MASK_CELLS, MASK_CELLS)) < MASK_KEEPS).astype(np.float32)
        large = cv2.resize(cells, enlarged, interpolation=cv2.INTER_LINEAR)
        y, x = generator.integers(height), generator.integers(width)
        mask[:] = large[y : y + size[0], x : x + size[1]]
    return masks

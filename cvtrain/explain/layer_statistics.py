"""Sparsity of the activations and similarity of images within and across classes, by depth.

Going up, activations become sparser and carry less of what the image looks like and more of what it
shows (F. Chollet, *Deep Learning with Python*, second edition, 9.4.1). Here both are measured.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.errors import DataError
from cvtrain.explain.activations import follow_to_activation
from cvtrain.explain.explanation import padded_batches
from cvtrain.explain.flat_model import FlatModel, operation_of
from cvtrain.models.blocks import narrow_layers


@dataclass(frozen=True)
class DepthStory:
    """Sparsity and similarity in several layers for each of n images. All values are finite.

    Attributes:
        layers: names, in the order of computation.
        sparsity: (layers, n) in 0..1, the share of an image's activations that are zero.
        within: (layers, n) in -1..1, the mean similarity of an image to the others of its class.
        across: (layers, n) in -1..1, its mean similarity to the images of the other classes.
    """

    layers: list[str]
    sparsity: np.ndarray
    within: np.ndarray
    across: np.ndarray


def depth_story(
    opened: FlatModel,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int = 32,
    on_batch: Callable[[float], object] = lambda _share: None,
) -> DepthStory:
    """Run images through the network and compare their activations in each layer.

    Compared are the averages of each channel over the map. Memory holds one batch of activations.

    Args:
        opened: the model.
        images: (n, height, width, channels) as the model takes them.
        labels: (n,) the class of each; at least two classes, each of at least two images.
        batch_size: images at once.
        on_batch: called after each batch with the share that is done; may raise to stop.

    Raises:
        DataError: there are not enough images to compare.
        ResourceError: the memory does not suffice.
    """
    labels = np.asarray(labels)
    _check_comparable(labels)
    names = depth_layers(opened)
    infer = opened.inference(keras.Model(opened.network.input, _summaries(opened, names)))
    summaries = []
    with backend.memory_errors():
        for rows, (batch,) in padded_batches(images, batch_size=batch_size):
            outputs = infer(np.asarray(batch, np.float32))
            summaries.append([output[: rows.stop - rows.start] for output in outputs])
            on_batch(rows.stop / len(images))
    *features, zeros = map(np.concatenate, zip(*summaries, strict=True))
    similarity = [class_similarity(each, labels) for each in features]
    within, across = map(np.stack, zip(*similarity, strict=True))
    return DepthStory(names, zeros.T, within, across)


def class_similarity(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How alike images are within and across classes, by the centred cosine.

    The similarity of two images is the cosine of the angle between their features after the mean
    over the classes is subtracted. Without that all cosines are near 1: what follows a relu is
    positive, and its mean is the larger part of it. So 0 is unrelated, as far as the other
    images go, and -1 opposite; an image that does not differ from the mean is unrelated to all.

    Args:
        features: (n, d); values that are not finite count as zero.
        labels: (n,) the class of each, at least two classes.

    Returns:
        For each image the mean similarity to the others of its class (0 if it is alone) and to
        those of other classes: two arrays (n,) float32 in -1..1.
    """
    features = np.nan_to_num(np.asarray(features, np.float64), nan=0, posinf=0, neginf=0)
    # The mean of the means, so that a class does not count for more because it has more images.
    centre = np.mean([features[labels == each].mean(axis=0) for each in np.unique(labels)], axis=0)
    centred = features - centre
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    # What is left of equal features after the subtraction is rounding.
    noise = 1e-6 * np.linalg.norm(features, axis=1, keepdims=True)
    directions = np.where(lengths > noise, centred / np.maximum(lengths, 1e-300), 0)
    cosines = directions @ directions.T
    same = labels[:, None] == labels
    others = ~same
    np.fill_diagonal(same, False)

    def mean(pairs: np.ndarray) -> np.ndarray:
        sums = np.where(pairs, cosines, 0).sum(axis=1)
        return (sums / np.maximum(pairs.sum(axis=1), 1)).clip(-1, 1).astype(np.float32)

    return mean(same), mean(others)


def depth_layers(opened: FlatModel) -> list[str]:
    """The layers that hold all that the network knows at their depth, in the order of computation.

    All paths lead through such a layer, so a branch is none. Of a convolution, its normalisation
    and its activation the last one counts; what only reshapes or prepares does not.
    """
    names = [
        name
        for name in narrow_layers(opened.network)
        if name in opened.layers
        and name != "preprocess"
        and not isinstance(operation_of(opened.layers[name]), _passing_on())
    ]
    return follow_to_activation(opened, names)


def _summaries(opened: FlatModel, names: list[str]) -> list[keras.KerasTensor]:
    """For each layer the means (n, channels) over its map; then the shares of zeros (n, layers)."""
    ops = keras.ops
    features, zeros = [], []
    for name in names:
        tensor = ops.cast(opened.layers[name], "float32")
        space = tuple(range(1, len(tensor.shape) - 1))
        features.append(ops.mean(tensor, axis=space) if space else tensor)
        zeros.append(ops.mean(ops.cast(ops.equal(tensor, 0), "float32"), axis=(*space, -1)))
    return [*features, ops.stack(zeros, axis=1)]


def _check_comparable(labels: np.ndarray) -> None:
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2 or counts.min() < 2:
        raise DataError(
            f"depth: similarity within and across classes needs two classes of two images each, "
            f"received {len(labels)} images of {len(classes)} classes",
            "Give more images, such as the run's test set.",
        )


@functools.cache
def _passing_on() -> tuple[type[keras.Layer], ...]:
    layers = keras.layers
    return (
        layers.InputLayer,
        layers.Rescaling,
        layers.Normalization,
        layers.ZeroPadding2D,
        layers.Cropping2D,
        layers.Flatten,
        layers.Reshape,
        layers.Dropout,
        layers.SpatialDropout2D,
    )

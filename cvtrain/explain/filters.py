"""Images that activate each filter of a layer most, by gradient ascent on a whole layer at once.

All filters of a layer are optimized together, one in each row of a batch, through the part of the
model that ends in the layer: `steps` passes for as many filters as fit into memory, and one
compilation for all. The two styles are in `activation_maximization`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.errors import ConfigError
from cvtrain.explain.activation_maximization import STYLES, Ascent
from cvtrain.explain.flat_model import FlatModel, find_layer, node_of, operation_of
from cvtrain.models.transfer import in_precision

_STARTS = 4
_BORDER = 2  # as in the book: near the border a map shows the padding
_ACTIVATION_BYTES = 320 * 2**20  # of a batch: larger ones leave the caches and are no faster
_GREY = 128

Gradient = Callable[..., tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class FilterImages:
    """Images that activate the filters of a layer most.

    Attributes:
        layer: name of the layer.
        style: `book` or `distill`.
        filters: (k,) which channels of the layer.
        images: (k, h, w, c) uint8, as they are shown; those of dead filters are grey.
        values: (k,) float32, the mean activation at the last step.
        dead: (k,) bool: from no start that was tried does any pixel change the activation.
    """

    layer: str
    style: str
    filters: np.ndarray
    images: np.ndarray
    values: np.ndarray
    dead: np.ndarray


def filter_images(
    opened: FlatModel,
    layer: str,
    *,
    filters: Sequence[int] | None = None,
    style: str = "book",
    steps: int | None = None,
    pixel_range: tuple[float, float] = (0.0, 255.0),
    precision: str = "float32",
    seed: int = 0,
    on_step: Callable[[float], object] = lambda _share: None,
) -> FilterImages:
    """Ascend the mean activation of each filter of a layer, over its map without a border of 2.

    The image of a filter depends on the model, the layer, the filter, the style and the seed, not
    on which filters are asked for with it. A filter whose activation no pixel changes at its start
    tries other starts, of more contrast and ever coarser, and is labelled dead after the last.

    Args:
        opened: the model.
        layer: whose output is (n, height, width, channels), or (n, channels): each unit a filter.
        filters: channels of the layer; None for all.
        style: `book` or `distill`.
        steps: passes; None for the style's own number, 30 or 512.
        pixel_range: least and greatest value of a pixel as the model takes it.
        precision: `float32`, `bfloat16` or `float16`, of the passes through the model.
        seed: of the starts, and of the moves in `distill`.
        on_step: called after each pass with the share that is done; may raise to stop.

    Raises:
        ConfigError: there is no such layer, style or filter, or the layer has no filters.
        ResourceError: the memory does not suffice.
    """
    layer = find_layer(opened, layer)
    chosen = _chosen(opened, layer, filters)
    if style not in STYLES:
        raise ConfigError(f"style: there is no {style}", f"Use one of {', '.join(STYLES)}.")
    steps = steps or STYLES[style].steps
    shape = opened.network.input_shape[1:]
    size = max(map(len, _chunks(chosen, _rows_at_once(opened, layer))))
    body = _Body(opened, layer, size, precision)
    gradient = _in_range(
        opened.value_and_gradient(_excitation(body.model), body.model), pixel_range
    )

    def begin(filters: np.ndarray, attempts: np.ndarray) -> Ascent:
        pairs = zip(filters.tolist(), attempts.tolist(), strict=True)
        generators = [np.random.default_rng([seed, *pair]) for pair in pairs]
        return STYLES[style](shape, generators, attempts, seed=seed)

    pictures = begin(chosen[:1], np.zeros(1, int)).pictures()
    images = np.full((len(chosen), *pictures.shape[1:]), _GREY, np.uint8)
    values = np.zeros(len(chosen), np.float32)
    with backend.memory_errors():
        attempts = _live_starts(gradient, body, begin, chosen, size)
        chunks = _chunks(np.flatnonzero(attempts < _STARTS), size)
        for i, rows in enumerate(chunks):
            padded = np.resize(rows, size)  # so that all is compiled once
            ascent = begin(chosen[padded], attempts[padded])
            one_hot = body.want(chosen[padded])
            for step in range(steps):
                reached, gradients = gradient(ascent.view(step), one_hot)
                ascent.climb(gradients)
                on_step((i * steps + step + 1) / (steps * len(chunks)))
            images[rows] = ascent.pictures()[: len(rows)]
            values[rows] = reached[: len(rows)]
    return FilterImages(layer, style, chosen, images, values, attempts == _STARTS)


def _in_range(gradient: Gradient, pixel_range: tuple[float, float]) -> Gradient:
    """The same of images in 0..1; what is not finite becomes zero."""
    low, high = pixel_range

    def scaled(images: np.ndarray, one_hot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pixels = np.float32(low) + np.float32(high - low) * images
        values, gradients = gradient(pixels, one_hot)
        gradients *= np.float32(high - low)
        return _finite(values), _finite(gradients)

    return scaled


def _live_starts(
    gradient: Gradient,
    body: _Body,
    begin: Callable[[np.ndarray, np.ndarray], Ascent],
    chosen: np.ndarray,
    size: int,
) -> np.ndarray:
    """For each filter the first of its starts that has a gradient, (k,); `_STARTS` if none has.

    Found before the ascent, so that no filter climbs in a batch that others left.
    """
    attempts = np.zeros(len(chosen), int)
    for attempt in range(_STARTS):
        for rows in _chunks(np.flatnonzero(attempts == attempt), size):
            padded = np.resize(rows, size)
            ascent = begin(chosen[padded], attempts[padded])
            _, gradients = gradient(ascent.view(0), body.want(chosen[padded]))
            attempts[rows] += (gradients == 0).all(axis=(1, 2, 3))[: len(rows)]
    return attempts


class _Body:
    """The part of a model that ends in a layer, computing the channels that are wanted now.

    Each image wants one channel. So where the part ends in a convolution, and in what acts on each
    of its channels alone, copies of these layers with `size` channels stand in: a sixth of the work
    in the middle of VGG16. Any other layer computes all of its channels.
    """

    def __init__(self, opened: FlatModel, layer: str, size: int, precision: str):
        tensor = opened.layers[layer]
        self._last = _last_convolution(tensor)
        if self._last:
            (tensor,) = node_of(self._last[0]).input_tensors
            for i, operation in enumerate(map(operation_of, self._last)):
                config = operation.get_config() | {"name": f"wanted_{i}"}
                narrow = {"filters": size} if "filters" in config else {}
                tensor = type(operation).from_config(config | narrow)(tensor)
        model = keras.Model(opened.network.input, tensor, name="body")
        self.model = model if precision == "float32" else in_precision(model, precision)
        self._one_hot = np.eye(tensor.shape[-1], dtype=np.float32)

    def want(self, filters: np.ndarray) -> np.ndarray:
        """Compute these channels, one for each row: one-hot rows (n, channels) that select them."""
        if not self._last:
            return self._one_hot[filters]
        for i, layer in enumerate(map(operation_of, self._last)):
            # The last axis of all of their weights is the channels.
            weights = [weight[..., filters] for weight in layer.get_weights()]
            self.model.get_layer(f"wanted_{i}").set_weights(weights)
        return self._one_hot


def _last_convolution(tensor: keras.KerasTensor) -> list[keras.KerasTensor]:
    """The outputs from the last convolution to this one if what lies between acts on channels."""
    outputs = [tensor]
    while type(operation_of(outputs[0])) in _channelwise():
        outputs = [*node_of(outputs[0]).input_tensors, *outputs]
    layers = list(map(operation_of, outputs))
    mixing = [each for each in layers if getattr(each, "activation", None) in _across_channels()]
    narrows = type(layers[0]) is keras.layers.Conv2D and layers[0].groups == 1 and not mixing
    return outputs if narrows else []


def _excitation(body: keras.Model) -> Callable[..., Any]:
    """The mean of one channel of the body's output for each row, without the border of its map."""
    ops = keras.ops
    map_size = body.output_shape[1:-1]
    share = np.zeros((1, *map_size, 1), np.float32)
    # Less for tiny maps: half of each side at least remains.
    borders = [min(_BORDER, (side - 1) // 4) for side in map_size]
    inner = tuple(slice(b, side - b) for b, side in zip(borders, map_size, strict=True))
    share[:, *inner] = 1 / share[:, *inner].size

    def excitation(images: keras.KerasTensor, one_hot: keras.KerasTensor) -> keras.KerasTensor:
        activations = ops.cast(body(images, training=False), "float32")
        # A product instead of a slice, whose way back is slow.
        wanted = ops.reshape(one_hot, (-1, *(1 for _ in map_size), one_hot.shape[-1])) * share
        return ops.sum(activations * wanted, axis=tuple(range(1, len(share.shape))))

    return excitation


def _chosen(opened: FlatModel, layer: str, filters: Sequence[int] | None) -> np.ndarray:
    shape = opened.layers[layer].shape
    if len(shape) < 2 or shape[-1] is None:
        raise ConfigError(
            f"layer: {layer} has no filters, its output is {shape}",
            "Choose a layer with channels, such as a convolution.",
        )
    chosen = np.arange(shape[-1]) if filters is None else np.asarray(filters, int)
    if not len(chosen) or chosen.min() < 0 or chosen.max() >= shape[-1]:
        raise ConfigError(
            f"filters: {layer} has filters 0 to {shape[-1] - 1}, received {chosen.tolist()}",
            "Count from 0.",
        )
    return chosen


def _rows_at_once(opened: FlatModel, layer: str) -> int:
    """How many images' activations, of all layers up to this one, fit into memory."""
    num_values = 0
    for name, tensor in opened.layers.items():
        num_values += math.prod(tensor.shape[1:])
        if name == layer:
            break
    return max(1, _ACTIVATION_BYTES // (4 * num_values))


def _finite(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values, nan=0, posinf=0, neginf=0)


def _chunks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """The rows in as few parts of up to `size` as it takes, of nearly the same length."""
    return np.array_split(rows, -(-len(rows) // size)) if len(rows) else []


@functools.cache
def _channelwise() -> tuple[type[keras.Layer], ...]:
    layers = keras.layers
    return (
        layers.BatchNormalization,
        layers.Activation,
        layers.ReLU,
        layers.LeakyReLU,
        layers.ELU,
    )


@functools.cache
def _across_channels() -> tuple[Callable[..., Any], ...]:
    return (keras.activations.softmax, keras.activations.log_softmax)

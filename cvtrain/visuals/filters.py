"""Images that excite each filter of a layer most: gradient ascent, a whole layer at a time.

All filters of a layer climb side by side, one in each row of a batch, through the part of the model
that ends in the layer: `steps` passes for as many filters as fit into memory, and one compilation
for all. What climbs, and how, is in `ascent`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.errors import ConfigError
from cvtrain.models.transfer import in_precision
from cvtrain.visuals.ascent import STYLES, Ascent
from cvtrain.visuals.opened import OpenedModel, find_layer

_STARTS = 4
_BORDER = 2  # as in the book: near the border a map shows the padding
_ACTIVATION_BYTES = 2**30  # of a batch; the way back needs about as much again
_OPEN_SIZE = (200, 200)  # the book's, for models that take any size
_GREY = 128

Gradient = Callable[..., tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class FilterImages:
    """What excites the filters of a layer.

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
    opened: OpenedModel,
    layer: str,
    *,
    filters: Sequence[int] | None = None,
    style: str = "book",
    steps: int | None = None,
    pixel_range: tuple[float, float] = (0.0, 255.0),
    image_size: tuple[int, int] | None = None,
    precision: str = "float32",
    seed: int = 0,
    on_step: Callable[[float], object] = lambda _share: None,
) -> FilterImages:
    """Ascend the mean activation of each filter of a layer, over its map without a border of 2.

    The image of a filter depends on the model, the layer, the filter, the style and the seed, not
    on which filters are asked for with it. A filter whose activation no pixel changes at its start
    tries other starts, ever coarser and of more contrast, and is labelled dead after the last.

    Args:
        opened: the model.
        layer: whose output is (n, height, width, channels), or (n, channels): each unit a filter.
        filters: channels of the layer; None for all.
        style: `book` or `distill`.
        steps: passes; None for the style's own number, 30 or 512.
        pixel_range: least and greatest value of a pixel as the model takes it.
        image_size: height and width for a model that takes any; None for the model's own, or 200.
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
    shape = _image_shape(opened, image_size)
    body = truncated(opened, layer, precision)
    gradient = backend.value_and_gradient(_excitation(body, shape), body)
    one_hot = np.eye(opened.layers[layer].shape[-1], dtype=np.float32)
    chunks = _chunks(np.arange(len(chosen)), _rows_at_once(body, shape))
    size = max(map(len, chunks))
    num_passes = 0

    def passed() -> None:
        nonlocal num_passes
        num_passes += 1
        on_step(min(1.0, num_passes / (steps * len(chunks))))

    images = None
    values = np.zeros(len(chosen), np.float32)
    dead = np.ones(len(chosen), bool)
    with backend.memory_errors():
        for attempt in range(_STARTS):
            for rows in chunks if attempt == 0 else _chunks(np.flatnonzero(dead), size):
                # Padded to one size, so that all is compiled once.
                wanted = chosen[np.resize(rows, size)]
                generators = [np.random.default_rng([seed, each, attempt]) for each in wanted]
                ascent = STYLES[style](shape, generators, seed=seed, attempt=attempt)
                reached, alive = ascend(
                    gradient, ascent, one_hot[wanted], steps, pixel_range, passed
                )
                pictures = ascent.pictures()
                if images is None:
                    images = np.full((len(chosen), *pictures.shape[1:]), _GREY, np.uint8)
                alive = alive[: len(rows)]
                images[rows[alive]] = pictures[: len(rows)][alive]
                values[rows] = reached[: len(rows)]
                dead[rows] = ~alive
    return FilterImages(layer, style, chosen, images, values, dead)


def ascend(
    gradient: Gradient,
    ascent: Ascent,
    one_hot: np.ndarray,
    steps: int,
    pixel_range: tuple[float, float] = (0.0, 1.0),
    on_step: Callable[[], object] = lambda: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Let a batch of images climb, each the activation of its filter.

    Args:
        gradient: (images as the model takes them, one-hot filters) -> values (n,) and the gradient.
        ascent: the images, at their start.
        one_hot: (n, channels) float32, the filter of each image.
        steps: passes.
        pixel_range: least and greatest value of a pixel as the model takes it.
        on_step: called after each pass.

    Returns:
        The values (n,) float32 at the last step, and which images had a gradient at the first.
        None of them has one: they stay at their start.
    """
    low, high = pixel_range
    for step in range(steps):
        pixels = low + (high - low) * ascent.view(step)
        values, gradients = gradient(pixels.astype(np.float32), one_hot)
        gradients = (high - low) * np.nan_to_num(gradients, nan=0, posinf=0, neginf=0)
        if step == 0:
            alive = gradients.any(axis=(1, 2, 3))
        on_step()
        if not alive.any():
            break
        ascent.climb(gradients)
    return np.nan_to_num(values), alive


def truncated(opened: OpenedModel, layer: str, precision: str = "float32") -> keras.Model:
    """The part of the model that ends in a layer, computing in `precision`."""
    body = keras.Model(opened.network.input, opened.layers[layer], name="body")
    return body if precision == "float32" else in_precision(body, precision)


def _excitation(body: keras.Model, shape: tuple[int, int, int]) -> Callable:
    """The mean of one channel of the body's output for each row, without the border of its map."""
    ops = keras.ops
    map_size = body.compute_output_shape((1, *shape))[1:-1]
    # Less for tiny maps: half of each side at least remains.
    inner = tuple(
        slice(border, side - border)
        for side in map_size
        for border in [min(_BORDER, (side - 1) // 4)]
    )
    axes = tuple(range(1, 1 + len(map_size)))

    def excitation(images, one_hot):
        activations = ops.cast(body(images, training=False), "float32")
        if axes:
            activations = ops.mean(activations[:, *inner], axis=axes)
        return ops.sum(activations * one_hot, axis=-1)

    return excitation


def _chosen(opened: OpenedModel, layer: str, filters: Sequence[int] | None) -> np.ndarray:
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


def _image_shape(opened: OpenedModel, image_size: tuple[int, int] | None) -> tuple[int, int, int]:
    *own, channels = opened.network.input_shape[1:]
    sizes = zip(own, image_size or own, _OPEN_SIZE, strict=True)
    height, width = (fixed or wanted or default for fixed, wanted, default in sizes)
    return height, width, channels


def _rows_at_once(body: keras.Model, shape: tuple[int, int, int]) -> int:
    """How many images' activations, on all layers, fit into memory."""
    outputs = keras.tree.flatten([operation.output for operation in body.operations])
    shapes = keras.Model(body.input, outputs).compute_output_shape((1, *shape))
    return max(1, _ACTIVATION_BYTES // (4 * sum(map(math.prod, shapes))))


def _chunks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """The rows in as few parts of up to `size` as it takes, of nearly the same length."""
    return np.array_split(rows, -(-len(rows) // size)) if len(rows) else []

"""A raw map -> colours over the photograph: normalised, upsampled, coloured, blended.

The order matters: resizing colours, or blends of them, would make colours that the scale lacks.
"""

import functools
import math

import numpy as np

from cvtrain.explain.explanation import Box

EPSILON = 1e-12
"""A map with a smaller maximum counts as empty."""

COLOUR_MAP = "inferno"
"""Matplotlib's; perceptually uniform, and its dark end is where an overlay is transparent."""

_LEVELS = np.arange(256) / 255
# Weak regions stay visible: a steep start would cover them, a linear one the middle values.
_OPACITIES = np.rint(255 * 0.75 * _LEVELS**0.7).astype(np.uint16)[:, None]


def heatmap(raw: np.ndarray) -> np.ndarray:
    """Normalise a map to its positive part, relative to the maximum: relu(raw) / max.

    The only place where a map is normalised.

    Args:
        raw: (h, w) signed.

    Returns:
        (h, w) float32 in 0..1; zeros where nothing is above `EPSILON`.
    """
    positive = np.maximum(raw, 0).astype(np.float32)
    peak = float(positive.max(initial=0))
    return positive / peak if EPSILON < peak < math.inf else np.zeros_like(positive)


def seen_box(size: tuple[int, int], input_size: tuple[int, int], resize: str) -> Box:
    """Which box of a photograph a network sees, when `decode.Decoder` makes its pixels.

    Args:
        size: (height, width) of the photograph.
        input_size: (height, width) of the network's input.
        resize: "stretch", "crop" or "pad", as in the decoder.

    Returns:
        Top, left, height and width in pixels of the photograph. A cropped one is seen in part; with
        a padded one the box reaches beyond it.
    """
    scales = [seen / whole for seen, whole in zip(input_size, size, strict=True)]
    if resize == "crop":
        height, width = (seen / max(scales) for seen in input_size)
        return (size[0] - height) / 2, (size[1] - width) / 2, height, width
    if resize == "pad":
        # The decoder pads with whole pixels, so the photograph may lie half a pixel off the middle.
        inner = [max(1, round(whole * min(scales))) for whole in size]
        scales = [seen / whole for seen, whole in zip(inner, size, strict=True)]
        borders = [(outer - seen) // 2 for outer, seen in zip(input_size, inner, strict=True)]
        top, left = (-border / scale for border, scale in zip(borders, scales, strict=True))
        return top, left, input_size[0] / scales[0], input_size[1] / scales[1]
    return 0.0, 0.0, float(size[0]), float(size[1])


def upsample(
    maps: np.ndarray, size: tuple[int, int], box: Box | None = None, *, extend: bool = False
) -> np.ndarray:
    """Maps at the size of their image, bilinear between the centres of their cells.

    Args:
        maps: (..., h, w).
        size: (height, width) of the result.
        box: the part of the result that the maps cover, as `seen_box` and `field_box` give it; None
            for all.
        extend: whether the outermost cells go on beyond the box; else there are zeros.

    Returns:
        (..., *size) float32.
    """
    top, left, height, width = box or (0.0, 0.0, *size)
    columns = np.moveaxis(maps.astype(np.float32), -1, 0)
    wide = _resampled(columns, size[1], left, width, extend)
    rows = np.ascontiguousarray(np.moveaxis(wide, -1, 0))
    return np.moveaxis(_resampled(rows, size[0], top, height, extend), (0, 1), (-2, -1))


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Colour a map and blend it over its photograph; the stronger, the more opaque.

    Args:
        image: (h, w, 3) uint8.
        heat: (h, w) in 0..1.

    Returns:
        (h, w, 3) uint8.
    """
    levels = np.rint(heat * 255).astype(np.uint8)
    # In 16 bits and in place, because photographs may have fifty million pixels; 255 * 255 fits.
    blended = image * (255 - _OPACITIES)[levels]
    blended += (_colours() * _OPACITIES)[levels]
    blended += 127
    blended //= 255
    return blended.astype(np.uint8)


def colour_bar(width: int = 256, height: int = 12) -> np.ndarray:
    """The scale from 0 to 1 as it looks on mid-grey: (height, width, 3) uint8."""
    grey = np.full((height, width, 3), 128, np.uint8)
    return overlay(grey, np.broadcast_to(np.linspace(0, 1, width), (height, width)))


def _resampled(
    rows: np.ndarray, length: int, start: float, extent: float, extend: bool
) -> np.ndarray:
    """`rows`, which cover start..start + extent, at the centres of `length` pixels."""
    centres = np.arange(length) + 0.5
    last = len(rows) - 1
    places = np.clip((centres - start) / extent * len(rows) - 0.5, 0, last)
    below = places.astype(int)
    share = (places - below).astype(np.float32).reshape(-1, *[1] * (rows.ndim - 1))
    # This form keeps a constant map exactly constant.
    between = rows[below] + (rows[np.minimum(below + 1, last)] - rows[below]) * share
    if not extend:
        between[(centres < start) | (centres > start + extent)] = 0
    return between


@functools.cache
def _colours() -> np.ndarray:
    """The colours of the 256 levels, (256, 3) uint16 in 0..255."""
    from matplotlib import colormaps  # heavy, and most commands draw no map

    return np.rint(colormaps[COLOUR_MAP](_LEVELS)[:, :3] * 255).astype(np.uint16)

"""RandAugment: a few of fourteen operations, drawn at random, all of one magnitude.

Cubuk et al. (2019), RandAugment: Practical automated data augmentation with a reduced search space,
arXiv:1909.13719. Operations and ranges are those of torchvision, with 31 magnitudes; colours are
computed as in Pillow. Geometric operations are matrices about the centre of the image, so that the
caller can resample once for all of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from cvtrain.sections import RandAugment

MAX_MAGNITUDE = 30.0


@dataclass(frozen=True)
class Operation:
    """One operation with its strength.

    Attributes:
        name: One of `OPERATIONS`.
        strength: Degrees counter-clockwise (rotate), tangent (shear_x to the right by y, shear_y
            down by x), fraction of width or height (translate_x, translate_y), factor (brightness,
            colour, contrast, sharpness; 1 is unchanged), number of bits kept (posterize), or
            smallest value that is inverted (solarize); 0 for the others.
    """

    name: str
    strength: float = 0.0


# Share of the largest magnitude in 0..1 and side -1 or 1 -> strength.
_STRENGTHS: dict[str, Callable[[float, float], float]] = {
    "identity": lambda share, side: 0.0,  # noqa: ARG005
    "autocontrast": lambda share, side: 0.0,  # noqa: ARG005
    "equalize": lambda share, side: 0.0,  # noqa: ARG005
    "rotate": lambda share, side: 30.0 * side * share,
    "shear_x": lambda share, side: 0.3 * side * share,
    "shear_y": lambda share, side: 0.3 * side * share,
    "translate_x": lambda share, side: 150 / 331 * side * share,
    "translate_y": lambda share, side: 150 / 331 * side * share,
    "brightness": lambda share, side: 1.0 + 0.9 * side * share,
    "colour": lambda share, side: 1.0 + 0.9 * side * share,
    "contrast": lambda share, side: 1.0 + 0.9 * side * share,
    "sharpness": lambda share, side: 1.0 + 0.9 * side * share,
    "posterize": lambda share, side: 8.0 - round(4 * share),  # noqa: ARG005
    "solarize": lambda share, side: 255.0 * (1 - share),  # noqa: ARG005
}

OPERATIONS = tuple(_STRENGTHS)
"""The names of all operations, equally likely."""


def draw_operations(settings: RandAugment, generator: np.random.Generator) -> tuple[Operation, ...]:
    """Draw the operations of one image with 2 `num_ops` numbers of the generator."""
    numbers = iter(generator.random(2 * settings.num_ops).tolist())
    share = settings.magnitude / MAX_MAGNITUDE
    operations = []
    for number, sign in zip(numbers, numbers, strict=True):
        name = OPERATIONS[int(number * len(OPERATIONS))]
        operations.append(Operation(name, _STRENGTHS[name](share, -1.0 if sign < 0.5 else 1.0)))
    return tuple(operations)


def recolour(pixels: np.ndarray, operation: Operation) -> np.ndarray:
    """Apply an operation on colours; a geometric one has no effect.

    Args:
        pixels: uint8 (height, width, 3), RGB; not modified.
        operation: The operation.

    Returns:
        uint8 (height, width, 3).
    """
    if operation.name not in _COLOURS:
        return pixels
    return _COLOURS[operation.name](pixels, operation.strength)


def backward_matrix(operation: Operation, height: int, width: int) -> np.ndarray | None:
    """Matrix from a pixel of the result to its position in the image.

    Returns:
        float64 (3, 3): (x, y, 1) of the image = matrix @ (x, y, 1) of the result; None for an
        operation on colours. Pixel (x, y) has its centre at (x, y).
    """
    strength = operation.strength
    xx, xy, yx, yy, x, y = 1.0, 0.0, 0.0, 1.0, 0.0, 0.0
    match operation.name:
        case "rotate":
            angle = math.radians(strength)
            xx = yy = math.cos(angle)
            yx = math.sin(angle)
            xy = -yx
        case "shear_x":
            xy = -strength
        case "shear_y":
            yx = -strength
        case "translate_x":
            x = -strength * width
        case "translate_y":
            y = -strength * height
        case _:
            return None
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    return np.array(
        [
            [xx, xy, x + centre_x - xx * centre_x - xy * centre_y],
            [yx, yy, y + centre_y - yx * centre_x - yy * centre_y],
            [0.0, 0.0, 1.0],
        ]
    )


_VALUES = np.arange(256)


def _autocontrast(pixels: np.ndarray, _: float) -> np.ndarray:
    """Stretch each channel to 0..255, as `PIL.ImageOps.autocontrast`."""
    table = np.empty((256, 3), np.uint8)
    for channel, plane in enumerate(cv2.split(pixels)):
        low, high, _, _ = cv2.minMaxLoc(plane)
        scale = 255.0 / (high - low) if high > low else 1.0
        offset = -low * scale if high > low else 0.0
        table[:, channel] = np.clip(_VALUES * scale + offset, 0, 255)
    return cv2.LUT(pixels, table.reshape(1, 256, 3))


def _equalize(pixels: np.ndarray, _: float) -> np.ndarray:
    """Make the histogram of each channel flat, as `PIL.ImageOps.equalize`."""
    table = np.empty((256, 3), np.uint8)
    for channel in range(3):
        counts = cv2.calcHist([pixels], [channel], None, [256], [0, 256]).ravel().astype(np.int64)
        present = counts[counts > 0]
        step = int(present[:-1].sum()) // 255
        below = np.cumsum(counts) - counts
        table[:, channel] = np.minimum((step // 2 + below) // step, 255) if step else _VALUES
    return cv2.LUT(pixels, table.reshape(1, 256, 3))


def _brightness(pixels: np.ndarray, factor: float) -> np.ndarray:
    return _look_up(pixels, factor * _VALUES)


def _contrast(pixels: np.ndarray, factor: float) -> np.ndarray:
    mean = round(cv2.mean(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))[0])
    return _look_up(pixels, mean + factor * (_VALUES - mean))


def _colour(pixels: np.ndarray, factor: float) -> np.ndarray:
    grey = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(pixels, factor, grey, 1.0 - factor, 0.0)


def _sharpness(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Extrapolate from the image smoothed by `PIL.ImageFilter.SMOOTH`; the border is unchanged."""
    # The filter has 5/13 in the middle and 1/13 around it: 9/13 of a mean of nine, 4/13 of itself.
    share = (1.0 - factor) * 9 / 13
    result = cv2.addWeighted(pixels, 1.0 - share, cv2.blur(pixels, (3, 3)), share, 0.0)
    for rim in np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]:
        result[rim] = pixels[rim]
    return result


def _posterize(pixels: np.ndarray, bits: float) -> np.ndarray:
    return _look_up(pixels, _VALUES & (256 - (1 << (8 - int(bits)))))


def _solarize(pixels: np.ndarray, threshold: float) -> np.ndarray:
    return _look_up(pixels, np.where(threshold > _VALUES, _VALUES, 255 - _VALUES))


def _look_up(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Replace each value of each channel by that of a table (256,), rounded and clipped."""
    return cv2.LUT(pixels, np.clip(np.rint(values), 0, 255).astype(np.uint8))


_COLOURS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "brightness": _brightness,
    "colour": _colour,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
}

"""Random erasing: replace a rectangle of the image by noise.

Zhong et al. (2017), Random Erasing Data Augmentation, arXiv:1708.04896. Here the aspect ratio of
the rectangle is relative to that of the image, and limited so that the rectangle always fits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_AREA = (0.02, 0.33)  # share of the image
_ASPECT = (0.3, 3.3)  # height by width, both as shares of the image's

NUM_NUMBERS = 6
"""Number of random numbers that `draw_erased` uses."""


@dataclass(frozen=True)
class Erased:
    """A rectangle that is filled with noise.

    Attributes:
        top, left, height, width: Fractions of the image's height and width.
        seed: Random seed of the noise.
    """

    top: float
    left: float
    height: float
    width: float
    seed: int


def draw_erased(probability: float, numbers: Sequence[float]) -> Erased | None:
    """Draw a rectangle with some probability.

    Its area is uniform in 0.02..0.33 of the image, its aspect ratio log-uniform in 0.3..3.3, and
    its position uniform.

    Args:
        probability: Probability of a rectangle, in 0..1.
        numbers: `NUM_NUMBERS` independent random numbers, uniform in [0, 1).
    """
    happens, place, shape, down, right, noise = numbers
    if happens >= probability:
        return None
    area = _AREA[0] + (_AREA[1] - _AREA[0]) * place
    low, high = math.log(max(_ASPECT[0], area)), math.log(min(_ASPECT[1], 1 / area))
    aspect = math.exp(low + (high - low) * shape)
    height, width = math.sqrt(area * aspect), math.sqrt(area / aspect)
    return Erased((1 - height) * down, (1 - width) * right, height, width, int(noise * 2**53))


def erase(pixels: np.ndarray, erased: Erased) -> None:
    """Fill the rectangle with noise, uniform and independent in every pixel and channel.

    Args:
        pixels: uint8 (height, width, 3), modified in place.
        erased: The rectangle.
    """
    height, width = pixels.shape[:2]
    rows = slice(round(erased.top * height), round((erased.top + erased.height) * height))
    columns = slice(round(erased.left * width), round((erased.left + erased.width) * width))
    part = pixels[rows, columns]
    noise = np.random.Generator(np.random.Philox(erased.seed)).bytes(part.size)
    part[...] = np.frombuffer(noise, np.uint8).reshape(part.shape)

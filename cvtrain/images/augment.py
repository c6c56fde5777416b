"""Augmentation: (seed, epoch, sample) -> one change of geometry and one change of colour.

All random numbers are drawn in `draw`, a pure function of counters, so an augmented image depends
neither on threads nor on the rest of its batch, nor on a resume. All geometry is one affine map,
and so one resampling; all colour is one 3x4 matrix, except for the operations of RandAugment.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cvtrain.images.rand_augment import Operation, backward_matrix, draw_operations, recolour
from cvtrain.sections import Augment

AUGMENT_VERSION = 1
"""Increase it with every change to the result of `augment`: cached results depend on it."""

_FLIPS = {  # flip -> (may mirror left and right, may mirror top and bottom)
    "none": (False, False),
    "horizontal": (True, False),
    "vertical": (False, True),
    "both": (True, True),
}
_BORDERS = {
    "nearest": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT,
    "wrap": cv2.BORDER_WRAP,
    "constant": cv2.BORDER_CONSTANT,
}
_ERASED_AREA = (0.02, 0.33)  # fraction of the image
_ERASED_ASPECT = (0.3, 3.3)  # height by width, both as fractions of the image's
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, the weights of Pillow's mode L


@dataclass(frozen=True)
class Erased:
    """A rectangle that is replaced by noise (Zhong et al. 2017, Random Erasing, arXiv:1708.04896).

    Attributes:
        top, left, height, width: Fractions of the image's height and width.
        seed: Random seed of the noise.
    """

    top: float
    left: float
    height: float
    width: float
    seed: int


@dataclass(frozen=True)
class Change:
    """One change drawn from an `Augment`; the default changes nothing.

    Attributes:
        mirror_x, mirror_y: Whether left and right, or top and bottom, are swapped.
        rotate: Angle in degrees, counter-clockwise.
        shift_x, shift_y: Fractions of width (to the right) and height (down).
        shear: Pixels to the right per pixel down.
        zoom: Magnification of both axes.
        brightness: Fraction of 255 to add.
        contrast, saturation: Factors; 1 is unchanged.
        operations: Operations of RandAugment, in the order in which they follow the above.
        erased: The rectangle that is replaced by noise at the end, or None.
    """

    mirror_x: bool = False
    mirror_y: bool = False
    rotate: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    shear: float = 0.0
    zoom: float = 1.0
    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    operations: tuple[Operation, ...] = ()
    erased: Erased | None = None


def augment(
    pixels: np.ndarray,
    augmentation: Augment,
    *,
    seed: int,
    epoch: int,
    sample: int,
) -> np.ndarray:
    """Change an image at random; a pure function of its arguments.

    Args:
        pixels: uint8 (height, width, 3), RGB; not modified.
        augmentation: The ranges to draw from; its `mixup` and `cutmix` are ignored.
        seed, epoch, sample: Seeds of the random numbers, all in 0..2**64 - 1.

    Returns:
        uint8 (height, width, 3).
    """
    change = draw(augmentation, seed=seed, epoch=epoch, sample=sample)
    return apply(pixels, change, augmentation.fill)


def draw(augmentation: Augment, *, seed: int, epoch: int, sample: int) -> Change:
    """Draw the change of one sample in one epoch.

    Every parameter has its own random number, so the angle of a sample does not depend on whether
    it is also zoomed.
    """
    # Philox is a function of key and counter (Salmon et al., Parallel random numbers: as easy as
    # 1, 2, 3, SC 2011). The counter's last word separates this stream from that of the order of
    # samples.
    key = np.array([seed, epoch], np.uint64)
    counter = np.array([0, 0, sample, 1], np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
    may_mirror_x, may_mirror_y = _FLIPS[augmentation.flip]
    side_x, side_y, *signed = (2.0 * generator.random(10) - 1.0).tolist()
    rotate, shift_x, shift_y, shear, zoom, brightness, contrast, saturation = signed
    erased = _draw_erased(augmentation.erase, generator.random(6).tolist())
    rand_augment = augmentation.rand_augment
    return Change(
        mirror_x=may_mirror_x and side_x < 0,
        mirror_y=may_mirror_y and side_y < 0,
        rotate=augmentation.rotate * rotate,
        shift_x=augmentation.shift * shift_x,
        shift_y=augmentation.shift * shift_y,
        shear=augmentation.shear * shear,
        zoom=1.0 + augmentation.zoom * zoom,
        brightness=augmentation.brightness * brightness,
        contrast=1.0 + augmentation.contrast * contrast,
        saturation=1.0 + augmentation.saturation * saturation,
        operations=draw_operations(rand_augment, generator) if rand_augment else (),
        erased=erased,
    )


def apply(pixels: np.ndarray, change: Change, fill: str) -> np.ndarray:
    """Apply one change: colours, then geometry (so that a constant fill stays black), then erasing.

    Pixels and result are as in `augment`. A change that only mirrors does not interpolate.
    """
    height, width = pixels.shape[:2]
    if (change.brightness, change.contrast, change.saturation) != (0.0, 1.0, 1.0):
        mean_grey = float(_LUMA @ cv2.mean(pixels)[:3])
        pixels = cv2.transform(pixels, colour_matrix(change, mean_grey))
    for operation in change.operations:
        pixels = recolour(pixels, operation)
    result = cv2.warpAffine(
        pixels,
        affine_matrix(change, height, width),
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=_BORDERS[fill],
    )
    if change.erased is not None:
        erase(result, change.erased)
    return result


def affine_matrix(change: Change, height: int, width: int) -> np.ndarray:
    """Matrix from a pixel of the result to its position in the image.

    The image is mirrored, zoomed, sheared and rotated about its centre, then shifted, then changed
    by the operations of RandAugment. Pixel (x, y) has its centre at (x, y), so the image's centre
    is ((width - 1) / 2, (height - 1) / 2).

    Returns:
        float64 (2, 3): (x, y) of the image = matrix @ (x, y, 1) of the result.
    """
    # Backwards, so the inverses in reverse order: mirror @ unzoom @ unshear @ unrotate. Multiplied
    # out, because NumPy's products of 2x2 matrices would cost a tenth of the whole augmentation.
    angle = math.radians(change.rotate)
    cos, sin = math.cos(angle) / change.zoom, math.sin(angle) / change.zoom
    side_x, side_y = -1.0 if change.mirror_x else 1.0, -1.0 if change.mirror_y else 1.0
    xx, xy = side_x * (cos - change.shear * sin), side_x * (-sin - change.shear * cos)
    yx, yy = side_y * sin, side_y * cos

    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    moved_x, moved_y = centre_x + change.shift_x * width, centre_y + change.shift_y * height
    matrix = np.array(
        [
            [xx, xy, centre_x - xx * moved_x - xy * moved_y],
            [yx, yy, centre_y - yx * moved_x - yy * moved_y],
        ]
    )
    for operation in change.operations:
        backward = backward_matrix(operation, height, width)
        if backward is not None:
            matrix = matrix @ backward
    return matrix


def colour_matrix(change: Change, mean_grey: float) -> np.ndarray:
    """Matrix that changes colours.

    Brightness, contrast about `mean_grey` and saturation commute, so their order does not matter.

    Returns:
        float64 (3, 4): RGB of the result = matrix @ (R, G, B, 1), before clipping to 0..255.
    """
    saturate = change.saturation * np.eye(3) + (1.0 - change.saturation) * _LUMA
    offset = 255.0 * change.brightness + (1.0 - change.contrast) * mean_grey
    return np.column_stack([change.contrast * saturate, np.full(3, offset)])


def _draw_erased(probability: float, numbers: Sequence[float]) -> Erased | None:
    """Draw a rectangle with some probability from 6 random numbers, uniform in [0, 1)."""
    happens, size, shape, down, right, noise = numbers
    if happens >= probability:
        return None
    # The area is uniform and the aspect ratio log-uniform, limited so that the rectangle fits.
    area = _ERASED_AREA[0] + (_ERASED_AREA[1] - _ERASED_AREA[0]) * size
    low, high = math.log(max(_ERASED_ASPECT[0], area)), math.log(min(_ERASED_ASPECT[1], 1 / area))
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

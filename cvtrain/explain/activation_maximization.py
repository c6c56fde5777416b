"""The two styles of gradient ascent on the activation of a filter: parameters, steps, pictures.

Two styles, both in NumPy, so that every engine only computes the gradient of an activation with
respect to pixels. Images are in units of the model's range of pixels: 0 its least, 1 its greatest.

`Book` moves the pixels themselves (F. Chollet, *Deep Learning with Python*, second edition, 9.4.2).
`Distill` moves a spectrum of decorrelated colours and shows the model a slightly moved image at
every step (C. Olah, A. Mordvintsev, L. Schubert, *Feature Visualization*, distill.pub, 2017, and
its program Lucid): patterns that do not survive being moved are noise.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import scipy.fft
import scipy.sparse
import scipy.special


class Ascent(Protocol):
    """A batch of n images on their way up; each depends on its own generator alone.

    Args:
        shape: (height, width, channels) of an image.
        generators: of the start of each image.
        attempts: how many starts of each image were tried before: later ones have more contrast.
        seed: of what all images have in common.
    """

    steps: int

    def __init__(
        self,
        shape: tuple[int, int, int],
        generators: Sequence[np.random.Generator],
        attempts: Sequence[int] | np.ndarray,
        *,
        seed: int,
    ): ...

    def view(self, step: int) -> np.ndarray:
        """What the model sees at this step: (n, height, width, channels) float32."""

    def climb(self, gradients: np.ndarray) -> None:
        """Go one step up, by the gradient of each value with respect to the last view."""

    def pictures(self) -> np.ndarray:
        """The images as they are shown: uint8, (n, height, width, channels), maybe cropped."""


class Book:
    """Noise around the middle, moved 30 times by 10 along the gradient of unit length.

    That is by 0.03 for each value of the book's images of 200 x 200 x 3. Images of other sizes move
    by as much: by 10 in all, the pixels of a digit would jump from black to white and beyond.
    """

    steps = 30
    _RATE = 10 / (200 * 200 * 3) ** 0.5
    _CROP = 1 / 8  # 25 of the book's 200 pixels: near the border the patterns fade

    def __init__(
        self,
        shape: tuple[int, int, int],
        generators: Sequence[np.random.Generator],
        attempts: Sequence[int] | np.ndarray,
        *,
        seed: int,  # noqa: ARG002
    ):
        pairs = zip(generators, attempts, strict=True)
        starts = [self._start(shape, generator, attempt) for generator, attempt in pairs]
        self._images = np.stack(starts).astype(np.float32)

    @staticmethod
    def _start(
        shape: tuple[int, int, int], generator: np.random.Generator, attempt: int
    ) -> np.ndarray:
        if attempt == 0:
            return generator.uniform(0.4, 0.6, shape)
        # Of black, white and six pure colours; coarser each time, as a convolution averages.
        height, width, channels = shape
        side = 4 ** (attempt - 1)
        squares = generator.integers(0, 2, (-(-height // side), -(-width // side), channels))
        return squares.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]

    def view(self, step: int) -> np.ndarray:  # noqa: ARG002
        """The images themselves."""
        return self._images

    def climb(self, gradients: np.ndarray) -> None:
        """Move each image along its gradient; one without a gradient stays where it is."""
        squares = np.square(gradients, dtype=np.float64).mean(axis=(1, 2, 3), keepdims=True)
        rates = self._RATE / np.sqrt(np.where(squares > 0, squares, 1.0))
        self._images = self._images + rates.astype(np.float32) * gradients

    def pictures(self) -> np.ndarray:
        """Each image around 128 with a standard deviation of 64, without its border."""
        images = self._images
        images = images - images.mean(axis=(1, 2, 3), keepdims=True)
        deviations = images.std(axis=(1, 2, 3), keepdims=True)
        images = images / np.where(deviations > 0, deviations, 1.0) * 64 + 128
        top, left = (int(side * self._CROP) for side in images.shape[1:3])
        images = images[:, top : images.shape[1] - top, left : images.shape[2] - left]
        return np.clip(images, 0, 255).astype(np.uint8)


class Distill:
    """A spectrum near zero, moved 512 times by Adam, its image jittered, scaled and rotated."""

    steps = 512
    _RATE, _BETA1, _BETA2, _EPSILON = 0.05, 0.9, 0.999, 1e-8
    _DEVIATION = 0.01
    # The square root of the covariance of the colours of ImageNet, as in Lucid: a step along one
    # of its columns changes colours the way they change together in photographs.
    _COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]], np.float32)

    def __init__(
        self,
        shape: tuple[int, int, int],
        generators: Sequence[np.random.Generator],
        attempts: Sequence[int] | np.ndarray,
        *,
        seed: int,
    ):
        height, width, channels = self._shape = shape
        self._seed = seed
        size = (height, width // 2 + 1, channels, 2)
        pairs = zip(generators, attempts, strict=True)
        starts = [each.normal(0, self._DEVIATION * 10**attempt, size) for each, attempt in pairs]
        self._spectra = np.stack(starts).astype(np.float32)
        self._first_moment = np.zeros_like(self._spectra)
        self._second_moment = np.zeros_like(self._spectra)
        frequencies = np.hypot(scipy.fft.fftfreq(height)[:, None], scipy.fft.rfftfreq(width))
        scale = 1 / np.maximum(frequencies, 1 / max(height, width))
        self._scale = scale[..., None].astype(np.float32)
        mixing = self._COLOURS / np.linalg.norm(self._COLOURS, axis=0).max()
        self._mixing = mixing.T if channels == 3 else np.eye(channels, dtype=np.float32)
        self._step = 0

    def view(self, step: int) -> np.ndarray:
        """The images, all moved in the same way; what lies outside of them is grey."""
        self._step = step
        self._images = self._unmoved()
        generator = np.random.default_rng([self._seed, step])
        self._move = random_move(self._shape[:2], generator)
        return _applied(self._move, self._images - 0.5) + np.float32(0.5)

    def climb(self, gradients: np.ndarray) -> None:
        """Carry the gradient back to the spectrum, then one step of Adam."""
        gradients = self._carried_back(gradients)
        count = self._step + 1
        self._first_moment += (1 - self._BETA1) * (gradients - self._first_moment)
        self._second_moment += (1 - self._BETA2) * (gradients**2 - self._second_moment)
        rate = self._RATE * np.sqrt(1 - self._BETA2**count) / (1 - self._BETA1**count)
        self._spectra += rate * self._first_moment / (np.sqrt(self._second_moment) + self._EPSILON)

    def pictures(self) -> np.ndarray:
        """The images as they are, from black to white."""
        return np.rint(255 * self._unmoved()).astype(np.uint8)

    def _unmoved(self) -> np.ndarray:
        half = self._spectra[..., 0] + 1j * self._spectra[..., 1]
        half *= self._scale
        waves = scipy.fft.irfft2(half, s=self._shape[:2], axes=(1, 2), norm="ortho")
        return scipy.special.expit(waves.astype(np.float32) / 4 @ self._mixing)

    def _carried_back(self, gradients: np.ndarray) -> np.ndarray:
        """The gradient with respect to the last view -> that with respect to the spectra."""
        gradients = _applied(self._move.T, gradients)
        gradients = gradients * self._images * (1 - self._images) @ self._mixing.T
        half = scipy.fft.rfft2(gradients / 4, axes=(1, 2), norm="ortho") * self._scale
        # A real image has the columns that are left out once more, mirrored.
        half[:, :, 1 : (self._shape[1] + 1) // 2] *= 2
        return np.stack([half.real, half.imag], axis=-1).astype(np.float32)


def random_move(shape: tuple[int, int], generator: np.random.Generator) -> scipy.sparse.csr_array:
    """A random jitter, scaling, rotation and second jitter as one bilinear resampling.

    Lucid pads an image by 12 before it does these and crops by 8 and by 4: here the image keeps its
    size, as models with one size of input need it.

    Args:
        shape: height, width of the image.
        generator: draws up to 4 pixels to each side, a scale of 0.9 to 1.1, up to 10 degrees
            (0 more often than others), and up to 2 pixels to each side; fewer pixels if the image
            has less than 64.

    Returns:
        (height * width, height * width) float32: it takes flat pixels to flat pixels, with zeros
        for what lies outside of the image.
    """
    most = min(4, min(shape) // 16)
    first = generator.integers(-most, most + 1, 2)
    scale = generator.choice(np.linspace(0.9, 1.1, 11))
    angle = np.deg2rad(generator.choice([*range(-10, 11), 0, 0, 0, 0, 0]))
    second = generator.integers(-(most // 2), most // 2 + 1, 2)

    height, width = shape
    middle = (np.array(shape) - 1) / 2
    y, x = np.indices(shape).reshape(2, -1) - middle[:, None] - second[:, None]
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    y, x = cos * y + sin * x + middle[0] + first[0], cos * x - sin * y + middle[1] + first[1]

    rows, columns, weights = [], [], []
    for tap_y in (np.floor(y), np.floor(y) + 1):
        for tap_x in (np.floor(x), np.floor(x) + 1):
            inside = (tap_y >= 0) & (tap_y < height) & (tap_x >= 0) & (tap_x < width)
            weight = (1 - np.abs(y - tap_y)) * (1 - np.abs(x - tap_x))
            rows.append(np.flatnonzero(inside))
            columns.append((tap_y * width + tap_x)[inside].astype(int))
            weights.append(weight[inside])
    entries = np.concatenate(weights).astype(np.float32)
    places = np.concatenate(rows), np.concatenate(columns)
    size = (height * width, height * width)
    return scipy.sparse.coo_array((entries, places), shape=size).tocsr()


def _applied(move: scipy.sparse.sparray, images: np.ndarray) -> np.ndarray:
    n, channels = len(images), images.shape[-1]
    columns = images.reshape(n, -1, channels).transpose(1, 0, 2).reshape(-1, n * channels)
    moved = (move @ columns).reshape(-1, n, channels).transpose(1, 0, 2)
    return np.ascontiguousarray(moved).reshape(images.shape)


STYLES: dict[str, type[Ascent]] = {"book": Book, "distill": Distill}

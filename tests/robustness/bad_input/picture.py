"""A row of the table of image files, and the pictures that the rows are made of."""

from dataclasses import dataclass

import cv2
import numpy as np

SIZE = (16, 24)
"""Height and width of most pictures; a decoder of this size neither scales nor crops them."""


@dataclass(frozen=True, eq=False)
class Row:
    """One image file, and what is to be said of it.

    Attributes:
        name: of the file, with its suffix.
        content: its bytes.
        bad: words of the refusal; empty for what is accepted.
        warned: words of the warning with which it is accepted; empty: without one.
        advice: words of the advice that goes with either.
        pixels: uint8 (height, width, 3), what an accepted file shows over white where it is
            transparent; None: what OpenCV makes of it.
        within: grey levels by which pixels may differ.
        size: height and width of the decoder, where it is not that of the pixels.
    """

    name: str
    content: bytes
    bad: str = ""
    warned: str = ""
    advice: str = ""
    pixels: np.ndarray | None = None
    within: int = 0
    size: tuple[int, int] | None = None

    @property
    def expected(self) -> np.ndarray:
        """What the decoder must give, from who has nothing to do with it."""
        return by_opencv(self.content) if self.pixels is None else self.pixels


def by_opencv(content: bytes) -> np.ndarray:
    """RGB pixels as OpenCV decodes them: uint8 (height, width, 3), EXIF orientation applied."""
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def smooth(height: int = SIZE[0], width: int = SIZE[1], *, channels: int = 3) -> np.ndarray:
    """A picture that JPEG keeps nearly as it is: uint8 (height, width, channels)."""
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(9 * columns + 4 * rows + phase) for phase in range(channels)]
    return np.rint(127.5 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)


def counting(levels: int, *, channels: int = 1, dtype: type = np.uint8) -> np.ndarray:
    """Numbers 0 to `levels` - 1 in a pattern of their own: (16, 24, channels)."""
    rows, columns, channel = np.indices((*SIZE, channels))
    return ((rows * 31 + columns * 7 + channel * 11) * (levels // 16 | 1) % levels).astype(dtype)


def over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """`rgb` (height, width, 1 or 3) over white; alpha (height, width) from 0 to 1."""
    mixed = rgb * alpha[..., None] + 255 * (1 - alpha[..., None])
    return as_rgb(np.rint(mixed).astype(np.uint8))


def as_rgb(grey: np.ndarray) -> np.ndarray:
    """(height, width, 1 or 3) -> (height, width, 3)."""
    return np.broadcast_to(grey, (*grey.shape[:2], 3))

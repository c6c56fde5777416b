"""PNG files of 16 bits a value -> all of their bits, of which Pillow keeps 8 in colour."""

import io

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

_MODES = {2: "RGB", 6: "RGBA"}


def sixteen_bits(png: bytes) -> tuple[np.ndarray, Image.Image | None]:
    """Decode a PNG file of 16 bits a value.

    Args:
        png: the file, as `structure.read_png` returns it.

    Returns:
        uint16 (height, width, 1 or 3), and how opaque each pixel is in mode L; None: all are.
    """
    colour = png[25]
    if colour == 0:
        image = PngImageFile(io.BytesIO(png))
        values = np.asarray(image).astype(np.uint16)[..., None]
    elif colour == 4:  # a pixel of grey and alpha is as long as one of four bytes
        values = _decoded(png, "RGBA").view(">u2").astype(np.uint16)
    else:
        values = _decoded(png, f"{_MODES[colour]};16B").astype(np.uint16)
        values <<= 8
        values |= _decoded(png, f"{_MODES[colour]};16L")  # the other byte of each value
    if colour in (4, 6):
        return values[..., :-1], Image.fromarray((values[..., -1] >> 8).astype(np.uint8))
    hidden = PngImageFile(io.BytesIO(png)).info.get("transparency")
    if hidden is None:
        return values, None
    return values, Image.fromarray((values != np.uint16(hidden)).any(axis=2))


def _decoded(png: bytes, raw_mode: str) -> np.ndarray:
    """uint8 (height, width, channels), as Pillow unpacks the bytes of the file by `raw_mode`."""
    image = PngImageFile(io.BytesIO(png))
    image.tile = [tile._replace(args=raw_mode) for tile in image.tile]
    return np.array(image)

"""Decode the bytes of an image file to RGB pixels of one size.

Training, evaluation, prediction and visualization use this decoder, so they see the same pixels.
It never changes Pillow's global state, so any number of threads may decode at once.
"""

import io
import os
import re
import stat
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from cvtrain.images.file_integrity import check_jpeg, read_png
from cvtrain.images.file_types import REPLACE, DecodeError, kind_of, tiff_numbers, too_large
from cvtrain.system.files import NO_WAIT

__all__ = ["DECODER_VERSION", "DecodeError", "Decoded", "Decoder", "read_image"]

DECODER_VERSION = 3
"""Increase it with every change to the pixels of a file: cached results depend on them."""

MAX_PIXELS = 50_000_000
"""Largest number of pixels of an image as it is decoded."""
MAX_JPEG_PIXELS = 200_000_000
"""Largest number of pixels in the header of a JPEG, which libjpeg can decode at 1/2, 1/4 or 1/8."""
MAX_BYTES = 256 * 2**20

_CMYK = "CMYK colours, converted to RGB without a colour profile"
_ANIMATION = "an animation, of which only the first frame counts"
_CUT_OFF = "its lower edge is the grey that stands for missing data"
ADVICE_ON = {
    _CMYK: "Look at it; where its colours matter, store it as RGB.",
    _ANIMATION: "Look at it; where another frame matters, store that one alone.",
    _CUT_OFF: "Look at it; where its lower part is grey, replace it by an intact copy.",
}
"""Advice on each of `Decoded.notes`."""

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_EXIF_PREFIX = re.compile(rb"(?:Exif\0\0)*")  # in JPEG; some programs write it in PNG and WebP

_IN_PLAIN_WORDS = {
    "": "its parts do not fit together",
    "cannot load this image": "it has no pixels",
    "could not create decoder object": "it is cut off, or its parts do not fit together",
    "no more images in GIF file": "it has no pixels",
    "not identified by this driver": "its header makes no sense",
}

Box = tuple[float, float, float, float]
Range = Literal["auto"] | tuple[int, int]


@dataclass(frozen=True)
class Decoded:
    """One decoded image.

    Attributes:
        pixels: uint8 RGB of shape (height, width, 3) at the decoder's size, read-only.
        format: Format of the content: JPEG, PNG, BMP, GIF or WEBP.
        width, height: Size of the upright original in pixels.
        mode: Pillow's mode of the file: RGB, L (grey), P (palette), RGBA, CMYK, ...
        notes: Remarks on the conversion for the user; mostly empty.
        full_scale: Largest value that the file can store: 255, or 65,535 in 16 bits.
    """

    pixels: np.ndarray
    format: str
    width: int
    height: int
    mode: str
    notes: tuple[str, ...] = ()
    full_scale: int = 255


@dataclass(frozen=True)
class Decoder:
    """Decodes image files to one size; equal decoders give equal pixels.

    JPEG, PNG, BMP, GIF and WebP are recognized by content. EXIF orientation is applied, transparent
    pixels are blended with `background`, 16 bits are scaled to 8, CMYK becomes RGB, and only the
    first frame of an animation is used. Resampling is bilinear with antialiasing.

    Args:
        size: (height, width) of the result in pixels.
        resize: "stretch" distorts, "crop" keeps the middle, "pad" adds a border of `background`.
        background: Red, green and blue, 0 to 255.
        range: Values of a file that become 0 and 255. Values between them are scaled, others are
            clipped. "auto": 0 and the largest value that the file can store.
    """

    size: tuple[int, int]
    resize: str = "stretch"
    background: tuple[int, int, int] = (255, 255, 255)
    range: Range = "auto"

    @classmethod
    def recorded(cls, size: Sequence[int], settings: Mapping[str, Any]) -> "Decoder":
        """Create the decoder of a run from `image_size` and `decoder` in its `run.json`."""
        height, width = size
        limits = settings.get("range", "auto")  # earlier versions had no range
        return cls(
            (height, width),
            resize=settings["resize"],
            background=tuple(settings["background"]),
            range=limits if limits == "auto" else tuple(limits),
        )

    def settings(self) -> dict[str, Any]:
        """Settings that `recorded` needs in addition to the size."""
        limits = self.range if self.range == "auto" else list(self.range)
        return {"resize": self.resize, "background": list(self.background), "range": limits}

    def __call__(self, content: bytes) -> Decoded:
        """Decode the bytes of one image file.

        Raises:
            DecodeError: The bytes are not an image, or a damaged one, or it has more than
                `MAX_PIXELS` pixels (`MAX_JPEG_PIXELS` for a JPEG).
        """
        kind = kind_of(content)
        most = MAX_JPEG_PIXELS if kind == "JPEG" else MAX_PIXELS
        what = f"more than {most // 1_000_000} million pixels"
        try:
            file = _open(content, kind)
            if (num_pixels := file.image.width * file.image.height) <= most:
                return self._decode(file)
        except (DecodeError, MemoryError):
            raise
        except Image.DecompressionBombError as error:
            raise too_large(kind, sys.maxsize, what) from error
        except Exception as error:  # on damaged bytes Pillow raises nearly anything
            raise DecodeError(f"damaged {kind} file ({_what(error)})", REPLACE) from error
        raise too_large(kind, num_pixels, what)

    def unpadded(self, decoded: Decoded) -> np.ndarray:
        """Pixels of a decoded image without the border that "pad" added."""
        _, (width, height) = self._fit(decoded.width, decoded.height, turned=False)
        top, left = (self.size[0] - height) // 2, (self.size[1] - width) // 2
        return decoded.pixels[top : top + height, left : left + width]

    def _decode(self, file: "_File") -> Decoded:
        image = file.image
        width, height = image.size
        mode = image.mode
        if image.format != "JPEG":
            image.load()  # the EXIF block of a PNG may follow its pixels
        orientation = _orientation(image.info.get("exif", b""))
        turned = orientation >= 5
        box, size = self._fit(width, height, turned)
        box = _draft(image, box, size)
        pixels = self._eight_bits(file)
        pixels = pixels.resize(size, Image.Resampling.BILINEAR, box, reducing_gap=3.0)
        notes = self._notes(file, pixels)
        if orientation in _TRANSPOSE:
            pixels = pixels.transpose(_TRANSPOSE[orientation])
        pixels = self._padded(pixels.convert("RGB"))
        if turned:
            width, height = height, width
        kind = image.format or ""
        return Decoded(np.asarray(pixels), kind, width, height, mode, notes, file.full_scale)

    def _eight_bits(self, file: "_File") -> Image.Image:
        """Convert to mode L or RGB with values 0..255, over the background."""
        image = file.image
        if file.full_scale > 255 and (self.range != "auto" or image.mode.startswith("I")):
            values, alpha = _sixteen_bits(file.png)
            pixels = self._table(file.full_scale)[values]
            image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
            return image if alpha is None else self._over_background(image, alpha)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            return self._over_background(self._scaled(image.convert("RGB")), image.getchannel("A"))
        if image.mode not in ("L", "RGB"):
            image = image.convert("L" if image.mode == "1" else "RGB")
        return self._scaled(image)

    def _scaled(self, image: Image.Image) -> Image.Image:
        if self.range == "auto":
            return image
        return image.point(self._table(255).tolist() * len(image.getbands()))

    def _table(self, full_scale: int) -> np.ndarray:
        """Lookup table from the values of a file to 0..255, rounded: uint8 (full_scale + 1,)."""
        low, high = (0, full_scale) if self.range == "auto" else self.range
        values = np.arange(full_scale + 1) - low
        return np.clip((values * 510 + high - low) // (2 * (high - low)), 0, 255).astype(np.uint8)

    def _over_background(self, image: Image.Image, alpha: Image.Image) -> Image.Image:
        canvas = Image.new("RGB", image.size, self.background)
        canvas.paste(image, mask=alpha)
        return canvas

    def _notes(self, file: "_File", pixels: Image.Image) -> tuple[str, ...]:
        """Remarks on a stored image; `pixels` are resized, but not transposed yet."""
        notes = []
        if file.image.mode == "CMYK":
            notes.append(_CMYK)
        if file.is_animated:
            notes.append(_ANIMATION)
        lower_edge = pixels.crop((0, pixels.height - 1, *pixels.size))
        if file.image.format == "JPEG" and self._is_missing(lower_edge):
            notes.append(_CUT_OFF)
        return tuple(notes)

    def _is_missing(self, pixels: Image.Image) -> bool:
        """Whether pixels have the value 128, with which libjpeg fills in missing data."""
        grey = int(self._table(255)[128])
        return 0 < grey < 255 and bool(np.all(np.asarray(pixels.convert("RGB")) == grey))

    def _fit(self, width: int, height: int, turned: bool) -> tuple[Box, tuple[int, int]]:
        """Box of the stored image and the (width, height) to resize it to, before transposing."""
        target = self.size if turned else self.size[::-1]
        scales = target[0] / width, target[1] / height
        if self.resize == "crop":
            w, h = min(width, target[0] / max(scales)), min(height, target[1] / max(scales))
            box = ((width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2)
            return box, target
        if self.resize == "pad":
            wide, high = (max(1, round(n * min(scales))) for n in (width, height))
            return (0, 0, width, height), (wide, high)
        return (0, 0, width, height), target

    def _padded(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        if image.size == (width, height):
            return image
        canvas = Image.new("RGB", (width, height), self.background)
        canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        return canvas


def stored_values(content: bytes) -> np.ndarray:
    """Unscaled values of an image file: uint8 or uint16 (height, width, 1 or 3).

    Transparency is ignored. Large JPEGs are reduced to `largest_size`.

    Raises:
        DecodeError: As for `Decoder`.
    """
    file = _open(content, kind_of(content))
    if file.full_scale > 255:
        return _sixteen_bits(file.png)[0]
    image = file.image
    image.draft(None, largest_size(image.height, image.width)[::-1])
    return np.asarray(image.convert("RGB"))


def largest_size(height: int, width: int) -> tuple[int, int]:
    """Largest (height, width) to decode a photograph of this size in.

    Up to `MAX_PIXELS` pixels it is the original size, above a half, a quarter or an eighth of it.
    """
    shrink = _least_shrink(height, width)
    return -(-height // shrink), -(-width // shrink)


def read_image(path: Path) -> bytes:
    """Read the regular file at `path`.

    Raises:
        DecodeError: The file is missing, unreadable, not regular, or larger than `MAX_BYTES`.
    """
    try:
        # Without this flag, opening a named pipe would wait for a writer for ever.
        with open(path, "rb", opener=lambda p, flags: os.open(p, flags | NO_WAIT)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DecodeError("not a regular file", "Put an image file in its place.")
            if status.st_size > MAX_BYTES:
                raise DecodeError(f"larger than {MAX_BYTES // 2**20} MiB", "Store it smaller.")
            return file.read(status.st_size + 1)  # not to the end, because the file may grow
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        raise DecodeError(
            f"cannot be read: {what}", "Check the file and its permissions."
        ) from error


class _Jpeg(JpegImageFile):
    def getexif(self) -> Image.Exif:
        # Pillow looks for a resolution in the EXIF block of each JPEG and warns about damaged ones;
        # only the orientation matters here, and `_orientation` reads it silently.
        return Image.Exif()


_FILE_TYPES: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "JPEG": _Jpeg,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "WEBP": WebPImageFile,
}


class _File(NamedTuple):
    """An open image file, not decoded yet; `png` is what `read_png` returns."""

    image: Image.Image
    is_animated: bool
    full_scale: int = 255
    png: bytes = b""


def _open(content: bytes, kind: str) -> _File:
    if kind == "PNG":
        png = read_png(content)
        first = PngImageFile(io.BytesIO(png.content))
        _scale_transparency(first, depth=content[24])
        return _File(first, png.is_animated, 65_535 if content[24] == 16 else 255, png.content)
    if kind == "JPEG":
        check_jpeg(content)
    image = _FILE_TYPES[kind](io.BytesIO(content))
    return _File(image, getattr(image, "is_animated", False))


def _what(error: Exception) -> str:
    if isinstance(error, (struct.error, IndexError)):
        return "it is cut off"
    return _IN_PLAIN_WORDS.get(str(error), str(error))


def _orientation(exif: bytes) -> int:
    """EXIF orientation, 1 to 8; 1 when it is missing or the block is damaged."""
    numbers = tiff_numbers(_EXIF_PREFIX.sub(b"", exif, count=1))
    value = next((value for tag, value in numbers if tag == 0x0112), 1)
    return value if value in _TRANSPOSE else 1


def _draft(image: Image.Image, box: Box, size: tuple[int, int]) -> Box:
    """Let libjpeg decode at the smallest sufficient scale; return `box` at that scale."""
    # It takes about half of the time; on photographs the result differs from a full decode by less
    # than one grey level on average. More than `MAX_PIXELS` pixels are always reduced.
    width, height = image.size
    least = _least_shrink(height, width)
    wide = min(width * size[0] / (box[2] - box[0]), width // least)
    high = min(height * size[1] / (box[3] - box[1]), height // least)
    drafted = image.draft(None, (max(1, int(wide)), max(1, int(high))))
    if drafted is None:
        return box
    factor = width / drafted[1][2]
    left, upper, right, lower = (edge / factor for edge in box)
    return left, upper, right, lower


def _least_shrink(height: int, width: int) -> int:
    shrinks = (shrink for shrink in (1, 2, 4) if height * width <= MAX_PIXELS * shrink**2)
    return next(shrinks, 8)


def _scale_transparency(image: Image.Image, depth: int) -> None:
    """Scale the transparent colour of a PNG to 8 bits, as Pillow does with the pixels."""
    hidden = image.info.get("transparency")
    if image.mode == "L" and hidden is not None:
        image.info["transparency"] = hidden * 255 // (2**depth - 1)
    elif image.mode == "RGB" and hidden is not None and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in hidden)


def _sixteen_bits(png: bytes) -> tuple[np.ndarray, Image.Image | None]:
    """uint16 (height, width, 1 or 3) of a 16-bit PNG, and its alpha channel in mode L, if any."""
    colour = png[25]
    if colour == 0:
        image = PngImageFile(io.BytesIO(png))
        values = np.asarray(image).astype(np.uint16)[..., None]
    elif colour == 4:  # a pixel of grey and alpha is as long as one of four bytes
        values = _unpack(png, "RGBA").view(">u2").astype(np.uint16)
    else:  # Pillow keeps 8 bits of colours, so each byte is unpacked by itself
        mode = "RGB" if colour == 2 else "RGBA"
        values = _unpack(png, f"{mode};16B").astype(np.uint16)
        values <<= 8
        values |= _unpack(png, f"{mode};16L")
    if colour in (4, 6):
        return values[..., :-1], Image.fromarray((values[..., -1] >> 8).astype(np.uint8))
    hidden = PngImageFile(io.BytesIO(png)).info.get("transparency")
    if hidden is None:
        return values, None
    return values, Image.fromarray((values != np.uint16(hidden)).any(axis=2))


def _unpack(png: bytes, raw_mode: str) -> np.ndarray:
    """Unpack a file by one of Pillow's raw modes: uint8 (height, width, channels)."""
    image = PngImageFile(io.BytesIO(png))
    image.tile = [tile._replace(args=raw_mode) for tile in image.tile]
    return np.array(image)

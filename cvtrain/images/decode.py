"""Bytes of an image file -> RGB pixels of one size: the one decoder, wherever pixels are needed.

Training, evaluation, prediction and visualization see the same pixels because all of them come from
here. Pillow's global state is never touched, so that any number of threads may decode at once.
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
from cvtrain.images.sixteen_bits import sixteen_bits
from cvtrain.system.files import NO_WAIT

__all__ = ["DECODER_VERSION", "DecodeError", "Decoded", "Decoder", "read_image"]

DECODER_VERSION = 3
"""Raised by whoever changes which pixels a file decodes to: remembered results depend on it."""

MAX_PIXELS = 50_000_000
"""Of an image as it is decoded."""
MAX_JPEG_PIXELS = 200_000_000
"""Of a JPEG by its header: libjpeg decodes it at a half, a quarter or an eighth of its size."""
MAX_BYTES = 256 * 2**20

_CMYK = "CMYK colours, converted to RGB without a colour profile"
_ANIMATION = "an animation, of which only the first frame counts"
_CUT_OFF = "its lower edge is the grey that stands for missing data"
ADVICE_ON = {
    _CMYK: "Look at it; where its colours matter, store it as RGB.",
    _ANIMATION: "Look at it; where another frame matters, store that one alone.",
    _CUT_OFF: "Look at it; where its lower part is grey, replace it by an intact copy.",
}
"""What to do about each of `Decoded.notes`."""

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_EXIF_PREFIX = re.compile(rb"(?:Exif\0\0)*")  # once in JPEG, by some writers in PNG and WebP too

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
        format: what the file really is: JPEG, PNG, BMP, GIF or WEBP.
        width: of the original in pixels, upright.
        height: of the original in pixels, upright.
        mode: Pillow's name of what the file stores: RGB, L (grey), P (palette), RGBA, CMYK, ...
        notes: what a person may want to know about the conversion; mostly empty.
        full_scale: the largest value that the file can store: 255, or 65,535 in 16 bits.
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

    JPEG, PNG, BMP, GIF and WebP are read whatever the file is called. EXIF orientation is applied,
    transparency lies on `background`, 16 bits are scaled to 8, CMYK becomes RGB, and of an
    animation the first frame counts. Resampling is bilinear with antialiasing.

    Args:
        size: (height, width) of the pixels in the result.
        resize: "stretch" distorts, "crop" keeps the middle, "pad" adds a border of `background`.
        background: red, green and blue, 0 to 255.
        range: which values of a file become 0 and 255; those between are scaled, those beyond are
            clipped. "auto": 0 and the largest that the file can store.
    """

    size: tuple[int, int]
    resize: str = "stretch"
    background: tuple[int, int, int] = (255, 255, 255)
    range: Range = "auto"

    @classmethod
    def recorded(cls, size: Sequence[int], settings: Mapping[str, Any]) -> "Decoder":
        """The decoder of a run, by `image_size` and `decoder` of its `run.json`."""
        height, width = size
        limits = settings.get("range", "auto")  # earlier versions knew no other
        return cls(
            (height, width),
            resize=settings["resize"],
            background=tuple(settings["background"]),
            range=limits if limits == "auto" else tuple(limits),
        )

    def settings(self) -> dict[str, Any]:
        """What `recorded` needs besides the size."""
        limits = self.range if self.range == "auto" else list(self.range)
        return {"resize": self.resize, "background": list(self.background), "range": limits}

    def __call__(self, content: bytes) -> Decoded:
        """Decode the bytes of one image file.

        Raises:
            DecodeError: they are no image, a damaged one, or one of more than `MAX_PIXELS` pixels,
                a JPEG of more than `MAX_JPEG_PIXELS`.
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
        """The pixels of a decoded image without the border that "pad" has added."""
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
        """The image in mode L or RGB, its values brought to 0..255, over the background."""
        image = file.image
        if file.full_scale > 255 and (self.range != "auto" or image.mode.startswith("I")):
            values, alpha = sixteen_bits(file.png)
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
        """uint8 (full_scale + 1,): what each value of a file becomes, rounded."""
        low, high = (0, full_scale) if self.range == "auto" else self.range
        values = np.arange(full_scale + 1) - low
        return np.clip((values * 510 + high - low) // (2 * (high - low)), 0, 255).astype(np.uint8)

    def _over_background(self, image: Image.Image, alpha: Image.Image) -> Image.Image:
        canvas = Image.new("RGB", image.size, self.background)
        canvas.paste(image, mask=alpha)
        return canvas

    def _notes(self, file: "_File", pixels: Image.Image) -> tuple[str, ...]:
        """What to say of an image as it was stored; `pixels` have their size, unturned yet."""
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
        """Where the data of a JPEG end too early, libjpeg goes on with the middle of all values."""
        grey = int(self._table(255)[128])
        return 0 < grey < 255 and bool(np.all(np.asarray(pixels.convert("RGB")) == grey))

    def _fit(self, width: int, height: int, turned: bool) -> tuple[Box, tuple[int, int]]:
        """Which box of the stored image becomes which (width, height), before it is turned."""
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
    """What an image file stores, in its own numbers: uint8 or uint16 (height, width, 1 or 3).

    Transparent pixels have the colours that they hide. Large JPEGs are as small as `largest_size`.

    Raises:
        DecodeError: as a `Decoder`, which should have decoded the file before.
    """
    file = _open(content, kind_of(content))
    if file.full_scale > 255:
        return sixteen_bits(file.png)[0]
    image = file.image
    image.draft(None, largest_size(image.height, image.width)[::-1])
    return np.asarray(image.convert("RGB"))


def largest_size(height: int, width: int) -> tuple[int, int]:
    """Height and width in which a photograph of this size is decoded in full, or a part of it.

    It is the photograph's own up to `MAX_PIXELS` pixels, then a half, a quarter or an eighth of it.
    """
    shrink = _least_shrink(height, width)
    return -(-height // shrink), -(-width // shrink)


def read_image(path: Path) -> bytes:
    """Bytes of the regular file at `path`.

    Raises:
        DecodeError: it is missing, unreadable, no regular file, or larger than `MAX_BYTES`.
    """
    try:
        # Without this flag, opening a named pipe would wait for a writer for ever.
        with open(path, "rb", opener=lambda p, flags: os.open(p, flags | NO_WAIT)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DecodeError("not a regular file", "Put an image file in its place.")
            if status.st_size > MAX_BYTES:
                raise DecodeError(f"larger than {MAX_BYTES // 2**20} MiB", "Store it smaller.")
            return file.read(status.st_size + 1)  # not to its end: it may grow meanwhile
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
    """An image file that was opened, and not decoded yet.

    Attributes:
        image: its first picture.
        is_animated: there are more of them.
        full_scale: as `Decoded` has it.
        png: the content of a PNG, without what does not make its pixels.
    """

    image: Image.Image
    is_animated: bool
    full_scale: int = 255
    png: bytes = b""


def _open(content: bytes, kind: str) -> _File:
    if kind == "PNG":
        png = read_png(content)
        first = PngImageFile(io.BytesIO(png.content))
        _mend_transparency(first, depth=content[24])
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
    """EXIF orientation 1 to 8; 1, as stored, when there is none or the block is damaged.

    The standard has it as one SHORT; some cameras write one BYTE or LONG.
    """
    numbers = tiff_numbers(_EXIF_PREFIX.sub(b"", exif, count=1))
    value = next((value for tag, value in numbers if tag == 0x0112), 1)
    return value if value in _TRANSPOSE else 1


def _draft(image: Image.Image, box: Box, size: tuple[int, int]) -> Box:
    """Let libjpeg shrink the image while it stays at least as large as needed; `box` shrinks too.

    A JPEG yields a half, a quarter or an eighth of its size for about half of the work; on
    photographs the result differs from a full decode by less than one grey level on average. One
    of more than `MAX_PIXELS` pixels is shrunk in any case.
    """
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


def _mend_transparency(image: Image.Image, depth: int) -> None:
    """Pillow brings the samples of a PNG to 8 bits, but not the one that stands for nothing."""
    hidden = image.info.get("transparency")
    if image.mode == "L" and hidden is not None:
        image.info["transparency"] = hidden * 255 // (2**depth - 1)
    elif image.mode == "RGB" and hidden is not None and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in hidden)

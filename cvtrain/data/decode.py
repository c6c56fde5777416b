"""Bytes of an image file -> RGB pixels of one size: the one decoder, wherever pixels are needed.

Training, evaluation, prediction and visualization see the same pixels because all of them come from
here. Pillow's global state is never touched, so that any number of threads may decode at once.
"""

import io
import os
import re
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from cvtrain.data.kinds import REPLACE, DecodeError, kind_of
from cvtrain.data.structure import check_jpeg, read_png

__all__ = ["DECODER_VERSION", "DecodeError", "Decoded", "Decoder", "read_image"]

DECODER_VERSION = 3
"""Raised by whoever changes which pixels a file decodes to: remembered results depend on it."""

MAX_PIXELS = 50_000_000
"""Of an image as it is decoded."""
MAX_JPEG_PIXELS = 200_000_000
"""Of a JPEG by its header: libjpeg decodes it at a half, a quarter or an eighth of its size."""
MAX_BYTES = 256 * 2**20

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
# Types of whole numbers in TIFF 6.0, section 2, as `struct` calls them.
_NUMBERS = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l"}

_IN_PLAIN_WORDS = {
    "": "its parts do not fit together",
    "cannot load this image": "it has no pixels",
    "could not create decoder object": "it is cut off, or its parts do not fit together",
    "no more images in GIF file": "it has no pixels",
    "not identified by this driver": "its header makes no sense",
}

Box = tuple[float, float, float, float]


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
    """

    pixels: np.ndarray
    format: str
    width: int
    height: int
    mode: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decoder:
    """Decodes image files to one size; equal decoders give equal pixels.

    JPEG, PNG, BMP, GIF and WebP are read whatever the file is called. EXIF orientation is applied,
    transparency lies on `background`, 16-bit grey is scaled to 8 bits, CMYK becomes RGB, and of an
    animation the first frame counts. Resampling is bilinear with antialiasing.

    Args:
        size: (height, width) of the pixels in the result.
        resize: "stretch" distorts, "crop" keeps the middle, "pad" adds a border of `background`.
        background: red, green and blue, 0 to 255.
    """

    size: tuple[int, int]
    resize: str = "stretch"
    background: tuple[int, int, int] = (255, 255, 255)

    def __call__(self, content: bytes) -> Decoded:
        """Decode the bytes of one image file.

        Raises:
            DecodeError: they are no image, a damaged one, or one of more than `MAX_PIXELS` pixels,
                a JPEG of more than `MAX_JPEG_PIXELS`.
        """
        kind = kind_of(content)
        most = MAX_JPEG_PIXELS if kind == "JPEG" else MAX_PIXELS
        try:
            image, is_animated = _open(content, kind)
            if image.width * image.height <= most:
                return self._decode(image, is_animated)
        except (DecodeError, MemoryError):
            raise
        except Image.DecompressionBombError:
            pass
        except Exception as error:  # on damaged bytes Pillow raises nearly anything
            raise DecodeError(f"damaged {kind} file ({_what(error)})", REPLACE) from error
        raise DecodeError(
            f"more than {most // 1_000_000} million pixels", "Store it in a smaller size."
        )

    def _decode(self, image: Image.Image, is_animated: bool) -> Decoded:
        width, height = image.size
        mode = image.mode
        if image.format != "JPEG":
            image.load()  # the EXIF block of a PNG may follow its pixels
        orientation = _orientation(image.info.get("exif", b""))
        turned = orientation >= 5
        box, size = self._fit(width, height, turned)
        box = _draft(image, box, size)
        pixels = _eight_bits(image, self.background)
        pixels = pixels.resize(size, Image.Resampling.BILINEAR, box, reducing_gap=3.0)
        notes = _notes(image, pixels, is_animated)
        if orientation in _TRANSPOSE:
            pixels = pixels.transpose(_TRANSPOSE[orientation])
        pixels = self._padded(pixels.convert("RGB"))
        if turned:
            width, height = height, width
        return Decoded(np.asarray(pixels), image.format, width, height, mode, notes)

    def _fit(self, width: int, height: int, turned: bool) -> tuple[Box, tuple[int, int]]:
        """Which box of the stored image becomes which (width, height), before it is turned."""
        target = self.size if turned else self.size[::-1]
        scales = target[0] / width, target[1] / height
        if self.resize == "crop":
            wide, high = min(width, target[0] / max(scales)), min(height, target[1] / max(scales))
            box = ((width - wide) / 2, (height - high) / 2, (width + wide) / 2, (height + high) / 2)
            return box, target
        if self.resize == "pad":
            target = tuple(max(1, round(n * min(scales))) for n in (width, height))
        return (0, 0, width, height), target

    def _padded(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        if image.size == (width, height):
            return image
        canvas = Image.new("RGB", (width, height), self.background)
        canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        return canvas


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
        # Without O_NONBLOCK, opening a named pipe would wait for a writer for ever.
        with open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK)) as file:
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


_FILE_TYPES = {"JPEG": _Jpeg, "BMP": BmpImageFile, "GIF": GifImageFile, "WEBP": WebPImageFile}


def _open(content: bytes, kind: str) -> tuple[Image.Image, bool]:
    """The first picture of a file, not decoded yet, and whether there are more of them."""
    if kind == "PNG":
        png = read_png(content)
        image = PngImageFile(io.BytesIO(png.content))
        _mend_transparency(image, depth=content[24])
        return image, png.is_animated
    if kind == "JPEG":
        check_jpeg(content)
    image = _FILE_TYPES[kind](io.BytesIO(content))
    return image, getattr(image, "is_animated", False)


def _what(error: Exception) -> str:
    if isinstance(error, (struct.error, IndexError)):
        return "it is cut off"
    return _IN_PLAIN_WORDS.get(str(error), str(error))


def _orientation(exif: bytes) -> int:
    """EXIF orientation 1 to 8; 1, as stored, when there is none or the block is damaged.

    The standard has it as one SHORT; some cameras write one BYTE or LONG.
    """
    tiff = exif[_EXIF_PREFIX.match(exif).end() :]
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "L", tiff, 4)
        (num_entries,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * num_entries, 12):
            tag, kind, count = struct.unpack_from(order + "HHL", tiff, entry)
            number = order + _NUMBERS.get(kind, "0s")  # of no size, and so not read
            if tag == 0x0112 and 0 < count * struct.calcsize(number) <= 4:  # is in the entry itself
                (value,) = struct.unpack_from(number, tiff, entry + 8)
                return value if value in _TRANSPOSE else 1
    except struct.error:
        pass
    return 1


def _draft(image: Image.Image, box: Box, size: tuple[int, int]) -> Box:
    """Let libjpeg shrink the image while it stays at least as large as needed; `box` shrinks too.

    A JPEG yields a half, a quarter or an eighth of its size for about half of the work; on
    photographs the result differs from a full decode by less than one grey level on average. One
    of more than `MAX_PIXELS` pixels is shrunk in any case.
    """
    width, height = image.size
    least = _least_shrink(height, width)
    wanted = (
        min(width * size[0] / (box[2] - box[0]), width // least),
        min(height * size[1] / (box[3] - box[1]), height // least),
    )
    drafted = image.draft(None, tuple(max(1, int(side)) for side in wanted))
    if drafted is None:
        return box
    factor = width / drafted[1][2]
    return tuple(edge / factor for edge in box)


def _least_shrink(height: int, width: int) -> int:
    shrinks = (shrink for shrink in (1, 2, 4) if height * width <= MAX_PIXELS * shrink**2)
    return next(shrinks, 8)


def _eight_bits(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """The image in mode L or RGB."""
    if image.mode.startswith("I"):
        return _from_sixteen_bits(image, background)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, background)
        canvas.paste(image, mask=image)
        return canvas
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _mend_transparency(image: Image.Image, depth: int) -> None:
    """Pillow brings the samples of a PNG to 8 bits, but not the one that stands for nothing."""
    hidden = image.info.get("transparency")
    if image.mode == "L" and hidden is not None:
        image.info["transparency"] = hidden * 255 // (2**depth - 1)
    elif image.mode == "RGB" and hidden is not None and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in hidden)


def _from_sixteen_bits(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    wide = np.asarray(image).astype(np.uint32)
    grey = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if "transparency" not in image.info:
        return grey
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(grey, mask=Image.fromarray(wide != image.info["transparency"]))
    return canvas


def _notes(image: Image.Image, pixels: Image.Image, is_animated: bool) -> tuple[str, ...]:
    """What there is to say of an image as it was stored; `pixels` have their size, unturned yet."""
    notes = []
    if image.mode == "CMYK":
        notes.append("CMYK colours, converted to RGB without a colour profile")
    if is_animated:
        notes.append("an animation, of which only the first frame counts")
    if image.format == "JPEG" and _is_missing(pixels.crop((0, pixels.height - 1, *pixels.size))):
        notes.append("its lower edge is the grey that stands for missing data")
    return tuple(notes)


def _is_missing(pixels: Image.Image) -> bool:
    """Where the data of a JPEG end too early, libjpeg goes on with the middle of all values."""
    return {extreme for band in pixels.convert("RGB").getextrema() for extreme in band} == {128}

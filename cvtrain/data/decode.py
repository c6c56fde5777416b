"""Bytes of an image file -> RGB pixels of one size: the one decoder, wherever pixels are needed.

Training, evaluation, prediction and visualization see the same pixels because all of them come from
here. Pillow's global state is never touched, so that any number of threads may decode at once.
"""

import io
import os
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

from cvtrain.errors import DataError

DECODER_VERSION = 1
"""Raised by whoever changes which pixels a file decodes to: remembered results depend on it."""

MAX_PIXELS = 50_000_000
MAX_BYTES = 256 * 2**20

_REPLACE = "Replace it by an intact copy."
_CONVERT = "Convert it to JPEG or PNG, for example with ImageMagick: magick FILE FILE.png"

_FOREIGN = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS": "Photoshop",
    b"\0\0\1\0": "Windows icon",
    b"%PDF": "PDF",
}
_BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
}

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Box = tuple[float, float, float, float]


class DecodeError(DataError):
    """One file is not a usable image; the message says what it is, without the file's name."""


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
            DecodeError: they are no image, a damaged one, or one of more than `MAX_PIXELS` pixels.
        """
        file_type = _file_type(content)
        try:
            image = file_type(io.BytesIO(content))
            if image.width * image.height <= MAX_PIXELS:
                return self._decode(image)
        except MemoryError:
            raise
        except Image.DecompressionBombError:
            pass
        except Exception as error:  # on damaged bytes Pillow raises nearly anything
            what = str(error) or type(error).__name__
            raise DecodeError(f"damaged {file_type.format} file ({what})", _REPLACE) from error
        raise DecodeError(
            f"more than {MAX_PIXELS // 1_000_000} million pixels", "Store it in a smaller size."
        )

    def _decode(self, image: Image.Image) -> Decoded:
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
        if orientation in _TRANSPOSE:
            pixels = pixels.transpose(_TRANSPOSE[orientation])
        pixels = self._padded(pixels.convert("RGB"))
        if turned:
            width, height = height, width
        return Decoded(np.asarray(pixels), image.format, width, height, mode, _notes(image))

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
            return file.read()
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


_FORMATS = {
    b"\xff\xd8\xff": _Jpeg,
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"BM": BmpImageFile,
    b"GIF87a": GifImageFile,
    b"GIF89a": GifImageFile,
}


def _file_type(content: bytes) -> type:
    """Pillow's class for what `content` really is; DecodeError says what else it is."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return WebPImageFile
    for signature, file_type in _FORMATS.items():
        if content.startswith(signature):
            return file_type
    for signature, name in _FOREIGN.items():
        if content.startswith(signature):
            raise DecodeError(f"{name} file, which cvtrain does not read", _CONVERT)
    if content[4:8] == b"ftyp":
        for name, brands in _BRANDS.items():
            if any(brand in content[8:40] for brand in brands):
                raise DecodeError(f"{name} file, which cvtrain does not read", _CONVERT)
    if content.startswith(b"version https://git-lfs"):
        raise DecodeError("Git LFS pointer instead of the image", "Fetch it with: git lfs pull")
    if not content.strip(b"\0"):
        what = f"{len(content)} zero bytes" if content else "empty file"
        raise DecodeError(what, _REPLACE)
    raise DecodeError(f"no image but {_other(content[:1024])}", "Remove it, or replace it.")


def _other(head: bytes) -> str:
    if b"\0" in head:
        return "an unknown format"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "SVG" if b"<svg" in head else "HTML or XML"
    is_text = all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)
    return "text" if is_text else "an unknown format"


def _orientation(exif: bytes) -> int:
    """EXIF orientation 1 to 8; 1, as stored, when there is none or the block is damaged."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "L", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(order + "HHLH", tiff, entry)
            if tag == 0x0112:
                return value if value in _TRANSPOSE else 1
    except struct.error:
        pass
    return 1


def _draft(image: Image.Image, box: Box, size: tuple[int, int]) -> Box:
    """Let libjpeg shrink the image while it stays at least as large as needed; `box` shrinks too.

    A JPEG yields a half, a quarter or an eighth of its size for about half of the work; on
    photographs the result differs from a full decode by less than one grey level on average.
    """
    width = image.width
    whole = image.width * size[0] / (box[2] - box[0]), image.height * size[1] / (box[3] - box[1])
    drafted = image.draft(None, (max(1, int(whole[0])), max(1, int(whole[1]))))
    if drafted is None:
        return box
    factor = width / drafted[1][2]
    return tuple(edge / factor for edge in box)


def _eight_bits(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """The image in mode L or RGB."""
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, background)
        canvas.paste(image, mask=image)
        return canvas
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _notes(image: Image.Image) -> tuple[str, ...]:
    notes = []
    if image.mode == "CMYK":
        notes.append("CMYK colours, converted to RGB without a colour profile")
    if getattr(image, "is_animated", False):
        notes.append("an animation, of which only the first frame counts")
    return tuple(notes)

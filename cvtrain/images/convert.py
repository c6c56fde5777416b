"""Convert image files that the decoder does not read to PNG.

Only `cvtrain data convert` uses this module: each of Pillow's formats runs more native code on
the content of a file, so it is read only where a user asks for the conversion of a folder.
"""

import io
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from cvtrain.images.decode import largest_size
from cvtrain.images.file_types import EXPORT, EXTRAS, READERS, Convertible, DecodeError
from cvtrain.system.text import reason_of

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF 6.0, section 8
_LARGEST = 65_535


class Converted(NamedTuple):
    """One image as PNG.

    Attributes:
        content: The PNG file: upright, with as many bits as the original, 8 or 16.
        num_pages: Number of pages or frames of the original; the first one is converted.
    """

    content: bytes
    num_pages: int


def to_png(content: bytes, kind: str) -> Converted:
    """Convert one image file.

    An image of more than 50 million pixels is reduced to a half, a quarter or an eighth of its
    size.

    Args:
        content: Bytes of the file.
        kind: Its format, as in `Convertible.kind`.

    Raises:
        DecodeError: The file is damaged, the extra that reads it is not installed, or PNG cannot
            hold its values.
    """
    try:
        pixels, num_pages = _NOT_PILLOW.get(kind, _read)(content, kind)
    except (DecodeError, MemoryError):
        raise
    except ImportError as error:
        what = f"{kind} file, which cvtrain reads with its extra {EXTRAS[kind]}"
        raise Convertible(kind, what) from error
    except UnidentifiedImageError as error:
        raise DecodeError(f"{kind} file that is damaged, or of a rare kind", EXPORT) from error
    except Exception as error:  # on damaged bytes these libraries raise nearly anything
        what = f"{kind} file that cannot be converted ({reason_of(error)})"
        raise DecodeError(what, EXPORT) from error
    height, width = largest_size(*pixels.shape[:2])
    if (height, width) != pixels.shape[:2]:
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    if pixels.ndim == 3:
        to_bgr = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
        pixels = cv2.cvtColor(pixels, to_bgr)
    return Converted(cv2.imencode(".png", pixels)[1].tobytes(), num_pages)


def _read(content: bytes, kind: str) -> tuple[np.ndarray, int]:
    """uint8 or uint16, (height, width) or RGB(A), and the number of pages."""
    with Image.open(io.BytesIO(content), formats=[READERS.get(kind, kind)]) as image:
        num_pages = getattr(image, "n_frames", 1) if kind in ("TIFF", "AVIF") else 1
        if isinstance(image, TiffImageFile):
            bits = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))
            if len(bits) > 1 and max(bits) > 8:  # Pillow keeps 8 of them
                return _sixteen_bit_colours(content), num_pages
        image.draft(None, largest_size(image.height, image.width)[::-1])
        pixels = _pixels(ImageOps.exif_transpose(image))
        if pixels.dtype == np.uint16 and _is_negative(image):
            pixels = _LARGEST - pixels
        return pixels, num_pages


def _is_negative(image: Image.Image) -> bool:
    """Whether low values are white, which Pillow inverts only in files of 8 bits."""
    return isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _pixels(image: Image.Image) -> np.ndarray:
    if image.mode == "F":
        raise DecodeError("holds fractions", f"Store whole numbers, 0 to {_LARGEST:,}.")
    if image.mode.startswith("I"):
        return _whole_numbers(np.asarray(image))
    if image.has_transparency_data:
        return np.asarray(image.convert("RGBA"))
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))


def _whole_numbers(values: np.ndarray) -> np.ndarray:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > _LARGEST:
        raise DecodeError(
            f"holds values from {low:,} to {high:,}",
            f"Store them as 0 to {_LARGEST:,}, which is what a PNG can hold.",
        )
    return values.astype(np.uint16)


def _sixteen_bit_colours(content: bytes) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.shape[2:] not in ((3,), (4,)):
        raise DecodeError("has colours of a kind that cannot be converted", EXPORT)
    to_rgb = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return cv2.cvtColor(pixels, to_rgb)


def _read_heif(content: bytes, _kind: str) -> tuple[np.ndarray, int]:
    import pillow_heif

    file = pillow_heif.open_heif(io.BytesIO(content), convert_hdr_to_8bit=True)
    return _pixels(file.to_pillow()), len(file)  # libheif applies the orientation


def _read_dicom(content: bytes, _kind: str) -> tuple[np.ndarray, int]:
    """First frame and number of frames; grey as measured, plus 32,768 if it may be negative."""
    import pydicom
    from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

    dataset = pydicom.dcmread(io.BytesIO(content))
    values = pixel_array(dataset, index=0)
    num_frames = int(dataset.get("NumberOfFrames") or 1)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)
    if values.ndim == 3:
        return values, num_frames
    if dataset.PhotometricInterpretation == "MONOCHROME1":  # low values are white
        values = (1 << dataset.BitsStored) - 1 - dataset.PixelRepresentation - values
    slope = float(dataset.get("RescaleSlope", 1))
    if slope < 1:
        raise DecodeError(f"DICOM file that measures in steps of {slope:g}", EXPORT)
    is_signed = dataset.PixelRepresentation or float(dataset.get("RescaleIntercept", 0)) < 0
    offset = 32_768 if is_signed else 0
    measured = np.rint(apply_modality_lut(values, dataset)).astype(np.int64) + offset
    return _whole_numbers(measured), num_frames


_NOT_PILLOW = {"HEIC": _read_heif, "DICOM": _read_dicom}

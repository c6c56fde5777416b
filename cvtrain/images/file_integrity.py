"""Check the structure of JPEG and PNG files before they are decoded.

Decoders are tolerant: libjpeg fills in missing data with grey, and Pillow ignores the checksums of
the pixels of a PNG. Such files must not be trained on silently. Metadata of a PNG (texts, profiles,
further frames) is removed, because it is not needed and can be made to fill the memory.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from cvtrain.images.file_types import EXPORT, REPLACE, Convertible, DecodeError, too_large
from cvtrain.system.text import escape

_MOST_CHUNKS = 100_000  # libpng writes one for each 8 KiB
_MOST_SCANS = 100  # progressive files have about ten; each costs a pass over all coefficients

_MOST_COEFFICIENTS = 200_000_000  # 400 MB; what 50 million pixels of CMYK take

_MAKE_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"IEND"}
_KINDS_OF_JPEG = {0xC3: "lossless JPEG", 0xF7: "JPEG-LS"}
_KINDS_OF_JPEG |= dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical JPEG")
_KINDS_OF_JPEG[0xCB] = "lossless JPEG"
_READ_JPEGS = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_PROGRESSIVE = {0xC2, 0xCA}
_WITHOUT_LENGTH = {bytes([code]) for code in (0x00, 0x01, *range(0xD0, 0xD9), 0xFF)}
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")


class Png(NamedTuple):
    """A PNG file whose checksums are right.

    Attributes:
        content: The file, reduced to the chunks of its pixels and its EXIF block.
        is_animated: Whether it has more than one frame; `content` holds the first one.
    """

    content: bytes
    is_animated: bool


def read_png(content: bytes) -> Png:
    """Check the chunks of a PNG file (https://www.w3.org/TR/png-3/#5DataRep).

    Raises:
        DecodeError: The file is truncated, a checksum is wrong, or a critical chunk is unknown.
    """
    kept: list[bytes | memoryview] = [content[:8]]
    num_frames = 1
    for kind, chunk in _chunks(content):
        if kind in _MAKE_PIXELS:
            kept.append(chunk)
        elif kind == b"acTL" and len(chunk) == 20:
            num_frames = int.from_bytes(chunk[8:12])
        elif kind[0] & 0x20 == 0:  # a critical chunk, which a decoder has to know
            name = escape(kind.decode("latin-1"))
            raise DecodeError(f"PNG file of an unknown kind (its {name} part)", EXPORT)
    return Png(b"".join(kept), num_frames > 1)


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield (type, whole chunk) up to the last one."""
    view = memoryview(content)
    start, kind = 8, b""
    for _ in range(_MOST_CHUNKS):
        if kind == b"IEND":
            return
        length, kind = struct.unpack(">L4s", view[start : start + 8].tobytes().ljust(8, b"\0"))
        end = start + 12 + length
        if end > len(content):
            raise DecodeError("damaged PNG file (it is cut off)", REPLACE)
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            name = escape(kind.decode("latin-1"))
            what = f"the checksum of its {name} part at byte {start} is wrong"
            raise DecodeError(f"damaged PNG file ({what})", REPLACE)
        yield kind, view[start:end]
        start = end
    raise Convertible("PNG", f"PNG file of more than {_MOST_CHUNKS:,} parts")


def check_jpeg(content: bytes) -> None:
    """Check the markers of a JPEG file (ITU-T T.81, annex B) as far as that is cheap.

    Raises:
        DecodeError: The file is truncated, restart markers are missing, it has too many or too
            large scans, or its process is not supported.
    """
    frame, interval, scan, is_progressive = b"", 0, len(content), False
    for marker, start, segment in _segments(content):
        if marker == 0xDA:
            scan = start
            _check_coefficients(frame, is_progressive or segment[:1] != frame[5:6])
        elif marker == 0xDD and len(segment) == 2:
            interval = int.from_bytes(segment)
        elif kind := _KINDS_OF_JPEG.get(marker):
            raise DecodeError(f"{kind} file, which cvtrain does not read", EXPORT)
        elif marker in _READ_JPEGS:
            frame = segment if len(segment) > 7 else b""  # up to the first component
            is_progressive = marker in _PROGRESSIVE
            if segment[:1] not in (b"", b"\x08"):
                raise DecodeError(
                    f"JPEG file of {segment[0]} bits, of which cvtrain reads 8", EXPORT
                )
    end = content.rfind(b"\xff\xd9", scan)  # the last one, which is found fast
    if end < 0:
        raise DecodeError("damaged JPEG file (it is cut off)", REPLACE)
    num_scans = content.count(b"\xff\xda", scan, end)
    if num_scans > 1 or interval:  # data after the image, such as a video, may look like scans
        end = content.find(b"\xff\xd9", scan)
        num_scans = content.count(b"\xff\xda", scan, end)
    if num_scans > _MOST_SCANS:
        raise Convertible("JPEG", f"JPEG file of more than {_MOST_SCANS} scans")
    if interval and num_scans == 1 and frame:
        expected = (_num_units(frame) - 1) // interval
        found = len(_RESTART.findall(content, scan, end))
        if found != expected:
            what = f"{found} of its {expected} restart markers are there"
            raise DecodeError(f"damaged JPEG file ({what})", REPLACE)


def _check_coefficients(frame: bytes, has_scans: bool) -> None:
    """Raise DecodeError for a JPEG of several scans that is too large."""
    if has_scans and frame:  # libjpeg holds all coefficients in memory, at any output size
        num_blocks = sum(wide * high for wide, high in _sampling(frame)) * _num_units(frame)
        if num_blocks * 64 > _MOST_COEFFICIENTS:
            most = f"{_MOST_COEFFICIENTS // 500_000} MB"
            num_pixels = int.from_bytes(frame[1:3]) * int.from_bytes(frame[3:5])
            what = f"JPEG of several scans that takes more than {most}"
            raise too_large("JPEG", num_pixels, what)


def _segments(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (marker, start, content) up to the first scan; skip invalid data, as libjpeg does."""
    start = 2
    while (start := content.find(b"\xff", start)) >= 0:
        marker = content[start + 1 : start + 2]
        if marker in _WITHOUT_LENGTH:
            start += 1
            continue
        length = int.from_bytes(content[start + 2 : start + 4])
        end = start + 2 + length
        if not marker or length < 2 or end > len(content):
            return
        yield marker[0], start, content[start + 4 : end]
        if marker == b"\xda":
            return
        start = end


def _num_units(frame: bytes) -> int:
    """Number of minimum coded units (MCUs) in a scan of all components, by the frame header."""
    height, width = struct.unpack_from(">HH", frame, 1)
    wide, high = map(max, zip(*_sampling(frame), strict=True))
    return -(-width // (8 * wide)) * -(-height // (8 * high))


def _sampling(frame: bytes) -> list[tuple[int, int]]:
    """Number of 8 x 8 blocks of each component in one MCU, across and down."""
    if frame[5] < 2:  # one component is coded block by block, whatever its sampling factors
        return [(1, 1)]
    return [(max(1, byte >> 4), max(1, byte & 15)) for byte in frame[7 : 7 + 3 * frame[5] : 3]]

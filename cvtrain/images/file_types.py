"""Recognize the format of a file by its first bytes, not by its name."""

import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from cvtrain.errors import DataError
from cvtrain.system.text import escape, shell_quote

REPLACE = "Replace it by an intact copy."
EXPORT = "Export it as JPEG or PNG with a program that opens it."
CONVERT = "Convert the folder: "
_REMOVE = "Remove it, or replace it."
_MOST_CONVERTED = 178_956_970  # pixels; Pillow refuses larger images as an attack

_READ = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
}
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}  # sizes of the second header in bytes
_IMAGES = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"II\xbc\x01": "JPEG XR",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS": "Photoshop",
    b"gimp xcf": "GIMP",
    b"\0\0\1\0": "Windows icon",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"#?RGBE": "Radiance HDR",
    b"PF\n": "PFM",
    b"Pf\n": "PFM",
    b"P7\n": "PAM",
    b"qoif": "QOI",
    b"DDS ": "DDS",
    b"\x01\xda\0\1": "SGI",
    b"\x01\xda\1\1": "SGI",
    b"BPG\xfb": "BPG",
    b"FLIF": "FLIF",
    b"SIMPLE  =": "FITS",
    b"NRRD000": "NRRD",
    b"AT&TFORM": "DjVu",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"\xd7\xcd\xc6\x9a": "Windows metafile",
    b"IIRO": "camera raw",  # Olympus
    b"IIRS": "camera raw",
    b"MMOR": "camera raw",
    b"IIU\0": "camera raw",  # Panasonic
    b"FUJIFILMCCD-RAW": "camera raw",
    b"FOVb": "camera raw",  # Sigma
    b"\0MRM": "camera raw",  # Minolta
    b"II\x1a\0\0\0HEAPCCDR": "camera raw",  # old Canon cameras
}
# Among photographs, these count as images only if they have the suffix of an image.
_DOCUMENTS = {
    *("Photoshop", "GIMP", "Windows icon", "Windows metafile", "DjVu", "PDF", "PostScript", "SVG"),
    *("camera raw", "TGA", "PCX"),  # the last two cannot be recognized reliably
}
_BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
    "Canon raw": (b"crx ",),
}
_PNM = re.compile(rb"P([1-6])\s(?:\s|#[^\n]*\n)*\d")
_NAMES_OF_PNM = {b"1": "PBM", b"2": "PGM", b"3": "PPM", b"4": "PBM", b"5": "PGM", b"6": "PPM"}

READERS = {
    "AVIF": "AVIF",
    "DDS": "DDS",
    "JPEG 2000": "JPEG2000",
    "PBM": "PPM",
    "PCX": "PCX",
    "PGM": "PPM",
    "PPM": "PPM",
    "Photoshop": "PSD",
    "QOI": "QOI",
    "SGI": "SGI",
    "TGA": "TGA",
    "TIFF": "TIFF",
    "Windows icon": "ICO",
}
"""Formats that only `data convert` reads -> Pillow's names of them."""

EXTRAS = {"DICOM": "dicom", "HEIC": "heif"}
"""Formats -> extras of cvtrain that read them."""

_OTHERS = {
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"\x7fELF": "a program",
    b"\x1aE\xdf\xa3": "a video",
    b"\0\0\1\xba": "a video",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"MATLAB 5.0 MAT-file": "a MATLAB file",
    b"SQLite format 3\0": "a database",
}
HEAD_BYTES = 1024
"""Number of first bytes of a file that are enough to recognize it."""

_BLANK = b"\xef\xbb\xbf \t\r\n"  # byte order mark and white space

# Types of whole numbers in TIFF 6.0, section 2, as `struct` calls them.
_NUMBERS = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l"}


class DecodeError(DataError):
    """One file is not a usable image; the message does not name the file."""


class Convertible(DecodeError):
    """One file is an image that only `cvtrain data convert` reads.

    Attributes:
        kind: Its format, as in `READERS` and `EXTRAS`.
    """

    def __init__(self, kind: str, message: str):
        extra = EXTRAS.get(kind)
        install = f"pip install 'cvtrain[{extra}]' && " if extra else ""
        super().__init__(message, f"{CONVERT}{install}cvtrain data convert FOLDER")
        self.kind = kind


def too_large(kind: str, num_pixels: int, message: str) -> DecodeError:
    """Error for an image of `num_pixels` pixels that needs too much memory."""
    if num_pixels <= _MOST_CONVERTED:
        return Convertible(kind, message)
    return DecodeError(message, "Store it in a smaller size.")


def kind_of(content: bytes) -> str:
    """Format of a file: JPEG, PNG, BMP, GIF or WEBP.

    Raises:
        Convertible: The file is an image of another format that can be converted.
        DecodeError: The file is anything else; the message says what.
    """
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    if kind := _beginning(content, _READ):
        return kind
    if kind := _image(content):
        message = f"{kind} file, which cvtrain does not read"
        if kind in READERS or kind in EXTRAS:
            raise Convertible(kind, message)
        raise DecodeError(message, EXPORT)
    if content.startswith(b"version https://git-lfs"):
        raise DecodeError("Git LFS pointer instead of the image", "Fetch it with: git lfs pull")
    if content.startswith(b"\x89PNG") or b"\x89PNG".startswith(content[:4] or b"?"):
        raise DecodeError("damaged PNG file (its first bytes were changed, as if text)", REPLACE)
    if not content.strip(b"\0"):
        raise DecodeError(f"{len(content)} zero bytes" if content else "empty file", REPLACE)
    raise DecodeError(f"no image but {_other(content[:1024])}", _REMOVE)


def is_photograph(head: bytes) -> bool:
    """Whether a file that begins with `head` (`HEAD_BYTES`) is an image, readable or not.

    Documents, drawings and project files of image editors are not.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return True
    kind = _beginning(head, _READ) or _image(head)
    if kind == "BMP":  # a text may begin with the same two letters
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    return bool(kind) and kind not in _DOCUMENTS


def advice_in(folder: Path, advice: str) -> str:
    """Advice on a file below `folder`, with the name of the folder in the command."""
    if not advice.startswith(CONVERT):
        return advice
    return advice.removesuffix("FOLDER") + shell_quote(folder)


def none_readable(folder: Path, errors: Mapping[str, DecodeError]) -> DataError:
    """Error for a folder without readable files: the most frequent problem, with an example.

    Args:
        folder: The folder of the files.
        errors: The error of each file, by path.
    """
    (commonest, _), *_ = Counter(error.message for error in errors.values()).most_common(1)
    path, error = next(each for each in errors.items() if each[1].message == commonest)
    is_intact = error.advice not in (REPLACE, _REMOVE)
    return DataError(
        f"{escape(folder)}: of {len(errors):,} files none can be read; "
        f"{escape(path)}: {error.message}",
        advice_in(folder, error.advice) if is_intact else "Name a folder of intact images.",
    )


def tiff_numbers(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield (tag, value) of the integers in the first directory of a TIFF file or an EXIF block.

    An array counts by its first number, if it is in the directory itself. A damaged directory ends
    the iteration.
    """
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None:
        return
    try:
        (directory,) = struct.unpack_from(order + "L", content, 4)
        (num_entries,) = struct.unpack_from(order + "H", content, directory)
        for entry in range(directory + 2, directory + 2 + 12 * num_entries, 12):
            tag, kind, count = struct.unpack_from(order + "HHL", content, entry)
            number = order + _NUMBERS.get(kind, "0s")  # of size 0, and therefore skipped
            if 0 < count * struct.calcsize(number) <= 4:
                yield tag, struct.unpack_from(number, content, entry + 8)[0]
    except struct.error:
        return


def _image(content: bytes) -> str:
    """Format of an image that the decoder does not read; empty for anything else."""
    kind = _beginning(content, _IMAGES) or _brand(content) or _drawing(content[:1024])
    if kind == "TIFF" and _is_raw(content):
        return "camera raw"
    if kind:
        return kind
    if match := _PNM.match(content[:1024]):
        return _NAMES_OF_PNM[match[1]]
    if content[128:132] == b"DICM":
        return "DICOM"
    if content[344:348] in (b"n+1\0", b"ni1\0") or content[4:8] in (b"n+2\0", b"ni2\0"):
        return "NIfTI"
    if content[:1] == b"\n" and len(content) > 128 and content[1] in (0, 2, 3, 4, 5):
        return "PCX" if content[2] == 1 and content[3] in (1, 2, 4, 8) else ""
    return "TGA" if _is_tga(content) else ""


def _beginning(content: bytes, signatures: dict[bytes, str]) -> str:
    return next((name for start, name in signatures.items() if content.startswith(start)), "")


def _brand(content: bytes) -> str:
    """Format of an image in an ISO base media file (ISO/IEC 14496-12); empty for others."""
    if content[4:8] != b"ftyp":
        return ""
    found = content[8:40]
    return next((n for n, brands in _BRANDS.items() if any(b in found for b in brands)), "")


def _drawing(head: bytes) -> str:
    return "SVG" if head.lstrip(_BLANK).startswith(b"<") and b"<svg" in head else ""


def _is_raw(tiff: bytes) -> bool:
    """Whether a TIFF file is a camera raw file, whose first image is a small preview."""
    numbers = dict(tiff_numbers(tiff))
    is_preview = numbers.get(0x00FE, 0) & 1  # NewSubfileType
    return bool(is_preview or 0xC612 in numbers or tiff[8:10] == b"CR")  # DNGVersion; Canon


def _is_tga(content: bytes) -> bool:
    if content[-18:] == b"TRUEVISION-XFILE.\0":  # optional, and TGA has no other signature
        return True
    if len(content) <= 18:
        return False
    has_map, kind, map_entry, depth = content[1], content[2], content[7], content[16]
    width, height = struct.unpack_from("<HH", content, 12)
    if kind in (1, 9):
        fits = has_map == 1 and depth in (8, 16) and map_entry in (15, 16, 24, 32)
    else:
        depths = {2: (15, 16, 24, 32), 3: (8, 16), 10: (15, 16, 24, 32), 11: (8, 16)}
        fits = has_map == 0 and depth in depths.get(kind, ()) and not any(content[3:8])
    return fits and width > 0 < height and content[17] & 0xC0 == 0


def _other(head: bytes) -> str:
    if kind := _beginning(head, _OTHERS):
        return kind
    if head[4:8] == b"ftyp" or head[8:12] == b"AVI ":
        return "a video"
    if b"\0" in head:
        return "an unknown format"
    text = head.lstrip(_BLANK)
    if text.startswith(b"<"):
        return "HTML or XML"
    if text.startswith((b"{", b"[")):
        return "JSON"
    is_text = all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)
    return "text" if is_text else "an unknown format"

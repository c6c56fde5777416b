"""What a file really is, by its first bytes, whatever it is called."""

from cvtrain.errors import DataError

REPLACE = "Replace it by an intact copy."
CONVERT = "Convert it to JPEG or PNG, for example with ImageMagick: magick FILE FILE.png"
_REMOVE = "Remove it, or replace it."

_READ = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
}
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}  # bytes of the second header, by version
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
    b"qoif": "QOI",
    b"AT&TFORM": "DjVu",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
}
# Texts, drawings and the working files of programs: beside photographs they are no data.
_DOCUMENTS = {"Photoshop", "GIMP", "Windows icon", "DjVu", "PDF", "PostScript"}
_BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
    "Canon raw": (b"crx ",),
}
_OTHERS = {
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"\x7fELF": "a program",
    b"\x1aE\xdf\xa3": "a video",
    b"\0\0\1\xba": "a video",
    b"\x93NUMPY": "a NumPy array",
}
HEAD_BYTES = 1024
"""How many of the first bytes of a file tell what it is."""

_BLANK = b"\xef\xbb\xbf \t\r\n"  # a byte order mark among it


class DecodeError(DataError):
    """One file is not a usable image; the message says what it is, without the file's name."""


def kind_of(content: bytes) -> str:
    """JPEG, PNG, BMP, GIF or WEBP.

    Raises:
        DecodeError: it is none of them; the message says what it is.
    """
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    if kind := _beginning(content, _READ):
        return kind
    if kind := _beginning(content, _IMAGES) or _brand(content) or _drawing(content[:1024]):
        raise DecodeError(f"{kind} file, which cvtrain does not read", CONVERT)
    if content.startswith(b"version https://git-lfs"):
        raise DecodeError("Git LFS pointer instead of the image", "Fetch it with: git lfs pull")
    if content.startswith(b"\x89PNG") or b"\x89PNG".startswith(content[:4] or b"?"):
        raise DecodeError("damaged PNG file (its first bytes were changed, as if text)", REPLACE)
    if not content.strip(b"\0"):
        raise DecodeError(f"{len(content)} zero bytes" if content else "empty file", REPLACE)
    raise DecodeError(f"no image but {_other(content[:1024])}", _REMOVE)


def is_photograph(head: bytes) -> bool:
    """Whether a file that begins with `head` (`HEAD_BYTES`) is an image, readable or not.

    Documents, drawings and the working files of image editors are none.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return True
    kind = _beginning(head, _READ) or _beginning(head, _IMAGES) or _brand(head)
    if kind == "BMP":  # two letters, with which a text may begin as well
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    return bool(kind) and kind not in _DOCUMENTS


def _beginning(content: bytes, signatures: dict[bytes, str]) -> str:
    return next((name for start, name in signatures.items() if content.startswith(start)), "")


def _brand(content: bytes) -> str:
    """Which image stands in a container of ISO's base media format (ISO/IEC 14496-12), if any."""
    if content[4:8] != b"ftyp":
        return ""
    found = content[8:40]
    return next((n for n, brands in _BRANDS.items() if any(b in found for b in brands)), "")


def _drawing(head: bytes) -> str:
    return "SVG" if head.lstrip(_BLANK).startswith(b"<") and b"<svg" in head else ""


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

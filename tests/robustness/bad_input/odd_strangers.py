"""Images of formats that are not read, and files that are no images, under the names of images."""

import gzip
import io
import struct
import zipfile
from collections.abc import Iterator

import numpy as np
from odd_others import INTACT
from picture import Row, smooth
from PIL import Image

CONVERT = {"advice": "data convert"}
EXPORT = {"advice": "Export it as JPEG or PNG"}
REMOVE = {"advice": "Remove it, or replace it"}


def encoded(format: str, *, mode: str = "RGB", **options) -> bytes:
    image = Image.fromarray(smooth())
    stream = io.BytesIO()
    (image if mode == "RGB" else image.convert("L").convert(mode)).save(stream, format, **options)
    return stream.getvalue()


def box(brand: bytes, *more: bytes) -> bytes:
    """The beginning of a file of ISO's base media format."""
    brands = brand + bytes(4) + b"".join(more)
    return struct.pack(">L", 8 + len(brands)) + b"ftyp" + brands + bytes(200)


def photoshop() -> bytes:
    """One red pixel (https://www.adobe.com/devnet-apps/photoshop/fileformatashtml/)."""
    head = struct.pack(">4sH6xHLLHH", b"8BPS", 1, 3, 1, 1, 8, 3)
    return head + bytes(12) + struct.pack(">H", 0) + b"\xff\0\0"


def raw(tag: int, *, kind: int, value: int, order: str = "<") -> bytes:
    """A TIFF file of one entry, as cameras begin theirs."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    packed = struct.pack(order + {1: "B", 4: "L"}[kind], value)
    entry = struct.pack(order + "HHL", tag, kind, 1) + packed.ljust(4, b"\0")
    return mark + struct.pack(order + "LH", 8, 1) + entry + bytes(99)


def strangers() -> Iterator[Row]:
    """Images of other kinds, and what is none, all of them under the name of an image."""
    converted = {
        "tiff.jpg": ("TIFF", encoded("TIFF")),
        "tiff-be.jpg": ("TIFF", encoded("TIFF", mode="I;16B")),
        "bigtiff.png": ("TIFF", encoded("TIFF", big_tiff=True)),
        "avif.jpg": ("AVIF", encoded("AVIF")),
        "photo.jp2": ("JPEG 2000", encoded("JPEG2000")),
        "jpeg2000-stream.jpg": ("JPEG 2000", encoded("JPEG2000", no_jp2=True)),
        "icon.png": ("Windows icon", encoded("ICO", sizes=[(24, 16)])),
        "pixels.jpg": ("PPM", encoded("PPM")),
        "grey-pixels.jpg": ("PGM", b"P2 # made by hand\n3 2\n# whose\n9\n1 2 3 4 5 6\n"),
        "bits.jpg": ("PBM", encoded("PPM", mode="1")),
        "targa.jpg": ("TGA", encoded("TGA")),
        "targa-rle.jpg": ("TGA", encoded("TGA", mode="L", compression="tga_rle")),
        "targa-old.jpg": ("TGA", encoded("TGA")[:-26]),
        "paintbrush.jpg": ("PCX", encoded("PCX")),
        "silicon.jpg": ("SGI", encoded("SGI")),
        "surface.jpg": ("DDS", encoded("DDS")),
        "qoi.jpg": ("QOI", encoded("QOI")),
        "photoshop.png": ("Photoshop", photoshop()),
    }
    for name, (kind, content) in converted.items():
        yield Row(name, content, bad=f"{kind} file, which cvtrain does not read", **CONVERT)
    damaged = {
        "tiff-begun.jpg": ("TIFF", b"MM\0*\0\0\0\x08" + bytes(99)),
        "avif-of-mif1.jpg": ("AVIF", box(b"mif1", b"avif", b"miaf")),
        "jpeg2000-begun.jpg": ("JPEG 2000", b"\xff\x4f\xff\x51" + bytes(99)),
    }
    for name, (kind, content) in damaged.items():
        yield Row(name, content, bad=f"{kind} file, which cvtrain does not read", **CONVERT)
    of_extras = {
        "IMG_0001.HEIC": ("HEIC", "heif", box(b"heic", b"mif1", b"heic")),
        "heic.jpg": ("HEIC", "heif", box(b"heix", b"mif1")),
        "scan.dcm.jpg": ("DICOM", "dicom", bytes(128) + b"DICM" + bytes(99)),
    }
    for name, (kind, extra, content) in of_extras.items():
        advice = f"pip install 'cvtrain[{extra}]' && cvtrain data convert "
        yield Row(name, content, bad=f"{kind} file, which cvtrain does not read", advice=advice)
    exported = {
        "photo.jxl": ("JPEG XL", b"\xff\x0a\xfa\x7f" + bytes(99)),
        "jxl-box.png": ("JPEG XL", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99)),
        "jpeg-xr.jpg": ("JPEG XR", b"II\xbc\x01" + bytes(99)),
        "gimp.png": ("GIMP", b"gimp xcf v011" + bytes(99)),
        "canon.jpg": ("Canon raw", box(b"crx ", b"isom")),
        "canon-2.jpg": ("camera raw", b"II*\0\x10\0\0\0CR\2\0" + bytes(99)),
        "negative.jpg": ("camera raw", raw(0xC612, kind=1, value=1)),
        "nikon.jpg": ("camera raw", raw(0xFE, kind=4, value=1)),
        "nikon-be.jpg": ("camera raw", raw(0xFE, kind=4, value=1, order=">")),
        "olympus.jpg": ("camera raw", b"IIRO\x08\0\0\0" + bytes(99)),
        "fuji.jpg": ("camera raw", b"FUJIFILMCCD-RAW 0201" + bytes(99)),
        "panorama.jpg": ("Radiance HDR", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n"),
        "floats.jpg": ("PFM", b"PF\n2 2\n-1.0\n" + bytes(48)),
        "any-map.jpg": ("PAM", b"P7\nWIDTH 2\nHEIGHT 2\nDEPTH 1\nMAXVAL 9\nENDHDR\n" + bytes(4)),
        "sky.jpg": ("FITS", b"SIMPLE  =                    T" + b" " * 99),
        "brain.jpg": ("NIfTI", struct.pack("<L", 348) + bytes(340) + b"n+1\0" + bytes(9)),
        "scan.jpg": ("PDF", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(99)),
        "drawing.png": ("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        "vector.jpg": ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n"),
    }
    for name, (kind, content) in exported.items():
        yield Row(name, content, bad=f"{kind} file, which cvtrain does not read", **EXPORT)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("1.jpg", b"x")
    others = {
        "page.jpg": ("HTML or XML", b"<!DOCTYPE html><html>404 Not Found</html>"),
        "feed.jpg": ("HTML or XML", b"\xef\xbb\xbf\n<?xml version='1.0'?><feed/>"),
        "answer.jpg": ("JSON", b'{"error": "rate limit exceeded"}'),
        "note.jpg": ("text", b"404: not found\n"),
        "archive.jpg": ("a ZIP archive", archive.getvalue()),
        "packed.jpg": ("a gzip archive", gzip.compress(b"x" * 99)),
        "program.jpg": ("a program", b"\x7fELF\2\1\1" + bytes(99)),
        "film.jpg": ("a video", box(b"isom", b"mp42")),
        "film-webm.gif": ("a video", b"\x1aE\xdf\xa3" + bytes(99)),
        "film-avi.gif": ("a video", b"RIFF\0\0\0\0AVI LIST" + bytes(99)),
        "array.png": ("a NumPy array", b"\x93NUMPY\1\0" + bytes(99)),
        "set.png": ("an HDF5 file", b"\x89HDF\r\n\x1a\n" + bytes(99)),
        "p6.jpg": ("text", b"P6 was the best of them\n"),
        "noise.png": ("an unknown format", np.random.default_rng(9).bytes(500)),
    }
    for name, (kind, content) in others.items():
        yield Row(name, content, bad=f"no image but {kind}", **REMOVE)
    yield Row("nothing.jpg", b"", bad="empty file", **INTACT)
    yield Row("zeros.jpg", bytes(5000), bad="5000 zero bytes", **INTACT)
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    yield Row("pointer.png", pointer, bad="Git LFS pointer", advice="git lfs pull")

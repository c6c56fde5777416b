"""Files of other formats, written byte by byte or by Pillow, and what the PNG of each holds."""

import io
import struct
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from cvtrain.images.convert import to_png
from cvtrain.images.decode import Decoder, stored_values
from cvtrain.images.file_types import Convertible, DecodeError, kind_of

SIZE = (12, 18)


def drawn(channels, dtype=np.uint8):
    most = np.iinfo(dtype).max
    return np.random.default_rng(channels).integers(0, most + 1, (*SIZE, channels), dtype)


def tiff(*pages, order="<", orientation=1, photometric=None, sample_format=1):
    """An uncompressed TIFF 6.0 file of pages (h, w, channels), one strip each."""
    content = bytearray((b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", 8))
    for number, page in enumerate(pages):
        height, width, channels = page.shape
        data = page.astype(page.dtype.newbyteorder(order)).tobytes()
        colours = 2 if channels >= 3 else 1
        bits = 8 * page.dtype.itemsize
        place = len(content) + 2 + 12 * 11 + 4
        entries = {
            (256, 4): width,
            (257, 4): height,
            (258, 3): bits if channels == 1 else place,
            (259, 3): 1,
            (262, 3): colours if photometric is None else photometric,
            (273, 4): place + 2 * channels,
            (274, 3): orientation,
            (277, 3): channels,
            (278, 4): height,
            (279, 4): len(data),
            (339, 3): sample_format,
        }
        content += struct.pack(order + "H", len(entries))
        for (tag, kind), value in entries.items():
            count = channels if tag == 258 else 1
            code = "L" if kind == 4 or count > 1 else "H"
            content += struct.pack(order + "HHL", tag, kind, count)
            content += struct.pack(order + code, value).ljust(4, b"\0")
        following = place + 2 * channels + len(data)
        content += struct.pack(order + "L", 0 if number == len(pages) - 1 else following)
        content += struct.pack(order + "H", bits) * channels + data
    return bytes(content)


def encoded(image, format, **options):
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(
        stream, format, **options
    )
    return stream.getvalue()


def converted(content):
    with pytest.raises(Convertible) as caught:
        kind_of(content)
    return to_png(content, caught.value.kind)


def pixels_of(content):
    """By OpenCV: uint8 or uint16 (h, w, channels), red first."""
    png = converted(content).content
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 2:
        return pixels[..., None]
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


TURN = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", TURN)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", "<>")
def test_a_tiff_stands_upright_and_keeps_its_bits(order, channels, dtype, orientation):
    pixels = drawn(channels, dtype)
    content = tiff(pixels, order=order, orientation=orientation)
    found = pixels_of(content)
    np.testing.assert_array_equal(found, TURN[orientation](pixels))
    assert found.dtype == dtype


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_where_white_is_zero_it_is_turned_over(dtype):
    pixels = drawn(1, dtype)
    content = tiff(pixels, photometric=0)
    np.testing.assert_array_equal(pixels_of(content), np.iinfo(dtype).max - pixels)


def test_of_several_pages_the_first_counts():
    pages = [np.full((*SIZE, 3), 50 + i, np.uint8) for i in range(3)]
    assert converted(tiff(*pages)).num_pages == 3
    assert (pixels_of(tiff(*pages)) == 50).all()
    assert converted(tiff(pages[0])).num_pages == 1


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I;16"])
def test_tiffs_of_every_mode(mode, compression):
    if mode == "I;16":
        image = Image.fromarray(drawn(1, np.uint16)[..., 0])
    elif mode in ("LA", "RGBA"):
        image = Image.fromarray(drawn(4)).convert(mode)
    else:
        image = Image.fromarray(drawn(3)).convert(mode)
    found = pixels_of(encoded(image, "TIFF", compression=compression))
    shown = {"1": "L", "LA": "RGBA", "P": "RGB", "CMYK": "RGB"}.get(mode, mode)
    expected = np.asarray(image if mode == "I;16" else image.convert(shown))
    np.testing.assert_array_equal(found, expected.reshape(found.shape))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (tiff(np.ones((*SIZE, 1), np.float32) / 3, sample_format=3), "holds fractions"),
        (tiff(np.full((*SIZE, 1), -7, np.int16), sample_format=2), "values from -7 to -7"),
        (tiff(np.full((*SIZE, 1), 70_000, np.uint32)), "values from 70,000 to 70,000"),
        (tiff(drawn(3))[:200], "damaged|cannot be converted"),
        (b"II*\0" + bytes(50), "damaged"),
        (encoded(drawn(3), "JPEG2000")[:300], "cannot be converted"),
    ],
)
def test_what_png_cannot_hold_is_refused_with_the_reason(content, what):
    with pytest.raises(DecodeError, match=what) as caught:
        converted(content)
    assert not isinstance(caught.value, Convertible)
    assert caught.value.advice


@pytest.mark.parametrize("format", ["PPM", "TGA", "SGI", "PCX", "QOI", "DDS"])
def test_formats_without_loss_give_the_very_pixels(format):
    np.testing.assert_array_equal(pixels_of(encoded(drawn(3), format)), drawn(3))


@pytest.mark.parametrize(("most", "scale"), [(255, 1), (4095, 65_535 / 4095), (65_535, 1)])
def test_a_pgm_has_all_its_levels(most, scale):
    values = np.linspace(0, most, 60).round().astype(int).reshape(6, 10)
    text = f"P2\n# by hand\n10 6\n{most}\n" + " ".join(map(str, values.ravel()))
    expected = np.round(values * scale)
    assert np.abs(pixels_of(text.encode())[..., 0] - expected).max() <= 1


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_avif_stands_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth = cv2.resize(drawn(3)[:3, :4], (48, 32), interpolation=cv2.INTER_CUBIC)
    found = pixels_of(encoded(smooth, "AVIF", quality=100, subsampling="4:4:4", exif=exif))
    expected = TURN[orientation](smooth)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 4


def test_what_is_too_large_is_made_smaller():
    gradient = Image.linear_gradient("L").resize((10_000, 5100))
    content = encoded(gradient, "BMP")
    with pytest.raises(Convertible, match="more than 50 million pixels"):
        Decoder((8, 8))(content)
    pixels = stored_values(to_png(content, "BMP").content)
    assert pixels.shape == (2550, 5000, 3)
    half = np.asarray(gradient.resize((5000, 2550), Image.Resampling.BOX)).astype(int)
    assert np.abs(pixels[..., 0] - half).max() <= 1


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_stands_upright(orientation):
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth = cv2.resize(drawn(3)[:3, :4], (96, 64), interpolation=cv2.INTER_CUBIC)
    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(smooth)).save(
        stream, quality=100, chroma=444, exif=exif.tobytes()
    )
    found = pixels_of(stream.getvalue())
    expected = TURN[orientation](smooth)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 4


def dicom(values, *, bits=12, signed=False, photometric="MONOCHROME2", slope="1", intercept="0"):
    """A DICOM file (PS3.10) of one uncompressed grey frame, element by element."""

    def element(group, number, kind, value):
        if isinstance(value, int):
            value = struct.pack("<H", value)
        value = value if isinstance(value, bytes) else value.encode()
        value += (b"\0" if kind in ("UI", "OW") else b" ") * (len(value) % 2)
        head = struct.pack("<HH2s", group, number, kind.encode())
        long = kind == "OW"
        return head + struct.pack("<HL" if long else "<H", *([0] * long), len(value)) + value

    secondary = "1.2.840.10008.5.1.4.1.1.7"
    meta = element(2, 2, "UI", secondary) + element(2, 3, "UI", "1.2.3")
    meta += element(2, 0x10, "UI", "1.2.840.10008.1.2.1")
    length = struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(meta))
    body = [
        (8, 0x16, "UI", secondary),
        (0x28, 2, "US", 1),
        (0x28, 4, "CS", photometric),
        (0x28, 0x10, "US", values.shape[0]),
        (0x28, 0x11, "US", values.shape[1]),
        (0x28, 0x100, "US", 16),
        (0x28, 0x101, "US", bits),
        (0x28, 0x102, "US", bits - 1),
        (0x28, 0x103, "US", int(signed)),
        (0x28, 0x1052, "DS", intercept),
        (0x28, 0x1053, "DS", slope),
        (0x7FE0, 0x10, "OW", values.astype("<i2" if signed else "<u2").tobytes()),
    ]
    return bytes(128) + b"DICM" + length + meta + b"".join(element(*each) for each in body)


@pytest.mark.parametrize(
    ("low", "options", "expected"),
    [
        (0, {}, lambda v: v),
        (0, {"photometric": "MONOCHROME1"}, lambda v: 4095 - v),
        (0, {"intercept": "-1024"}, lambda v: v - 1024 + 32_768),  # Hounsfield units
        (-1024, {"signed": True, "bits": 16}, lambda v: v + 32_768),
        (0, {"slope": "2", "intercept": "10"}, lambda v: 2 * v + 10),
    ],
)
def test_dicom_has_its_values_as_they_are_measured(low, options, expected):
    pytest.importorskip("pydicom")
    values = np.linspace(low, low + 4095, 16 * 20).round().astype(int).reshape(16, 20)
    found = pixels_of(dicom(values, **options))
    np.testing.assert_array_equal(found[..., 0], expected(values))


def test_dicom_of_fractions_is_refused():
    pytest.importorskip("pydicom")
    with pytest.raises(DecodeError, match=r"measures in steps of 0\.001"):
        converted(dicom(np.zeros((4, 4), int), slope="0.001"))


@pytest.mark.parametrize(
    ("content", "extra"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heif"),
        (bytes(128) + b"DICM" + bytes(50), "dicom"),
    ],
)
def test_without_its_extra_a_format_is_told_how_to_install_it(content, extra, monkeypatch):
    for module in ("pillow_heif", "pydicom"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Convertible, match=f"with its extra {extra}") as caught:
        converted(content)
    assert f"pip install 'cvtrain[{extra}]' && cvtrain data convert FOLDER" in caught.value.advice

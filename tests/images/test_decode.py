import contextlib
import io
import json
import os
import random
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from cvtrain.images.decode import (
    MAX_JPEG_PIXELS,
    MAX_PIXELS,
    DecodeError,
    Decoder,
    largest_size,
    read_image,
)


def encoded(image, format="PNG", **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def ramp(height, width):
    """Red grows by one per column, green by one per row, so any resampling has a closed form."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, np.full_like(rows, 7)], axis=-1).astype(np.uint8)


def smooth(height, width):
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(9 * columns + 4 * rows + phase) for phase in range(3)]
    return np.rint(127.5 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)


def by_opencv(content):
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def differences(a, b):
    return np.abs(a.astype(int) - b.astype(int))


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "WEBP"])
def test_lossless_formats_give_the_very_pixels(format):
    image = smooth(20, 30) // 64 * 64  # few enough colours for a GIF
    options = {"lossless": True} if format == "WEBP" else {}
    decoded = Decoder((20, 30))(encoded(image, format, **options))
    np.testing.assert_array_equal(decoded.pixels, image)
    assert (decoded.format, decoded.width, decoded.height) == (format, 30, 20)
    assert decoded.notes == ()
    assert not decoded.pixels.flags.writeable


def test_jpeg_agrees_with_opencv():
    content = encoded(smooth(40, 56), "JPEG", quality=90)
    assert differences(Decoder((40, 56))(content).pixels, by_opencv(content)).max() <= 2


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize("factor", [2, 3, 5, 10])
def test_stretch_samples_the_centres_of_a_ramp(format, factor):
    height, width = 240 // factor, 180 // factor
    options = {"quality": 100, "subsampling": 0} if format == "JPEG" else {}
    pixels = Decoder((height, width))(encoded(ramp(240, 180), format, **options)).pixels
    rows, columns = np.mgrid[:height, :width] * factor + (factor - 1) / 2
    inner = np.s_[2:-2, 2:-2]
    assert differences(pixels[..., 0], columns)[inner].max() <= 2
    assert differences(pixels[..., 1], rows)[inner].max() <= 2


def test_crop_keeps_the_middle():
    pixels = Decoder((50, 50), resize="crop")(encoded(ramp(100, 200))).pixels
    columns = 50 + np.arange(50) * 2 + 0.5
    assert differences(pixels[10, :, 0], columns)[2:-2].max() <= 1
    assert differences(pixels[:, 10, 1], np.arange(50) * 2 + 0.5)[2:-2].max() <= 1


def test_pad_adds_a_border_of_the_background():
    decoder = Decoder((50, 50), resize="pad", background=(9, 8, 7))
    pixels = decoder(encoded(ramp(100, 200))).pixels
    border = np.broadcast_to(np.uint8([9, 8, 7]), (12, 50, 3))
    np.testing.assert_array_equal(pixels[:12], border)
    np.testing.assert_array_equal(pixels[38:], border[:12])
    assert differences(pixels[20, :, 0], np.arange(50) * 4 + 1.5)[2:-2].max() <= 1


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 5)])
def test_any_shape_becomes_the_size(resize, size):
    colour = np.full((*size, 3), (10, 20, 30), np.uint8)
    decoder = Decoder((24, 32), resize=resize, background=(10, 20, 30))
    for format in ("PNG", "BMP"):
        assert (decoder(encoded(colour, format)).pixels == (10, 20, 30)).all()
    assert decoder(encoded(colour, "JPEG")).pixels.shape == (24, 32, 3)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation, resize):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(ramp(60, 100), "JPEG", exif=exif, quality=98, subsampling=0)
    upright = by_opencv(content)
    decoded = Decoder(upright.shape[:2], resize=resize)(content)
    assert (decoded.height, decoded.width) == upright.shape[:2]
    assert differences(decoded.pixels, upright).max() <= 3
    as_png = encoded(ramp(60, 100), exif=exif)
    assert differences(Decoder(upright.shape[:2])(as_png).pixels, upright).max() <= 8


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x1a\0\x05\0\0\0\x01\xff\xff\xff\xff" * 3,
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0",
        b"Exif\0\0" * 10_000,
    ],
)
def test_damaged_exif_neither_warns_nor_fails(exif):
    image = smooth(16, 16)
    content = encoded(image, "JPEG", exif=exif, quality=100, subsampling=0)
    assert differences(Decoder((16, 16))(content).pixels, image).max() <= 3


def orientation_block(value, order, kind, *, count=1, prefix=b"Exif\0\0"):
    """An EXIF block of one entry, its value packed as TIFF 6.0 has it: in the first bytes."""
    packed = struct.pack(order + {1: "B", 2: "B", 3: "H", 4: "L", 7: "B", 9: "l"}[kind], value)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHL", 0x0112, kind, count) + packed.ljust(4, b"\0")
    return prefix + mark + struct.pack(order + "LH", 8, 1) + entry + bytes(4)


def shown(content, size):
    return Decoder(size)(content).pixels


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("kind", [1, 3, 4, 9], ids=["BYTE", "SHORT", "LONG", "SLONG"])
@pytest.mark.parametrize("order", "<>")
def test_orientation_is_read_in_every_type_of_whole_number(order, kind, format):
    image = smooth(24, 40)
    options = {"lossless": True} if format == "WEBP" else {"quality": 100, "subsampling": 0}
    for value in range(1, 9):
        content = encoded(image, format, exif=orientation_block(value, order, kind), **options)
        # Pillow applies them all but BYTE, which is compared with the same value as SHORT.
        known = orientation_block(value, order, 3 if kind == 1 else kind)
        stored = Image.open(io.BytesIO(encoded(image, format, exif=known, **options)))
        upright = np.asarray(ImageOps.exif_transpose(stored))
        assert differences(shown(content, upright.shape[:2]), upright).max() <= 2


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0", b"Exif\0\0Exif\0\0"])
@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_orientation_is_found_behind_any_prefix(format, prefix):
    content = bytearray(encoded(smooth(8, 12), "PNG"))
    block = orientation_block(6, ">", 4, prefix=prefix)
    if format == "PNG":  # Pillow would write no prefix
        chunk = b"eXIf" + block
        chunk = struct.pack(">L", len(block)) + chunk + struct.pack(">L", zlib.crc32(chunk))
        content[-12:-12] = chunk
    else:
        content = encoded(smooth(8, 12), "WEBP", lossless=True, exif=block)
    np.testing.assert_array_equal(shown(bytes(content), (12, 8)), np.rot90(smooth(8, 12), -1))


@pytest.mark.filterwarnings("ignore:Metadata Warning")  # of Pillow, about two values
@pytest.mark.parametrize(
    ("kind", "count", "turns"),
    [(3, 2, True), (3, 0, False), (3, 3, False), (4, 2, False), (2, 1, False), (7, 1, False)],
)
def test_orientation_of_odd_counts_and_types_is_what_pillow_makes_of_it(kind, count, turns):
    block = orientation_block(6, "<", kind, count=count)
    content = encoded(smooth(8, 12), "WEBP", lossless=True, exif=block)
    assert ImageOps.exif_transpose(Image.open(io.BytesIO(content))).size == (
        (8, 12) if turns else (12, 8)
    )
    upright = np.rot90(smooth(8, 12), -1) if turns else smooth(8, 12)
    np.testing.assert_array_equal(shown(content, upright.shape[:2]), upright)


def test_orientation_in_xmp_is_not_applied_as_in_opencv():
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
    content = encoded(smooth(8, 12), "JPEG", quality=100, subsampling=0, xmp=xmp)
    assert by_opencv(content).shape[:2] == (8, 12)
    assert differences(shown(content, (8, 12)), by_opencv(content)).max() <= 2


def cmyk_image(array):
    return Image.frombytes("CMYK", array.shape[1::-1], array.tobytes())


def with_adobe_transform(content, transform):
    """The same JPEG whose Adobe marker says 0: CMYK as it is, or 2: as YCCK."""
    place = content.index(b"Adobe")
    return content[: place + 11] + bytes([transform]) + content[place + 12 :]


@pytest.mark.parametrize("transform", [0, 2])
def test_cmyk_and_ycck_agree_with_opencv(transform):
    cmyk = np.dstack([smooth(32, 32) // 2, np.full((32, 32), 40, np.uint8)])
    content = encoded(cmyk_image(cmyk), "JPEG", quality=98)
    content = with_adobe_transform(content, transform)
    decoded = Decoder((32, 32))(content)
    assert "CMYK" in decoded.notes[0]
    assert differences(decoded.pixels, by_opencv(content)).max() <= 2


def test_cmyk_has_its_closed_form():
    inks = np.full((16, 16, 4), (51, 102, 0, 51), np.uint8)  # 0.2, 0.4, 0, 0.2 of full ink
    pixels = Decoder((16, 16))(encoded(cmyk_image(inks), "JPEG", quality=100)).pixels
    assert differences(pixels, 255 * 0.8 * np.array([0.8, 0.6, 1.0])).max() <= 2


def test_sixteen_bit_grey_is_scaled():
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16)
    content = cv2.imencode(".png", grey * 257)[1].tobytes()
    np.testing.assert_array_equal(Decoder((16, 16))(content).pixels[..., 1], grey)


def test_sixteen_bit_colour_is_scaled():
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16)
    content = cv2.imencode(".png", np.dstack([grey * 257] * 3))[1].tobytes()
    np.testing.assert_array_equal(Decoder((16, 16))(content).pixels[..., 1], grey)


def test_transparency_lies_on_the_background():
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[..., 0] = 200  # hidden where alpha is 0
    rgba[:, 4:, 3] = 51  # a fifth
    decoder = Decoder((8, 8), background=(0, 100, 50))
    for format in ("PNG", "WEBP"):
        options = {"lossless": True, "exact": True} if format == "WEBP" else {}
        pixels = decoder(encoded(rgba, format, **options)).pixels
        np.testing.assert_array_equal(pixels[:, :4], np.broadcast_to([0, 100, 50], (8, 4, 3)))
        assert differences(pixels[:, 4:], np.array([40, 80, 40])).max() <= 1


def test_palette_with_transparency_lies_on_the_background():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(0, (0, 0, 2, 4))
    for format in ("PNG", "GIF"):
        content = encoded(image, format, transparency=0)
        pixels = Decoder((4, 4), background=(1, 2, 3))(content).pixels
        assert (pixels[:, :2] == (1, 2, 3)).all()
        assert (pixels[:, 2:] == (0, 255, 0)).all()


def test_grey_with_alpha_and_one_bit():
    grey_alpha = Image.merge("LA", [Image.new("L", (4, 4), 80), Image.new("L", (4, 4), 0)])
    assert (Decoder((4, 4))(encoded(grey_alpha)).pixels == 255).all()
    bits = np.indices((8, 8)).sum(axis=0) % 2 == 1
    pixels = Decoder((8, 8))(encoded(bits)).pixels
    np.testing.assert_array_equal(pixels[..., 2], bits * 255)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_first_frame_of_an_animation(format):
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    content = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    decoded = Decoder((6, 6))(content)
    assert (decoded.pixels == (255, 0, 0)).all()
    assert "first frame" in decoded.notes[0]


def png_header(width, height, depth=8, colour=2):
    def chunk(kind, data):
        return (
            struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))
        )

    head = struct.pack(">LLBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("size", [(60_000, 60_000), (20_000, 20_000), (10_000, 10_000)])
def test_too_many_pixels_are_refused_from_the_header(size):
    for content in (png_header(*size), png_header(*size, depth=1, colour=0)):
        with pytest.raises(DecodeError, match="more than 50 million pixels"):
            Decoder((8, 8))(content)
    assert size[0] * size[1] > MAX_PIXELS


def gradient(width, height, **options):
    """A grey JPEG that gets brighter from left to right: 0 to 255."""
    across = Image.linear_gradient("L").transpose(Image.Transpose.ROTATE_90)
    large = across.resize((width, height), Image.Resampling.BILINEAR, (0, 0, 256, 1))
    return encoded(large, "JPEG", quality=95, **options)


@pytest.fixture(scope="module")
def large_photograph():
    """Of 61 million pixels, as cameras take them."""
    return gradient(9600, 6400)


@pytest.mark.parametrize(
    ("resize", "size", "first", "last"),
    [
        ("stretch", (16, 200), 0, 9600),  # libjpeg shrinks to an eighth
        ("stretch", (3000, 20), 0, 9600),  # to a half
        ("stretch", (3300, 20), 0, 9600),  # to a half all the same: all of it would be too much
        ("crop", (100, 100), 1600, 8000),
    ],
)
def test_a_large_jpeg_is_decoded_as_a_small_one(large_photograph, resize, size, first, last):
    decoded = Decoder(size, resize)(large_photograph)
    assert (decoded.width, decoded.height, decoded.notes) == (9600, 6400, ())
    places = first + (np.arange(size[1]) + 0.5) * (last - first) / size[1]
    expected = np.clip(places / 9600 * 256 - 0.5, 0, 255)  # Pillow samples at the centres
    assert differences(decoded.pixels[..., 0], np.rint(expected)).max() <= 2


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_panorama_is_decoded_though_one_side_is_short(options):
    content = gradient(60_000, 900, **options)
    pixels = Decoder((800, 120))(content).pixels  # half of 900 is less than 800
    expected = (np.arange(120) + 0.5) / 120 * 256 - 0.5
    assert differences(pixels[..., 0], np.rint(expected)).max() <= 2


def test_the_largest_size_is_that_of_a_draft():
    assert largest_size(5000, 10_000) == (5000, 10_000)
    assert largest_size(6400, 9600) == (3200, 4800)
    assert largest_size(65_500, 3053) == (32_750, 1527)
    assert largest_size(14_000, 14_285) == (7000, 7143)
    assert all(
        height * width <= MAX_PIXELS + 65_536
        for height, width in (largest_size(n, MAX_JPEG_PIXELS // n) for n in (4000, 9999, 60_000))
    )


def with_size(content, width, height):
    """The same JPEG whose header claims another size."""
    place = next(content.index(mark) for mark in (b"\xff\xc0", b"\xff\xc2") if mark in content)
    return content[: place + 5] + struct.pack(">HH", height, width) + content[place + 9 :]


@pytest.mark.parametrize(
    ("options", "megapixels", "what"),
    [
        ({}, 201, "more than 200 million pixels"),
        ({"progressive": True, "subsampling": 0}, 67, "several scans that takes more than 400 MB"),
        ({"progressive": True, "subsampling": 2}, 134, "several scans that takes more than 400 MB"),
    ],
)
def test_jpegs_that_would_take_too_much_memory_are_refused_from_the_header(
    options, megapixels, what
):
    content = with_size(encoded(smooth(16, 16), "JPEG", **options), 10_000, megapixels * 100)
    with pytest.raises(DecodeError, match=what):
        Decoder((8, 8))(content)
    if options:  # just below, it is taken at its word: nearly all of it is missing
        content = with_size(content, 10_000, megapixels * 100 - 100)
        assert "missing data" in Decoder((8, 8))(content).notes[0]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty file"),
        (bytes(500), "500 zero bytes"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"\xef\xbb\xbf\n<?xml version='1.0'?>", "XML"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"404: not found\n", "text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"\0\0\0\x1cftypavif\0\0\0\0mif1miaf", "AVIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0avifmiaf", "AVIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\xff\x0a\xfa\x7f", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04\0\0\0", "a ZIP archive"),
        (b"BM, said the text", "damaged BMP"),
        (b"GIF89a", "damaged GIF"),
        (b"\xff\xd8\xff", "damaged JPEG"),
    ],
)
def test_what_is_no_image_is_called_what_it_is(content, what):
    with pytest.raises(DecodeError, match=what) as caught:
        Decoder((8, 8))(content)
    assert caught.value.advice


def test_real_tiff_and_avif_are_refused():
    for format in ("TIFF", "AVIF"):
        with pytest.raises(DecodeError, match=format):
            Decoder((8, 8))(encoded(smooth(16, 16), format))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "GIF", "WEBP"])
def test_truncated_files_are_refused(format):
    content = encoded(smooth(64, 64), format)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(DecodeError, match="damaged"):
            Decoder((16, 16))(content[: int(len(content) * share)])


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "GIF", "WEBP"])
def test_damage_never_raises_anything_else(format):
    content = encoded(smooth(24, 24), format)
    dice = random.Random(0)
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(dice.randint(1, 8)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        with contextlib.suppress(DecodeError):
            assert Decoder((8, 8))(bytes(damaged)).pixels.shape == (8, 8, 3)


@pytest.mark.parametrize("limits", ["auto", (0, 4095)])
def test_a_run_records_its_decoder(limits):
    decoder = Decoder((8, 9), "pad", (1, 2, 3), limits)
    settings = json.loads(json.dumps(decoder.settings()))
    assert Decoder.recorded([8, 9], settings) == decoder
    earlier = {"resize": "crop", "background": [0, 0, 0]}
    assert Decoder.recorded([8, 9], earlier) == Decoder((8, 9), "crop", (0, 0, 0), "auto")


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("size", [(100, 37), (37, 100), (3, 500), (64, 64)])
def test_the_border_of_a_padded_image_can_be_taken_off(size, turned):
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    content = encoded(np.full((*size, 3), 200, np.uint8), exif=exif)
    decoder = Decoder((41, 64), "pad", (0, 0, 0))
    decoded = decoder(content)
    inside = decoder.unpadded(decoded)
    assert (inside == 200).all()
    assert inside.size == (decoded.pixels == 200).sum()


def test_threads_agree_and_nothing_global_changes():
    contents = [encoded(smooth(50 + i, 60), format) for i in range(8) for format in ("JPEG", "PNG")]
    decoder = Decoder((32, 32))
    before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(decoder, contents * 4))
    for decoded, content in zip(together, contents * 4, strict=True):
        np.testing.assert_array_equal(decoded.pixels, decoder(content).pixels)
    assert before == (
        ImageFile.LOAD_TRUNCATED_IMAGES,
        Image.MAX_IMAGE_PIXELS,
        list(warnings.filters),
    )


def test_read_image_refuses_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "image.jpg").write_bytes(b"abc")
    assert read_image(tmp_path / "image.jpg") == b"abc"
    for name, what in {
        "pipe.jpg": "regular file",
        "folder.jpg": "directory",
        "missing.jpg": "no such file",
    }.items():
        with pytest.raises(DecodeError, match=what):
            read_image(tmp_path / name)


def test_read_image_refuses_huge_files(tmp_path):
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(2**40)  # sparse: takes no room
    with pytest.raises(DecodeError, match="larger than"):
        read_image(tmp_path / "huge.jpg")


@pytest.mark.realdata
def test_drafts_of_photographs_are_close_to_full_decodes(shared):
    photographs = sorted((shared / "data/clothing/test").glob("*/*.jpg"))[::40]
    for photograph in photographs:
        content = photograph.read_bytes()
        full = Image.fromarray(by_opencv(content)).resize((150, 150), Image.Resampling.BILINEAR)
        assert differences(Decoder((150, 150))(content).pixels, np.asarray(full)).mean() < 1.5

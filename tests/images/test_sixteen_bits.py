"""PNG files of 16 bits, written chunk by chunk, and what `Decoder.range` makes of their values."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cvtrain.images.decode import Decoder, stored_values

SIZE = (6, 9)
COLOURS = {"grey": (0, 1), "rgb": (2, 3), "grey and alpha": (4, 2), "rgba": (6, 4)}


def chunk(kind, data):
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def png(values, colour, *, interlaced=False, hidden=None):
    """A PNG of uint16 (h, w, channels); `hidden` is the colour that stands for nothing."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    passes = [*passes, (1, 0, 2, 1)] if interlaced else [(0, 0, 1, 1)]
    parts = [values[top::down, left::right] for top, left, down, right in passes]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for part in parts for row in part)
    head = struct.pack(">LLBBBBB", SIZE[1], SIZE[0], 16, colour, 0, 0, interlaced)
    clear = b"" if hidden is None else chunk(b"tRNS", np.array(hidden, ">u2").tobytes())
    parts = (chunk(b"IHDR", head), clear, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def drawn(channels, low=0, high=65_536):
    return np.random.default_rng(channels).integers(low, high, (*SIZE, channels), np.uint16)


def scaled(values, low, high):
    return np.clip(np.floor((values.astype(float) - low) * 255 / (high - low) + 0.5), 0, 255)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("kind", COLOURS)
def test_all_bits_are_read(kind, interlaced):
    colour, channels = COLOURS[kind]
    values = drawn(channels)
    found = stored_values(png(values, colour, interlaced=interlaced))
    np.testing.assert_array_equal(found, values[..., : 1 if channels < 3 else 3])
    assert found.dtype == np.uint16


@pytest.mark.parametrize("limits", [(0, 4095), (1000, 1003), (0, 65_535)])
@pytest.mark.parametrize("kind", COLOURS)
def test_a_range_becomes_0_to_255_and_clips(kind, limits):
    colour, channels = COLOURS[kind]
    values = drawn(channels, high=6000)
    alpha = drawn(1) if channels in (2, 4) else np.full((*SIZE, 1), 65_535)
    if channels in (2, 4):
        values[..., -1:] = alpha
    colours = scaled(values[..., : 1 if channels < 3 else 3], *limits)
    expected = colours * (alpha / 65_535) + np.array([10, 20, 30]) * (1 - alpha / 65_535)
    decoder = Decoder(SIZE, background=(10, 20, 30), range=limits)
    decoded = decoder(png(values, colour))
    assert decoded.full_scale == 65_535
    assert np.abs(decoded.pixels - expected).max() <= (0.5 if channels in (1, 3) else 2)


@pytest.mark.parametrize("kind", ["grey", "rgb"])
def test_the_colour_that_stands_for_nothing_is_compared_in_all_bits(kind):
    colour, channels = COLOURS[kind]
    values = np.full((*SIZE, channels), 1000, np.uint16)
    values[:3, :, -1] += 1  # the same in its upper eight bits
    content = png(values, colour, hidden=values[0, 0])
    pixels = Decoder(SIZE, background=(9, 8, 7), range=(0, 1000))(content).pixels
    assert (pixels[:3] == (9, 8, 7)).all()
    assert (pixels[3:] == 255).all()


def test_auto_is_all_that_sixteen_bits_hold():
    content = png(drawn(1), 0)
    whole = Decoder(SIZE, range=(0, 65_535))(content).pixels
    np.testing.assert_array_equal(Decoder(SIZE)(content).pixels, whole)


def encoded(image, format, **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK"])
def test_files_of_eight_bits_have_a_range_too(mode):
    image = Image.fromarray((drawn(3) >> 8).astype(np.uint8)).convert(mode)
    content = encoded(image, "JPEG" if mode == "CMYK" else "PNG")
    auto = Decoder(SIZE)(content)
    assert auto.full_scale == 255
    pixels = Decoder(SIZE, range=(100, 180))(content).pixels
    np.testing.assert_array_equal(pixels, scaled(auto.pixels, 100, 180))
    np.testing.assert_array_equal(Decoder(SIZE, range=(0, 255))(content).pixels, auto.pixels)


def test_a_background_is_no_value_of_the_file():
    image = Image.new("RGBA", (9, 6), (50, 100, 150, 0))
    image.paste((50, 100, 150, 255), (0, 0, 9, 3))
    pixels = Decoder(SIZE, background=(60, 70, 80), range=(50, 150))(encoded(image, "PNG")).pixels
    assert (pixels[:3] == (0, 128, 255)).all()
    assert (pixels[3:] == (60, 70, 80)).all()


def test_a_range_hides_no_missing_data():
    whole = encoded(Image.effect_noise((64, 64), 90), "JPEG", quality=95)
    cut = whole[: len(whole) // 2] + b"\xff\xd9"
    for limits in ("auto", (0, 200)):
        assert "missing data" in Decoder((64, 64), range=limits)(cut).notes[0]
    white = encoded(Image.new("L", (64, 64), 250), "JPEG")
    assert Decoder((64, 64), range=(0, 128))(white).notes == ()

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from cvtrain.errors import DataError
from cvtrain.images import pixel_cache as module
from cvtrain.images.decode import Decoder
from cvtrain.images.pixel_cache import PixelCache

IMAGE_BYTES = 8 * 8 * 3


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
    return tmp_path


class CountingDecoder:
    """Counts calls; decodes as a real one."""

    def __init__(self):
        self.calls = 0
        self.decode = Decoder((8, 8))

    def __call__(self, content):
        self.calls += 1
        return self.decode(content)


def test_pixels_are_decoded_once_and_read_only(folder):
    decoder = CountingDecoder()
    pixels = PixelCache(folder, decoder)
    for _ in range(3):
        for i in range(6):
            assert (pixels[f"{i}.png"] == (i, 0, 0)).all()
    assert decoder.calls == 6
    assert pixels.kept_bytes == 6 * IMAGE_BYTES
    with pytest.raises(ValueError, match="read-only"):
        pixels["0.png"][:] = 0


def test_what_exceeds_the_limit_is_decoded_each_time(folder):
    decoder = CountingDecoder()
    pixels = PixelCache(folder, decoder, memory_limit=2 * IMAGE_BYTES + 1)
    for _ in range(3):
        for i in range(6):
            assert (pixels[f"{i}.png"] == (i, 0, 0)).all()
    assert decoder.calls == 2 + 3 * 4
    assert pixels.kept_bytes == 2 * IMAGE_BYTES


def test_threads_share_one_instance(folder):
    pixels = PixelCache(folder, Decoder((8, 8)), memory_limit=4 * IMAGE_BYTES)
    with ThreadPoolExecutor(8) as pool:
        for i, image in enumerate(pool.map(lambda i: pixels[f"{i % 6}.png"], range(600))):
            np.testing.assert_array_equal(image, np.full((8, 8, 3), (i % 6, 0, 0)))
    assert pixels.kept_bytes == 4 * IMAGE_BYTES


def test_a_bad_file_is_named(folder):
    (folder / "bad\x1b.png").write_bytes(b"<html>")
    pixels = PixelCache(folder, Decoder((8, 8)))
    with pytest.raises(DataError, match=r"bad\\x1b.png: no image but HTML"):
        pixels["bad\x1b.png"]
    with pytest.raises(DataError, match=r"missing.png: cannot be read"):
        pixels["missing.png"]


def test_a_file_that_changed_since_it_was_checked_is_refused(folder):
    pixels = PixelCache(folder, Decoder((8, 8)), memory_limit=0)
    pixels.digests = {"0.png": hashlib.sha256(bytes(IMAGE_BYTES)).digest()}
    assert (pixels["0.png"] == 0).all()
    assert (pixels["1.png"] == (1, 0, 0)).all()
    Image.new("RGB", (8, 8), (9, 0, 0)).save(folder / "0.png")
    with pytest.raises(DataError, match=r"0.png: changed since"):
        pixels["0.png"]


def test_a_quarter_of_the_available_memory_is_the_default(folder, monkeypatch):
    monkeypatch.setattr(module, "available_memory", lambda: 4000)
    assert PixelCache(folder, Decoder((8, 8))).memory_limit == 1000

"""Image files -> small pictures: proportions, bounds, what cannot be read."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from cvtrain.errors import Stopped
from cvtrain.images.decode import Decoder
from cvtrain.reports.thumbnails import thumbnail, thumbnails
from cvtrain.system.signals import Stop


def decoded(uri):
    content = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"), validate=True)
    return np.asarray(Image.open(io.BytesIO(content)))


def saved(path, size, value=(200, 30, 90), **options):
    Image.new("RGB", (size[1], size[0]), value).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (108, 144)),
        ((640, 480), (144, 108)),
        ((1000, 90), (144, 13)),
        ((100, 144), (100, 144)),
        ((28, 28), (84, 84)),
        ((3000, 1), (144, 1)),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_keeps_proportions_without_a_border(tmp_path, size, expected, suffix):
    pixels = decoded(thumbnail(saved(tmp_path / f"x.{suffix}", size), longest=144))
    assert pixels.shape[:2] == expected
    assert np.abs(pixels.astype(int) - (200, 30, 90)).max() <= 6


def test_has_the_range_and_the_background_of_a_run(tmp_path):
    wide = np.full((90, 60), 2048, np.uint16)
    Image.fromarray(wide).save(tmp_path / "x.png")
    like = Decoder((8, 8), "crop", (0, 0, 0), (0, 4096))
    assert abs(decoded(thumbnail(tmp_path / "x.png", longest=144, like=like)).mean() - 128) < 2
    Image.new("RGBA", (300, 200)).save(tmp_path / "clear.png")
    assert decoded(thumbnail(tmp_path / "clear.png", longest=144, like=like)).max() < 3


def test_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "x.jpg", (300, 600), exif=exif)
    assert decoded(thumbnail(path, longest=144)).shape[:2] == (144, 72)


def test_what_cannot_be_read_has_no_picture(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    files = {
        "good": saved(tmp_path / "good.png", (50, 50)),
        "missing": tmp_path / "missing.png",
        "text": tmp_path / "text.jpg",
        "folder": tmp_path,
    }
    made = thumbnails(files, longest=144, budget=10_000, stop=Stop())
    assert made.pop("good").startswith("data:image/jpeg;base64,")
    assert made == {"missing": "", "text": "", "folder": ""}


def test_ends_where_the_budget_does(tmp_path):
    path = saved(tmp_path / "x.png", (50, 50))
    files = {str(i): path for i in range(70)}
    size = len(thumbnail(path, longest=144))
    made = thumbnails(files, longest=144, budget=50 * size + 1, stop=Stop())
    assert list(made) == [str(i) for i in range(50)]


def test_a_stop_is_heard(tmp_path):
    stop = Stop()
    stop.requested = True
    with pytest.raises(Stopped):
        thumbnails({"x": tmp_path / "x.png"}, longest=144, budget=1, stop=stop)

"""Images that show nothing are doubtful, with their values; ordinary ones of little ink are not."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from cvtrain.data.check import check_index, resolve
from cvtrain.data.check_cache import FileCheck, Values
from cvtrain.data.contrast import examine_contrast, range_of_all
from cvtrain.data.index import build_index
from cvtrain.images.decode import Decoder
from cvtrain.images.pixel_cache import PixelCache

SQUARE = Decoder((64, 64))


def spread(low, high, dtype=np.uint8, size=(70, 90)):
    """Values from `low` to `high` in a pattern that stays one when it is shrunk."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    waves = (1 + np.sin(columns / 9) * np.cos(rows / 7)) / 2
    waves = (waves - waves.min()) / np.ptp(waves)
    return np.rint(low + waves * (high - low)).astype(dtype)


def encoded(image, format="PNG", **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def found_in(content, decoder=SQUARE):
    finding, _ = examine_contrast(content, decoder(content), decoder)
    return finding


def said_of(content, decoder=SQUARE):
    finding = found_in(content, decoder)
    return finding and finding.what


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_fewer_bits_than_the_sixteen_of_the_file_are_told_with_their_values(bits):
    content = encoded(spread(3, 2**bits - 1, np.uint16))
    expected = f"hardly any contrast: its values are 3 to {2**bits - 1:,} of 0..65,535"
    assert said_of(content) == expected
    assert said_of(content, Decoder((64, 64), range=(0, 2**bits - 1))) is None
    # The same values in colour, of which Pillow would keep the upper byte.
    values = spread(3, 2**bits - 1, np.uint16)
    colour = cv2.imencode(".png", np.dstack([values] * 3))[1].tobytes()
    assert said_of(colour) == expected
    assert said_of(colour, Decoder((64, 64), range=(0, 2**bits - 1))) is None


@pytest.mark.parametrize(("low", "high"), [(0, 16), (240, 255), (100, 108)])
@pytest.mark.parametrize("format", ["PNG", "BMP", "WEBP"])
def test_nearly_black_white_or_grey(low, high, format):
    content = encoded(Image.fromarray(spread(low, high)).convert("RGB"), format, lossless=True)
    assert said_of(content) == f"hardly any contrast: its values are {low} to {high} of 0..255"


def test_nearly_one_colour_is_told_channel_by_channel():
    change = spread(0, 4)
    pixels = np.stack([change + 198, change + 28, change + 90], axis=-1)
    what = "hardly any contrast: its values are 198 to 202, 28 to 32, 90 to 94 of 0..255"
    assert said_of(encoded(pixels)) == what


def test_a_black_frame_of_a_noisy_camera():
    noise = np.random.default_rng(0).integers(0, 30, (1200, 1600), np.uint8)
    assert said_of(encoded(noise)) == "hardly any contrast: its values are 0 to 29 of 0..255"


def test_hot_pixels_are_no_contrast():
    pixels = np.full((200, 200), 7, np.uint8)
    pixels[50, 60] = 255
    decoder = Decoder((200, 200))
    assert said_of(encoded(pixels), decoder) == "one colour all over"
    pixels[50:52, 60:64] = 255  # eight of them are something
    assert said_of(encoded(pixels), decoder) is None


def line_drawing(width, size=(1000, 1000)):
    image = Image.new("L", size, 255)
    ImageDraw.Draw(image).ellipse((200, 200, 800, 800), outline=0, width=width)
    return image


@pytest.mark.parametrize("side", [28, 64, 180])
def test_drawings_of_thin_lines_are_left_in_peace(side):
    for width in (1, 2, 5):
        assert said_of(encoded(line_drawing(width)), Decoder((side, side))) is None


def test_a_dark_photograph_is_left_in_peace():
    assert said_of(encoded(spread(0, 40))) is None
    assert said_of(encoded(spread(0, 20_000, np.uint16))) is None


def test_values_beyond_the_range_are_told_by_it():
    content = encoded(spread(5000, 60_000, np.uint16))
    decoder = Decoder((64, 64), range=(0, 4095))
    assert said_of(content, decoder) == (
        "hardly any contrast: its values are 5,000 to 60,000 of 0..4,095"
    )


def icon(colour, background_alpha=0):
    """A disc of one colour on what is transparent."""
    image = Image.new("RGBA", (64, 64), (*colour, background_alpha))
    ImageDraw.Draw(image).ellipse((10, 10, 50, 50), fill=(*colour, 255))
    return image


@pytest.mark.parametrize(
    ("colour", "background", "other"),
    [
        ((255, 255, 255), (255, 255, 255), "[0, 0, 0]"),
        ((0, 0, 0), (0, 0, 0), "[255, 255, 255]"),
        ((120, 130, 125), (122, 128, 127), "[255, 255, 255]"),
    ],
)
def test_what_has_the_colour_of_the_background_is_told_another_that_shows_it(
    colour, background, other
):
    image = icon(colour)
    image.putpixel((0, 0), (9, 99, 199, 0))
    image.paste((0, 255, 0, 0), (0, 0, 64, 9))  # hidden colours are no contrast that is seen
    content = encoded(image)
    finding = found_in(content, Decoder((64, 64), background=background))
    assert finding.what.startswith("hardly differs from the background that shows through it")
    assert finding.advice.endswith(f"--set 'data.background={other}'")
    advised = tuple(int(number) for number in other[1:-1].split(", "))
    assert said_of(content, Decoder((64, 64), background=advised)) is None


def test_what_is_transparent_all_over_is_told():
    image = Image.fromarray(spread(0, 255)).convert("RGBA")
    image.putalpha(0)
    assert said_of(encoded(image)) == "transparent all over"
    assert said_of(encoded(image.convert("RGB"))) is None


def test_a_border_is_no_contrast():
    content = encoded(np.zeros((30, 90), np.uint8))
    for resize in ("pad", "stretch", "crop"):
        assert said_of(content, Decoder((64, 64), resize)) == "one colour all over"


def test_a_plain_middle_is_told_with_what_hides_the_rest():
    pixels = np.zeros((60, 180), np.uint8)
    pixels[:, :50] = 255
    finding = found_in(encoded(pixels), Decoder((32, 32), "crop"))
    assert finding.what == "one colour all over at 32x32 pixels"
    assert "another data.resize" in finding.advice
    assert said_of(encoded(pixels), Decoder((32, 32))) is None


def facts(*values, is_empty=True):
    return [FileCheck(b"c", b"p", (), Values(*each), is_empty) for each in values]


def ordinary(number):
    return [FileCheck(b"c", b"p")] * number


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (facts((1440, 2656, 65_535), (10, 900, 65_535)), (0, 4095)),
        (facts((0, 1023, 65_535)), (0, 1023)),
        (facts((0, 255, 65_535)), (0, 255)),
        (facts((0, 1, 255), (0, 0, 255)), (0, 1)),  # masks
        (facts((0, 15, 255)), (0, 15)),
        (facts((31_768, 35_768, 65_535)), (31_768, 35_768)),  # Hounsfield units above 2**15
        (facts((240, 250, 255)), (240, 250)),
        # One of sixteen bits that needs all of them: a shorter range would clip it.
        (
            facts(*[(0, 900, 65_535)] * 9) + facts((0, 50_000, 65_535), is_empty=False),
            None,
        ),
        (facts(*[(0, 900, 65_535)] * 9) + ordinary(1), (0, 1023)),
        (facts(*[(0, 900, 65_535)] * 5) + ordinary(5), None),  # a range would count for all
        (facts((0, 5, 255)) + ordinary(30), None),
        (facts((0, 9, 255), (240, 250, 255)), None),  # white and black cards
        (facts((0, 0, 255)), None),
        ([FileCheck(b"", b"")], None),
        ([], None),
    ],
)
def test_the_range_of_all_has_the_fewest_bits_that_hold_every_value(found, expected):
    assert range_of_all(found) == expected


def write(root, images):
    for path, content in images.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def checked(root, decoder=SQUARE):
    index = build_index(root, validation=0.25, test=0.25, seed=0)
    return check_index(index, PixelCache(root, decoder))


def test_twelve_bits_are_told_the_range_that_shows_them_all(tmp_path):
    images = {
        f"{name}/{i}.png": encoded(spread(9 * i + turn, 1000 + 200 * i, np.uint16))
        for turn, name in enumerate(("ill", "well"))
        for i in range(8)
    }
    report = checked(write(tmp_path, images))
    assert report.range == (0, 4095)
    assert {p.advice for p in report.problems if p.what.startswith("hardly")} == {
        "Set the range of the values: --set 'data.range=[0, 4095]'"
    }
    _, (message, *_) = resolve(report.index, report, on_bad="skip", on_leak="allow")
    assert message == (
        "hardly any contrast in 16 of 16 images (ill/2.png: its values are 18 to 1,400 of "
        "0..65,535): `cvtrain data check` says what to do"
    )
    again = checked(tmp_path)
    assert (again.problems, again.range, again.num_decoded) == (report.problems, (0, 4095), 0)
    advised = checked(tmp_path, Decoder((64, 64), range=report.range))
    assert (advised.range, [p for p in advised.problems if p.what.startswith("hardly")]) == (
        None,
        [],
    )


def test_images_that_show_nothing_are_no_copies_of_each_other(tmp_path):
    """Sixteen bits that hold 0 to 100 decode to black, whatever they show."""
    images = {
        f"{name}/{i}.png": encoded(spread(i, 80 + i + turn, np.uint16))
        for turn, name in enumerate("ab")
        for i in range(8)
    }
    report = checked(write(tmp_path, images))
    assert {problem.what.partition(":")[0] for problem in report.problems} == {
        "hardly any contrast"
    }
    assert min(map(len, (split.paths for split in report.index.splits.values()))) >= 4
    (tmp_path / "a/copy.png").write_bytes(images["a/0.png"])
    told = [p.what for p in checked(tmp_path).problems if p.what.startswith("the same image")]
    assert len(told) == 1

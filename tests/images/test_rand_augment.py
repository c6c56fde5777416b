"""Each operation against Pillow, and what is drawn."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage

from cvtrain.images.augment import Change, apply, draw
from cvtrain.images.rand_augment import (
    OPERATIONS,
    Operation,
    backward_matrix,
    draw_operations,
    recolour,
)
from cvtrain.sections import Augment, RandAugment


def pictures():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:40, 0:56]
    waves = [127 + 120 * np.sin(x / 9 + c) * np.cos(y / 7 - c) for c in range(3)]
    return {
        "noise": rng.integers(0, 256, (23, 31, 3), dtype=np.uint8),
        "smooth": np.stack(waves, axis=-1).round().astype(np.uint8),
        "dull": rng.integers(90, 120, (16, 16, 3), dtype=np.uint8),
        "few values": rng.choice(np.uint8([3, 60, 200]), (20, 20, 3)),
        "one colour": np.full((9, 8, 3), (0, 128, 255), np.uint8),
        "large": rng.integers(0, 256, (150, 180, 3), dtype=np.uint8) // 3,
    }


PICTURES = pictures()
each_picture = pytest.mark.parametrize("pixels", PICTURES.values(), ids=PICTURES)


def difference(pixels, operation, image):
    return np.abs(recolour(pixels, operation).astype(int) - np.asarray(image, int)).max()


# Colours


@each_picture
def test_tables_are_pillows_to_the_bit(pixels):
    image = Image.fromarray(pixels)
    assert difference(pixels, Operation("autocontrast"), ImageOps.autocontrast(image)) == 0
    assert difference(pixels, Operation("equalize"), ImageOps.equalize(image)) == 0
    for bits in (8, 7, 6, 5, 4):
        assert (
            difference(pixels, Operation("posterize", bits), ImageOps.posterize(image, bits)) == 0
        )
    for threshold in (255.0, 178.5, 1.0, 0.0):
        expected = ImageOps.solarize(image, threshold)
        assert difference(pixels, Operation("solarize", threshold), expected) == 0


@each_picture
@pytest.mark.parametrize("factor", [0.1, 0.73, 1.0, 1.27, 1.9])
@pytest.mark.parametrize(
    ("name", "enhancer", "tolerance"),
    [
        # Pillow cuts off the fraction, this one rounds; a pixel's grey may be rounded otherwise.
        ("brightness", ImageEnhance.Brightness, 1),
        ("contrast", ImageEnhance.Contrast, 1),
        ("colour", ImageEnhance.Color, 2),
    ],
)
def test_enhancements_are_pillows(pixels, name, enhancer, tolerance, factor):
    expected = enhancer(Image.fromarray(pixels)).enhance(factor)
    assert difference(pixels, Operation(name, factor), expected) <= tolerance


@each_picture
@pytest.mark.parametrize("factor", [0.1, 0.73, 1.0, 1.27, 1.9])
def test_sharpness_is_pillows(pixels, factor):
    expected = ImageEnhance.Sharpness(Image.fromarray(pixels)).enhance(factor)
    assert difference(pixels, Operation("sharpness", factor), expected) <= 2


@pytest.mark.parametrize("name", ["brightness", "colour", "contrast", "sharpness"])
def test_a_factor_of_one_changes_nothing(name):
    for pixels in PICTURES.values():
        np.testing.assert_array_equal(recolour(pixels, Operation(name, 1.0)), pixels)


@pytest.mark.parametrize("name", OPERATIONS)
def test_pixels_are_left_as_they_are_and_may_be_read_only(name):
    pixels = PICTURES["noise"].copy()
    pixels.flags.writeable = False
    result = recolour(pixels, Operation(name, 4.0))
    assert result.shape == pixels.shape
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(pixels, PICTURES["noise"])


# Geometry


def pillow_affine(pixels, matrix):
    """Pillow counts a pixel's corner as (x, y), its centre as (x + 1/2, y + 1/2)."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    coefficients = (half @ matrix @ np.linalg.inv(half))[:2].ravel()
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels)
    method, filter_ = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return np.asarray(image.transform((width, height), method, tuple(coefficients), filter_), int)


def about_the_centre(linear, height, width):
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = centre - linear @ centre
    return matrix


@pytest.mark.parametrize(
    ("name", "strength", "forward"),
    [
        ("shear_x", 0.25, [[1, 0.25], [0, 1]]),
        ("shear_y", -0.3, [[1, 0], [-0.3, 1]]),
    ],
)
def test_shears_against_pillow(name, strength, forward):
    pixels = PICTURES["smooth"]
    change = Change(operations=(Operation(name, strength),))
    inverse = np.linalg.inv(np.array(forward))
    expected = pillow_affine(pixels, about_the_centre(inverse, *pixels.shape[:2]))
    result = apply(pixels, change, "constant").astype(int)
    np.testing.assert_allclose(result[10:-10, 12:-12], expected[10:-10, 12:-12], atol=6)


def test_rotation_is_pillows():
    pixels = PICTURES["smooth"]
    change = Change(operations=(Operation("rotate", 20.0),))
    expected = Image.fromarray(pixels).rotate(20, Image.Resampling.BILINEAR)
    result = apply(pixels, change, "constant").astype(int)
    inside = np.s_[12:-12, 14:-14]
    np.testing.assert_allclose(result[inside], np.asarray(expected, int)[inside], atol=6)


def test_translations_by_whole_pixels():
    pixels = PICTURES["noise"]
    height, width = pixels.shape[:2]
    operations = (Operation("translate_x", 4 / width), Operation("translate_y", -3 / height))
    result = apply(pixels, Change(operations=operations), "wrap")
    np.testing.assert_array_equal(result, np.roll(pixels, (-3, 4), axis=(0, 1)))


def test_all_geometry_is_one_resampling_in_the_order_that_was_drawn():
    """The product of the forward matrices, inverted, and SciPy resampling once."""
    pixels = PICTURES["smooth"]
    height, width = pixels.shape[:2]
    operations = (Operation("rotate", 15.0), Operation("translate_x", 0.1))
    change = Change(zoom=1.1, operations=operations)
    angle = np.radians(15)
    zoom = about_the_centre(1.1 * np.eye(2), height, width)
    turn = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    move = np.array([[1, 0, 0.1 * width], [0, 1, 0], [0, 0, 1]])
    matrix = np.linalg.inv(move @ about_the_centre(np.array(turn), height, width) @ zoom)
    swap = np.array([[0, 1], [1, 0]])  # SciPy counts (row, column)
    expected = [
        ndimage.affine_transform(
            pixels[..., c].astype(float),
            swap @ matrix[:2, :2] @ swap,
            matrix[1::-1, 2],
            order=1,
            mode="nearest",
        )
        for c in range(3)
    ]
    differences = np.abs(apply(pixels, change, "nearest") - np.stack(expected, axis=-1))
    assert differences.mean() < 0.6
    assert differences.max() < 6


def test_colours_have_no_matrix_and_geometry_has_no_colours():
    geometric = {"rotate", "shear_x", "shear_y", "translate_x", "translate_y"}
    pixels = PICTURES["noise"]
    for name in OPERATIONS:
        assert (backward_matrix(Operation(name, 0.2), 9, 9) is not None) == (name in geometric)
        if name in geometric:
            assert recolour(pixels, Operation(name, 0.2)) is pixels


# What is drawn


def drawn(settings, count=4000):
    augmentation = Augment(rand_augment=settings)
    return [draw(augmentation, seed=1, epoch=2, sample=i).operations for i in range(count)]


def test_operations_are_equally_likely_and_independent():
    pairs = drawn(RandAugment(num_ops=2))
    counts = np.zeros((14, 14))
    for first, second in pairs:
        counts[OPERATIONS.index(first.name), OPERATIONS.index(second.name)] += 1
    expected = len(pairs) / 14**2
    assert counts.shape == (14, len(OPERATIONS))
    assert ((counts - expected) ** 2 / expected).sum() < 262  # chi-square, 195 degrees, p = 0.001


@pytest.mark.parametrize(
    ("name", "weak", "strong"),
    [
        ("rotate", {-9.0, 9.0}, {-30.0, 30.0}),
        ("shear_x", {-0.09, 0.09}, {-0.3, 0.3}),
        ("translate_y", {-45 / 331, 45 / 331}, {-150 / 331, 150 / 331}),
        ("brightness", {0.73, 1.27}, {0.1, 1.9}),
        ("sharpness", {0.73, 1.27}, {0.1, 1.9}),
        ("posterize", {7.0}, {4.0}),
        ("solarize", {178.5}, {0.0}),
        ("identity", {0.0}, {0.0}),
        ("equalize", {0.0}, {0.0}),
    ],
)
def test_strengths_are_those_of_torchvision(name, weak, strong):
    """Its table for 31 magnitudes, at 9 and at 30."""
    for magnitude, expected in ((9.0, weak), (30.0, strong)):
        operations = drawn(RandAugment(num_ops=3, magnitude=magnitude), 400)
        found = {each.strength for row in operations for each in row if each.name == name}
        assert sorted(found) == pytest.approx(sorted(expected))


def test_both_sides_are_equally_likely():
    operations = [each for row in drawn(RandAugment()) for each in row]
    sides = [each.strength > 0 for each in operations if each.name == "rotate"]
    assert np.mean(sides) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(sides)))


def test_any_number_of_operations_begins_like_fewer():
    numbers = {"seed": 3, "epoch": 1, "sample": 8}
    three = draw(Augment(rand_augment=RandAugment(num_ops=3)), **numbers).operations
    five = draw(Augment(rand_augment=RandAugment(num_ops=5)), **numbers).operations
    assert five[:3] == three
    assert len(five) == 5


def test_the_generator_is_all_that_operations_depend_on():
    settings = RandAugment(num_ops=4)
    one, other = (draw_operations(settings, np.random.default_rng(5)) for _ in range(2))
    assert one == other

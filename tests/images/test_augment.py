import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import ndimage

from cvtrain.images.augment import (
    Change,
    affine_matrix,
    apply,
    augment,
    colour_matrix,
    draw,
)
from cvtrain.sections import Augment, RandAugment

BOOK = Augment(flip="horizontal", rotate=40, shift=0.2, shear=0.2, zoom=0.2)
EVERYTHING = BOOK.model_copy(
    update={"flip": "both", "brightness": 0.2, "contrast": 0.3, "saturation": 0.4}
)
EXTRAS = EVERYTHING.model_copy(update={"erase": 0.5, "rand_augment": RandAugment()})


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)


@pytest.fixture
def smooth():
    """A picture whose resampling hardly depends on the method: low frequencies, not square."""
    y, x = np.mgrid[0:40, 0:56]
    waves = [127 + 120 * np.sin(x / 9 + c) * np.cos(y / 7 - c) for c in range(3)]
    return np.stack(waves, axis=-1).round().astype(np.uint8)


def draws(augmentation, count=4000):
    return [draw(augmentation, seed=7, epoch=3, sample=i) for i in range(count)]


# What is drawn


@pytest.mark.parametrize("augmentation", [EVERYTHING, EXTRAS])
def test_augmenting_is_a_function_of_its_arguments(noise, augmentation):
    before = noise.copy()
    first = augment(noise, augmentation, seed=1, epoch=2, sample=3)

    np.testing.assert_array_equal(first, augment(noise, augmentation, seed=1, epoch=2, sample=3))
    np.testing.assert_array_equal(noise, before)
    for other in ({"seed": 2}, {"epoch": 3}, {"sample": 4}):
        numbers = {"seed": 1, "epoch": 2, "sample": 3} | other
        assert (augment(noise, augmentation, **numbers) != first).any()


def test_numbers_of_seed_epoch_and_sample_are_not_mixed_up():
    changes = {
        draw(BOOK, seed=seed, epoch=epoch, sample=sample)
        for seed in range(4)
        for epoch in range(4)
        for sample in range(4)
    }
    assert len(changes) == 64


def test_large_seeds_are_accepted_and_told_apart():
    large = [draw(BOOK, seed=2**64 - i, epoch=0, sample=2**40) for i in (1, 2, 3)]
    assert len(set(large)) == 3


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("rotate", -40, 40),
        ("shift_x", -0.2, 0.2),
        ("shift_y", -0.2, 0.2),
        ("shear", -0.2, 0.2),
        ("zoom", 0.8, 1.2),
        ("brightness", -0.2, 0.2),
        ("contrast", 0.7, 1.3),
        ("saturation", 0.6, 1.4),
    ],
)
def test_each_parameter_is_uniform_over_its_range(name, low, high):
    values = np.array([getattr(change, name) for change in draws(EVERYTHING)])
    counts, _ = np.histogram(values, bins=10, range=(low, high))

    assert counts.sum() == len(values), "some values are out of range"
    expected = len(values) / 10
    assert ((counts - expected) ** 2 / expected).sum() < 27.9  # chi-square, 9 degrees, p = 0.001


def test_parameters_are_independent_of_each_other():
    names = [name for name in vars(Change()) if name not in ("operations", "erased")]
    table = np.array(
        [[float(vars(change)[name]) for name in names] for change in draws(EVERYTHING)]
    )
    correlations = np.corrcoef(table.T) - np.eye(len(names))

    assert np.abs(correlations).max() < 4 / math.sqrt(len(table))


@pytest.mark.parametrize(
    ("flip", "share_x", "share_y"),
    [("none", 0, 0), ("horizontal", 0.5, 0), ("vertical", 0, 0.5), ("both", 0.5, 0.5)],
)
def test_flip_mirrors_half_of_the_images(flip, share_x, share_y):
    changes = draws(Augment(flip=flip))

    assert np.mean([change.mirror_x for change in changes]) == pytest.approx(share_x, abs=0.03)
    assert np.mean([change.mirror_y for change in changes]) == pytest.approx(share_y, abs=0.03)


def test_a_parameter_does_not_depend_on_which_others_are_used():
    numbers = {"seed": 5, "epoch": 0, "sample": 9}
    assert draw(Augment(zoom=0.2), **numbers).zoom == draw(EVERYTHING, **numbers).zoom


def test_the_extras_leave_what_else_is_drawn():
    for sample in range(20):
        with_them = draw(EXTRAS, seed=5, epoch=0, sample=sample)
        plain = draw(EVERYTHING, seed=5, epoch=0, sample=sample)
        assert replace(with_them, operations=(), erased=None) == plain


def test_no_augmentation_is_no_change(noise):
    assert draw(Augment(), seed=0, epoch=0, sample=0) == Change()
    np.testing.assert_array_equal(augment(noise, Augment(), seed=0, epoch=0, sample=0), noise)


# Geometry


@pytest.mark.parametrize("shape", [(12, 17, 3), (9, 9, 3), (10, 6, 3)])
def test_mirroring_moves_pixels_and_blends_none(shape):
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)

    for fill in ("nearest", "reflect", "wrap", "constant"):
        mirrored = apply(image, Change(mirror_x=True), fill)
        np.testing.assert_array_equal(mirrored, np.fliplr(image))
        mirrored = apply(image, Change(mirror_y=True), fill)
        np.testing.assert_array_equal(mirrored, np.flipud(image))


@pytest.mark.parametrize("size", [8, 9])
def test_rotation_is_counter_clockwise_about_the_centre(size):
    image = np.random.default_rng(2).integers(0, 256, (size, size, 3), dtype=np.uint8)

    np.testing.assert_array_equal(apply(image, Change(rotate=90), "nearest"), np.rot90(image))
    np.testing.assert_array_equal(apply(image, Change(rotate=-90), "nearest"), np.rot90(image, -1))


def test_half_a_turn_of_an_image_that_is_not_square(noise):
    np.testing.assert_array_equal(apply(noise, Change(rotate=180), "nearest"), noise[::-1, ::-1])


def test_shift_by_whole_pixels(noise):
    height, width = noise.shape[:2]
    change = Change(shift_x=3 / width, shift_y=-2 / height)

    shifted = apply(noise, change, "wrap")
    np.testing.assert_array_equal(shifted, np.roll(noise, (-2, 3), axis=(0, 1)))
    shifted = apply(noise, change, "nearest")
    np.testing.assert_array_equal(shifted[:-2, 3:], noise[2:, :-3])
    np.testing.assert_array_equal(shifted[:-2, :3], np.repeat(noise[2:, :1], 3, axis=1))
    shifted = apply(noise, change, "reflect")
    np.testing.assert_array_equal(shifted[:-2, :3], noise[2:, :3][:, ::-1])
    shifted = apply(noise, change, "constant")
    assert not shifted[:, :3].any()
    assert not shifted[-2:].any()


def test_zoom_magnifies_about_the_centre(noise):
    odd = noise[:11, :17]
    zoomed = apply(odd, Change(zoom=2), "nearest")

    np.testing.assert_array_equal(zoomed[5, 8], odd[5, 8])
    np.testing.assert_array_equal(zoomed[1::2, ::2], odd[3:8, 4:13])


def test_shear_moves_each_row_by_its_distance_from_the_middle_row():
    image = np.random.default_rng(3).integers(0, 256, (5, 11, 3), dtype=np.uint8)
    sheared = apply(image, Change(shear=1), "wrap")

    for row in range(5):
        np.testing.assert_array_equal(sheared[row], np.roll(image[row], row - 2, axis=0))


def test_the_matrix_is_the_inverse_of_flip_zoom_shear_rotate_shift():
    height, width = 40, 56
    change = Change(mirror_x=True, rotate=33, shift_x=0.1, shift_y=-0.05, shear=0.3, zoom=1.2)
    angle = math.radians(33)

    def translation(x, y):
        return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])

    centre = (width - 1) / 2, (height - 1) / 2
    rotation = np.array(
        [
            [math.cos(angle), math.sin(angle), 0],
            [-math.sin(angle), math.cos(angle), 0],
            [0, 0, 1],
        ]
    )
    shear = np.array([[1, 0.3, 0], [0, 1, 0], [0, 0, 1]])
    forward = (
        translation(0.1 * width, -0.05 * height)
        @ translation(*centre)
        @ rotation
        @ shear
        @ np.diag([1.2, 1.2, 1])
        @ np.diag([-1, 1, 1])
        @ translation(-centre[0], -centre[1])
    )
    expected = np.linalg.inv(forward)[:2]
    np.testing.assert_allclose(affine_matrix(change, height, width), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("fill", "mode"),
    [
        ("nearest", "nearest"),
        ("reflect", "reflect"),
        ("wrap", "grid-wrap"),
        ("constant", "constant"),
    ],
)
def test_the_whole_recipe_against_scipy(smooth, fill, mode):
    change = Change(mirror_x=True, rotate=25, shift_x=0.1, shift_y=-0.05, shear=0.2, zoom=0.9)
    matrix = affine_matrix(change, *smooth.shape[:2])
    swap = np.array([[0, 1], [1, 0]])  # SciPy counts (row, column)
    expected = [
        ndimage.affine_transform(
            smooth[..., c].astype(float),
            swap @ matrix[:, :2] @ swap,
            matrix[::-1, 2],
            order=1,
            mode="grid-constant" if mode == "constant" else mode,
        )
        for c in range(3)
    ]

    difference = np.abs(apply(smooth, change, fill) - np.stack(expected, axis=-1))
    assert difference.mean() < 0.6
    assert difference.max() < 6  # OpenCV may place a sample to 1/32 of a pixel


# Colour


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.3])
def test_contrast_and_saturation_against_pillow(smooth, factor):
    image = Image.fromarray(smooth)

    expected = np.asarray(ImageEnhance.Contrast(image).enhance(factor), dtype=int)
    result = apply(smooth, Change(contrast=factor), "nearest")
    assert np.abs(result - expected).max() <= 1  # Pillow rounds the mean and then truncates
    expected = np.asarray(ImageEnhance.Color(image).enhance(factor), dtype=int)
    result = apply(smooth, Change(saturation=factor), "nearest")
    assert np.abs(result - expected).max() <= 1


def test_brightness_adds_and_stays_within_bounds(noise):
    brighter = apply(noise, Change(brightness=0.2), "nearest")
    np.testing.assert_array_equal(brighter, np.minimum(noise.astype(int) + 51, 255))
    darker = apply(noise, Change(brightness=-0.2), "nearest")
    np.testing.assert_array_equal(darker, np.maximum(noise.astype(int) - 51, 0))


def test_one_colour_matrix_is_brightness_then_contrast_then_saturation():
    pixel = np.array([30.0, 140.0, 220.0])
    mean = 90.0
    luma = np.array([0.299, 0.587, 0.114])

    expected = pixel + 0.1 * 255
    expected = mean + 0.1 * 255 + 1.2 * (expected - mean - 0.1 * 255)
    grey = luma @ expected
    expected = grey + 0.7 * (expected - grey)
    matrix = colour_matrix(Change(brightness=0.1, contrast=1.2, saturation=0.7), mean)
    np.testing.assert_allclose(matrix @ [*pixel, 1], expected)


def test_a_constant_fill_stays_black(noise):
    shifted = apply(noise, Change(shift_x=0.5, brightness=0.5), "constant")
    assert not shifted[:, :8].any()


# How it is used


def test_read_only_and_sliced_pixels_are_accepted(noise):
    locked = noise.copy()
    locked.flags.writeable = False
    sliced = np.repeat(noise, 2, axis=1)[:, ::2]

    for sample in range(8):  # all kinds of operations among them
        expected = augment(noise, EXTRAS, seed=0, epoch=0, sample=sample)
        for pixels in (locked, sliced):
            result = augment(pixels, EXTRAS, seed=0, epoch=0, sample=sample)
            np.testing.assert_array_equal(result, expected)


def test_threads_do_not_change_pixels():
    image = np.random.default_rng(4).integers(0, 256, (400, 300, 3), dtype=np.uint8)
    barrier = threading.Barrier(4)

    def run(sample):
        barrier.wait()
        return augment(image, EXTRAS, seed=0, epoch=0, sample=sample)

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, range(8)))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        alone = [augment(image, EXTRAS, seed=0, epoch=0, sample=i) for i in range(8)]
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(together, alone)

"""Random erasing: how often, how large, where, and with what."""

import numpy as np
import pytest

from cvtrain.images.augment import Change, Erased, apply, augment, draw, erase
from cvtrain.sections import Augment

COUNT = 4000


@pytest.fixture(scope="module")
def drawn():
    augmentation = Augment(erase=1.0)
    return [draw(augmentation, seed=7, epoch=0, sample=i).erased for i in range(COUNT)]


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_as_many_images_as_the_probability_says(probability):
    augmentation = Augment(erase=probability)
    found = [draw(augmentation, seed=7, epoch=0, sample=i).erased for i in range(COUNT)]
    share = np.mean([each is not None for each in found])
    assert share == pytest.approx(probability, abs=4 * np.sqrt(probability / COUNT))


def test_areas_are_uniform_between_2_and_33_per_cent(drawn):
    areas = np.array([each.height * each.width for each in drawn])
    counts, _ = np.histogram(areas, bins=10, range=(0.02, 0.33))
    assert counts.sum() == COUNT
    assert ((counts - COUNT / 10) ** 2 / (COUNT / 10)).sum() < 27.9  # chi-square, 9 degrees, 0.001


def test_aspects_are_within_their_range_and_as_often_high_as_wide(drawn):
    aspects = np.array([each.height / each.width for each in drawn])
    assert aspects.min() >= 0.3 - 1e-9
    assert aspects.max() <= 3.3 + 1e-9
    # 0.3 and 3.3 are not each other's inverse, hence the log of their product.
    expected = np.log(0.3 * 3.3) / 2
    assert np.log(aspects).mean() == pytest.approx(expected, abs=0.05)


def test_rectangles_lie_inside_and_reach_every_corner(drawn):
    tops, bottoms = zip(*((each.top, each.top + each.height) for each in drawn), strict=True)
    lefts, rights = zip(*((each.left, each.left + each.width) for each in drawn), strict=True)
    assert min(tops) >= 0
    assert min(lefts) >= 0
    assert max(bottoms) <= 1 + 1e-9
    assert max(rights) <= 1 + 1e-9
    assert min(tops) < 0.02
    assert max(rights) > 0.98


@pytest.mark.parametrize("shape", [(52, 52, 3), (20, 80, 3), (4, 4, 3)])
def test_the_erased_part_is_the_rectangle_and_nothing_else(shape):
    pixels = np.full(shape, 100, np.uint8)
    erased = Erased(top=0.25, left=0.5, height=0.5, width=0.25, seed=3)
    erase(pixels, erased)
    height, width = shape[:2]
    inside = np.zeros(shape[:2], bool)
    inside[height // 4 : 3 * height // 4, width // 2 : 3 * width // 4] = True
    assert (pixels[~inside] == 100).all()
    if inside.sum() > 100:
        assert (pixels[inside] != 100).mean() > 0.97


def test_the_noise_is_uniform_and_a_function_of_its_seed():
    one, same, other = (np.zeros((100, 100, 3), np.uint8) for _ in range(3))
    for pixels, seed in ((one, 5), (same, 5), (other, 6)):
        erase(pixels, Erased(0.0, 0.0, 1.0, 1.0, seed))
    np.testing.assert_array_equal(one, same)
    assert (one != other).mean() > 0.98
    counts = np.bincount(one.ravel(), minlength=256)
    expected = one.size / 256
    assert ((counts - expected) ** 2 / expected).sum() < 331  # chi-square, 255 degrees, p = 0.001


def test_it_is_erased_after_all_else_and_the_source_stays():
    source = np.full((40, 40, 3), 200, np.uint8)
    before = source.copy()
    whole = Erased(0.0, 0.0, 1.0, 1.0, 9)
    result = apply(source, Change(mirror_x=True, brightness=-0.5, erased=whole), "nearest")
    expected = np.zeros_like(source)
    erase(expected, whole)
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(source, before)


def test_whether_and_what_else_is_changed_does_not_move_the_rectangle():
    numbers = {"seed": 5, "epoch": 0, "sample": 9}
    alone = draw(Augment(erase=1.0), **numbers).erased
    with_more = draw(Augment(erase=1.0, rotate=40, zoom=0.2), **numbers).erased
    assert alone == with_more
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    changed = augment(pixels, Augment(erase=1.0), **numbers)
    share = (changed != pixels).any(axis=-1).mean()
    assert share == pytest.approx(alone.height * alone.width, abs=0.06)

"""What climbs: closed forms, finite differences, and SciPy's own resampling."""

import numpy as np
import pytest
from scipy import ndimage

from cvtrain.explain.activation_maximization import STYLES, Book, Distill, random_move

SHAPES = [(33, 40, 3), (8, 7, 3), (6, 6, 1)]


def begun(style, shape, attempts=(0, 0), seed=0):
    generators = [np.random.default_rng(i) for i in range(len(attempts))]
    return STYLES[style](shape, generators, attempts, seed=seed)


def test_the_book_starts_around_the_middle_and_later_with_more_contrast():
    first, second, third = begun("book", (40, 48, 3), attempts=(0, 1, 2)).view(0)
    assert first.min() >= 0.4
    assert first.max() <= 0.6
    assert len(np.unique(second.reshape(-1, 3), axis=0)) == 2**3
    assert set(np.unique(second)) == {0, 1}
    for side, differs in ((4, 0), (8, 1)):
        squares = third.reshape(40 // side, side, 48 // side, side, 3)
        assert np.ptp(squares, axis=(1, 3)).max() == differs
    assert 0.4 < third.mean() < 0.6


@pytest.mark.parametrize(("shape", "length"), [((200, 200, 3), 10), ((50, 100, 1), 10 / 24**0.5)])
def test_the_book_moves_by_ten_along_the_gradient(shape, length):
    ascent = begun("book", shape)
    before = ascent.view(0)
    gradients = np.random.default_rng(0).normal(size=before.shape).astype(np.float32)
    gradients[1] *= 1e-25  # whose square is zero in float32
    ascent.climb(gradients)
    moves = ascent.view(1) - before
    lengths = np.sqrt(np.sum(np.float64(gradients) ** 2, axis=(1, 2, 3), keepdims=True))
    np.testing.assert_allclose(moves, length * gradients / lengths, rtol=1e-4, atol=1e-6)


def test_without_a_gradient_nothing_moves():
    ascent = begun("book", (5, 4, 3))
    before = ascent.view(0).copy()
    ascent.climb(np.zeros_like(before))
    np.testing.assert_array_equal(ascent.view(1), before)


def test_the_book_shows_a_deviation_of_64_around_128_without_the_border():
    ascent = begun("book", (200, 160, 3))
    image = ascent.view(0)[0].astype(np.float64)
    expected = np.clip((image - image.mean()) / image.std() * 64 + 128, 0, 255)
    pictures = ascent.pictures()
    assert pictures.dtype == np.uint8
    assert pictures.shape == (2, 150, 120, 3)
    np.testing.assert_allclose(pictures[0], np.floor(expected[25:-25, 20:-20]), atol=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_distill_climbs_by_the_gradient_of_what_the_model_saw(shape):
    rng = np.random.default_rng(5)
    direction = rng.normal(size=(2, *shape))
    ascent = begun("distill", shape, attempts=(2, 2))
    start = ascent._spectra.copy()

    def value(place, change):
        """How far the view goes in the direction, with one value of both spectra changed."""
        ascent._spectra = start.copy()
        ascent._spectra.reshape(2, -1)[:, place] += change
        return np.sum(np.float64(ascent.view(3)) * direction, axis=(1, 2, 3))

    places = rng.integers(0, start[0].size, 20)
    slopes = [(value(place, 0.02) - value(place, -0.02)) / 0.04 for place in places]
    value(0, 0)
    assert min(shape[:2]) < 16 or abs(ascent._move - ascent._move.T).max() > 0.5
    gradients = ascent._carried_back(direction.astype(np.float32))
    np.testing.assert_allclose(
        gradients.reshape(2, -1)[:, places].T, slopes, rtol=0.02, atol=0.002 * np.abs(slopes).max()
    )


def test_distill_reaches_what_it_climbs_to():
    """Ascending -(image - target)^2 ends at the target, moved or not."""
    ascent = begun("distill", (24, 24, 3), attempts=(0,))
    target = np.full((1, 24, 24, 3), (0.8, 0.5, 0.3), np.float32)
    for step in range(400):
        ascent.climb(target - ascent.view(step))
    shown = ascent.pictures()[0, 5:-5, 5:-5] / 255
    np.testing.assert_allclose(shown.mean(axis=(0, 1)), target[0, 0, 0], atol=0.08)


def test_distill_starts_near_grey_and_depends_on_the_seed_in_its_moves_alone():
    one, same, other = (begun("distill", (20, 20, 3), seed=seed) for seed in (0, 0, 1))
    np.testing.assert_allclose(one.pictures(), 128, atol=20)
    np.testing.assert_array_equal(one.view(1), same.view(1))
    assert not np.array_equal(one.view(1), one.view(2))
    assert not np.array_equal(one.view(1), other.view(1))
    np.testing.assert_array_equal(one.pictures(), other.pictures())


@pytest.mark.parametrize("seed", range(5))
def test_a_move_is_one_bilinear_resampling_as_scipy_does_it(seed):
    height, width = 64, 70
    move = random_move((height, width), np.random.default_rng(seed))
    y, x = np.indices((height, width)).reshape(2, -1).astype(float)
    inside = move @ np.ones(height * width) > 1 - 1e-5
    assert inside.mean() > 0.5
    # Where nothing is cut off, what becomes of the coordinates is the affine map itself.
    frame = np.stack([y, x, np.ones_like(x)], axis=1)
    sources = np.stack([move @ y, move @ x], axis=1)
    affine, *_ = np.linalg.lstsq(frame[inside], sources[inside], rcond=None)
    np.testing.assert_allclose(frame[inside] @ affine, sources[inside], atol=1e-3)
    scale = 1 / np.sqrt(np.linalg.det(affine[:2]))
    angle = np.rad2deg(np.arctan2(affine[0, 1] - affine[1, 0], affine[0, 0] + affine[1, 1]))
    assert 0.9 - 1e-5 <= scale <= 1.1 + 1e-5
    assert abs(angle) <= 10 + 1e-3
    middle = np.array([(height - 1) / 2, (width - 1) / 2, 1])
    assert np.abs(middle @ affine - middle[:2]).max() <= 4 + 3 / 0.9

    image = np.random.default_rng(seed).random((height, width))
    expected = ndimage.map_coordinates(
        image, (frame @ affine).T, order=1, mode="grid-constant", cval=0
    )
    np.testing.assert_allclose(move @ image.ravel(), expected, atol=1e-3)


def test_styles_have_the_steps_of_their_sources():
    assert (Book.steps, Distill.steps) == (30, 512)

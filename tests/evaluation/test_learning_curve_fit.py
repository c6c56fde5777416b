"""The law is found where it holds, within its bounds, and its interval holds what it should."""

import numpy as np
import pytest
from scipy.optimize import nnls

from cvtrain.evaluation.learning_curve_fit import FARTHEST, extrapolate, resampled_errors

SIZES = np.array([150, 300, 600, 1200, 2100, 3000])


@pytest.mark.parametrize(
    ("floor", "scale", "exponent"), [(0.05, 3.0, 0.5), (0.0, 1.5, 0.3), (0.2, 20, 0.9)]
)
def test_errors_on_the_law_are_followed_exactly(floor, scale, exponent):
    targets = np.array([3000, 6000, 12000])
    (found,) = extrapolate(SIZES, floor + scale * SIZES[None] ** -exponent, targets)
    # The exponents that are tried are 3 % apart.
    np.testing.assert_allclose(found, floor + scale * targets**-exponent, atol=1e-3)


def test_it_is_the_best_of_all_exponents_by_scipy():
    generator = np.random.default_rng(0)
    errors = 0.1 + 2 * SIZES**-0.4 + generator.normal(scale=0.01, size=(20, len(SIZES)))
    weights = np.sqrt(SIZES)
    found = extrapolate(SIZES, errors, SIZES)
    for row, fitted in zip(errors, found, strict=True):
        misfit = ((fitted - row) ** 2 * SIZES).sum() ** 0.5
        others = [
            nnls(np.stack([weights, weights * SIZES**-exponent], axis=1), weights * row)[1]
            for exponent in np.geomspace(0.05, 1, 100)
        ]
        assert misfit == pytest.approx(min(others), rel=1e-4)


def test_errors_that_rise_are_taken_for_flat():
    errors = np.array([[0.20, 0.21, 0.20, 0.22, 0.21, 0.22]])
    (found,) = extrapolate(SIZES, errors, np.array([3000, 12000]))
    assert found[0] == found[1] == pytest.approx((errors[0] * SIZES).sum() / SIZES.sum())


def test_errors_stay_probabilities():
    errors = np.array([[0.9, 0.6, 0.4, 0.2, 0.05, 0.0]])
    found = extrapolate(SIZES, errors, np.array([1, 12000]))
    assert found.min() >= 0
    assert found.max() <= 1


def test_it_goes_no_farther_than_four_times_the_data():
    errors = np.full((1, len(SIZES)), 0.1)
    extrapolate(SIZES, errors, np.array([FARTHEST * 3000]))
    with pytest.raises(ValueError, match="more than 4 times"):
        extrapolate(SIZES, errors, np.array([FARTHEST * 3000 + 1]))


def test_three_points_are_no_curve():
    with pytest.raises(ValueError, match="4 sizes"):
        extrapolate(np.array([10, 20, 40, 40]), np.full((1, 4), 0.1), np.array([80]))


def test_other_images_vary_as_a_binomial_and_other_subsets_besides():
    generator = np.random.default_rng(0)
    same = np.broadcast_to(generator.uniform(size=400) < 0.8, (2, 5, 400))
    drawn = resampled_errors(same, num_draws=2000)
    wrong = 1 - same[0, 0].mean()
    assert drawn.mean() == pytest.approx(wrong, abs=0.002)
    assert drawn.std(axis=0) == pytest.approx((wrong * (1 - wrong) / 400) ** 0.5, rel=0.08)
    # Sizes are drawn together: what is an easier set of images is easier after every training.
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 1])
    # Subsets with errors of 0 and 1 on all images: their means vary, the images do not.
    apart = np.broadcast_to(np.array([True, False] * 8)[None, :, None], (1, 16, 50))
    assert resampled_errors(apart, num_draws=2000).std() == pytest.approx(0.5 / 4, rel=0.08)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Images of different difficulty, each right from some number of training images on."""
    generator = np.random.default_rng(1)
    floor, scale, exponent = 0.05, 4.0, 0.5
    hits = 0
    num_repeats = 60
    expected = floor + scale * SIZES**-exponent
    for repeat in range(num_repeats):
        difficulty = generator.uniform(size=700)
        noise = generator.normal(scale=0.01, size=(len(SIZES), 5, 1))
        correct = difficulty > expected[:, None, None] + noise
        drawn = resampled_errors(correct, num_draws=200, seed=repeat)
        twice = extrapolate(SIZES, drawn, np.array([6000]))
        low, high = np.percentile(twice, (2.5, 97.5))
        hits += low <= floor + scale * 6000**-exponent <= high
    assert hits / num_repeats >= 0.85

"""The range test on functions whose best and largest rates are known."""

import math

import numpy as np
import pytest

from cvtrain.training.lr_range_test import RangeTest, range_test


class Descent:
    """Gradient descent on f(w) = sum(curvatures * w^2) / 2: the loss before each step."""

    def __init__(self, *curvatures):
        self.curvatures = np.array(curvatures, float)
        self.weights = np.ones(len(curvatures))

    def __call__(self, rate):
        loss = float((self.curvatures * self.weights**2).sum() / 2)
        self.weights = self.weights * (1 - rate * self.curvatures)
        return loss


STEP = 1e8 ** (1 / 99)  # from one rate to the next


@pytest.mark.parametrize("curvature", [0.5, 3.0, 40.0, 1e3])
def test_on_a_quadratic_the_loss_turns_at_two_by_the_curvature(curvature):
    found = range_test(Descent(curvature))
    turning = found.rates[found.losses.argmin()]
    assert 1 <= turning / (2 / curvature) <= STEP


@pytest.mark.parametrize("curvature", [0.5, 3.0, 40.0, 1e3])
def test_the_suggestion_descends_and_does_not_diverge(curvature):
    found = range_test(Descent(curvature))
    assert 0.01 / curvature < found.suggestion < 2 / curvature
    # Smoothing reaches over five steps: the loss falls without end just before it turns.
    assert 1 / curvature < found.lowest < 2 * STEP**5 / curvature


def test_the_steepest_curvature_decides():
    found = range_test(Descent(0.01, 0.1, 50.0))
    assert 0.01 / 50 < found.suggestion < 2 / 50


def test_a_hundred_times_the_curvature_is_a_hundredth_of_the_rate():
    suggestions = [range_test(Descent(curvature)).suggestion for curvature in (1.0, 100.0)]
    assert suggestions[0] / suggestions[1] == pytest.approx(100, rel=0.2)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("steepness", [0.3, 1.0, 3.0])
def test_the_middle_of_a_fall_is_found_in_noise(seed, steepness):
    """A logistic fall in the logarithm of the rate, about 1e-3, with the noise of small batches."""
    noise = np.random.default_rng(seed)

    def step(rate):
        height = 0.5 + 1.8 / (1 + math.exp(steepness * math.log(rate / 1e-3)))
        return height * math.exp(noise.normal(0, 0.07))

    assert 5e-4 < range_test(step, highest=1.0).suggestion < 2e-3


@pytest.mark.parametrize("spread", [0.04, 0.1, 0.3])
def test_noise_alone_suggests_nothing(spread):
    """Wherever its smoothed loss happens to be lowest, and be it at the first step."""
    suggested = 0
    for seed in range(200):
        noise = np.random.default_rng(seed)
        found = range_test(lambda rate: 2.3 * math.exp(noise.normal(0, spread)) * (1 + rate))  # noqa: B023
        suggested += found.suggestion is not None
    assert suggested <= 0.05 * 200


def test_it_ends_when_the_loss_has_diverged():
    losses = iter([2.0] * 50 + [1.0] * 5 + [3.0, 9.0, 27.0, 81.0] + [0.0] * 50)
    seen = []
    found = range_test(lambda _: next(losses), on_step=lambda *now: seen.append(now))
    # The mean of 1, 3 and 9 is 4.3 times the lowest one.
    assert found.losses.tolist() == [2.0] * 50 + [1.0] * 5 + [3.0, 9.0]
    assert seen[-1] == (57, 100)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_it_and_is_left_out(bad):
    losses = iter([2.0, 2.0, 1.5, 1.0, bad, 1.0])
    assert range_test(lambda _: next(losses)).losses.tolist() == [2.0, 2.0, 1.5, 1.0]
    with pytest.raises(ValueError, match="not finite from the start"):
        range_test(lambda _: bad)


def test_smoothing_moves_nothing_sideways():
    losses = np.ones(41)
    losses[20] = math.e
    step = iter(losses.tolist())
    found = range_test(lambda _: next(step), num_steps=41)
    assert found.smoothed.argmax() == 20
    np.testing.assert_allclose(found.smoothed, found.smoothed[::-1])
    assert np.log(found.smoothed).sum() == pytest.approx(1)


def test_lowest_is_where_the_smoothed_loss_is():
    rates = np.array([0.1, 0.2, 0.4])
    assert RangeTest(rates, np.ones(3), np.array([3.0, 1.0, 2.0])).lowest == 0.2

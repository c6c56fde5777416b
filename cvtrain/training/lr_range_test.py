"""The learning rate range test: train while the rate rises, and record the loss.

L. N. Smith, *Cyclical Learning Rates for Training Neural Networks*, section 3.3, arXiv:1506.01186,
with the exponential rise and the early end of fastai.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_DIVERGED = 4.0
_REACH = 5
"""Steps on either side of a smoothed loss: of the usual hundred over eight decades, 0.4 decades."""
_LEAST_FALL = 0.05
_CHANCE = 1.5
"""Standard deviations of a batch: by chance alone 98 of 100 smoothed losses fall less."""


@dataclass(frozen=True)
class RangeTest:
    """The losses while the rate rose.

    Attributes:
        rates: (n,) rising learning rates of the steps.
        losses: (n,) losses of the batches before each step; all finite.
        smoothed: (n,) losses averaged symmetrically over the steps before and after.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray

    @property
    def lowest(self) -> float:
        """The rate at which the smoothed loss is lowest: beyond it, steps are too large."""
        return float(self.rates[self.smoothed.argmin()])

    @property
    def suggestion(self) -> float | None:
        """The rate at which the loss has fallen by half of its whole fall; None if it falls by less
        than 5 %, or by no more than batches differ.

        In the middle of the fall the curve is steep and far from its minimum. The steepest point,
        or the longest descent (fastai's `steep` and `valley`), depends too much on single batches.
        """
        start = self.smoothed[: max(1, len(self.rates) // 8)].mean()
        end = int(self.smoothed.argmin())
        fall = start - self.smoothed[end]
        chance = 1 - math.exp(-_CHANCE * self.noise)
        above = np.flatnonzero(self.smoothed[:end] > start - fall / 2)
        if fall < max(_LEAST_FALL, chance) * start or not len(above):
            return None
        return float(self.rates[above[-1] + 1])

    @property
    def noise(self) -> float:
        """Standard deviation of the logarithm of the loss from batch to batch, before it rises.

        It is estimated by the median difference of neighbours, which is robust to slopes and jumps.
        """
        before = np.log(
            np.maximum(self.losses, 1e-30)[
                : max(int(self.smoothed.argmin()), len(self.losses) // 4, 3)
            ]
        )
        return float(np.median(np.abs(np.diff(before))) / (0.6745 * math.sqrt(2)))


def range_test(
    step: Callable[[float], float],
    *,
    lowest: float = 1e-7,
    highest: float = 10.0,
    num_steps: int = 100,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> RangeTest:
    """Train with a rate that rises by a constant factor, until the loss diverges.

    The test ends early if the mean of three losses is four times the lowest such mean, or if a
    loss is not finite.

    Args:
        step: a function that trains one step at a given rate and returns the loss before it.
        lowest, highest: the first and the last rate.
        num_steps: the number of steps, at least 3.
        on_step: called after each step with (done, total).

    Raises:
        ValueError: the very first losses are not finite.
    """
    rates = np.geomspace(lowest, highest, num_steps)
    losses: list[float] = []
    best = math.inf
    for rate in rates.tolist():
        loss = step(rate)
        if not math.isfinite(loss):
            break
        losses.append(loss)
        on_step(len(losses), num_steps)
        recent = sum(losses[-3:]) / len(losses[-3:])
        best = min(best, recent)
        if recent > _DIVERGED * best:
            break
    if len(losses) < 3:
        raise ValueError("the loss is not finite from the start")
    measured = np.array(losses)
    return RangeTest(rates[: len(losses)], measured, _smoothed(measured))


def _smoothed(losses: np.ndarray) -> np.ndarray:
    """Symmetric weighted means of the logarithms, so that a diverging loss does not dominate."""
    weights = 1.0 - np.abs(np.arange(-_REACH, _REACH + 1)) / (_REACH + 1)
    sums = np.convolve(np.log(np.maximum(losses, 1e-30)), weights)
    norms = np.convolve(np.ones(len(losses)), weights)
    return np.exp((sums / norms)[_REACH : _REACH + len(losses)])

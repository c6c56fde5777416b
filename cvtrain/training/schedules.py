"""Learning rate schedules: functions of the step, and the reaction to a plateau."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from cvtrain.sections import Schedule

LearningRate = Callable[[int], float]
"""Optimizer steps done so far -> learning rate of the next one."""

_MIN_DELTA = 1e-4
"""The smallest change of the monitored value that counts as an improvement, as in Keras."""


def build_schedule(
    schedule: Schedule, *, learning_rate: float, epochs: int, steps_per_epoch: int
) -> LearningRate:
    """Build a schedule; with r the base rate and t the steps since the warm-up:

    - `constant` and `plateau`: r, which `update_plateau` lowers.
    - `cosine`: from r to 0 along half a cosine over the remaining steps (Loshchilov & Hutter,
      arXiv:1608.03983).
    - `step`: r `factor`^floor(t / steps in `every` epochs).
    - `exponential`: r `factor`^(t / `steps_per_epoch`).

    During the warm-up the rate rises linearly, r (t + 1) / steps of the warm-up, so that no step
    has a rate of zero (Goyal et al., arXiv:1706.02677).

    Args:
        schedule: the section of the config; its times are in epochs.
        learning_rate: the base rate r.
        epochs, steps_per_epoch: the length of the whole training, including the warm-up.
    """
    factor, warmup = schedule.factor, round(schedule.warmup_epochs * steps_per_epoch)
    period = schedule.every * steps_per_epoch
    decays = {
        "constant": lambda _: 1.0,
        "plateau": lambda _: 1.0,
        "cosine": lambda t: _cosine(t / max(1, epochs * steps_per_epoch - warmup)),
        "step": lambda t: factor ** (t // period),
        "exponential": lambda t: factor ** (t / steps_per_epoch),
    }
    decay = decays[schedule.name]

    def learning_rate_of(step: int) -> float:
        if step < warmup:
            return learning_rate * (step + 1) / warmup
        return learning_rate * decay(step - warmup)

    return learning_rate_of


def _cosine(share: float) -> float:
    return (1 + math.cos(math.pi * min(1.0, share))) / 2


@dataclass(frozen=True)
class PlateauState:
    """The current factor of the learning rate, the best value so far, and the epochs since then."""

    scale: float = 1.0
    best: float | None = None
    wait: int = 0


def update_plateau(
    state: PlateauState, schedule: Schedule, value: float, *, higher: bool
) -> PlateauState:
    """Lower the rate if the monitored value has not improved for some epochs.

    The rule of Keras' ReduceLROnPlateau, with its state as a value that a checkpoint can contain.

    Args:
        state: the state before the epoch.
        schedule: the section of the config; its `patience` is the number of epochs without
            improvement before the rate is multiplied by its `factor`. Only `plateau` lowers it.
        value: the monitored value of the epoch.
        higher: whether a higher value is better.

    Returns:
        The state after the epoch.
    """
    if schedule.name != "plateau":
        return state
    sign = 1 if higher else -1
    if state.best is None or sign * (value - state.best) > _MIN_DELTA:
        return replace(state, best=value, wait=0)
    if state.wait + 1 < schedule.patience:
        return replace(state, wait=state.wait + 1)
    return replace(state, wait=0, scale=state.scale * schedule.factor)

"""The learning rate: a pure function of the step, or a reaction to how validation goes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from cvtrain.sections import Schedule

LearningRate = Callable[[int], float]
"""Optimizer steps done so far -> learning rate of the next one."""

_MIN_DELTA = 1e-4
"""The least change of the monitored value that counts as progress, as in Keras."""


def build_schedule(
    schedule: Schedule, *, learning_rate: float, epochs: int, steps_per_epoch: int
) -> LearningRate:
    """Build a schedule; with r the base rate and t the steps since the warm-up:

    - `constant` and `plateau`: r, which `update_plateau` lowers.
    - `cosine`: from r to 0 along half a cosine over the steps that are left (Loshchilov & Hutter,
      arXiv:1608.03983).
    - `step`: r `factor`^floor(t / steps in `every` epochs).
    - `exponential`: r `factor`^(t / `steps_per_epoch`).

    During the warm-up the rate rises linearly, r (t + 1) / steps of the warm-up, so that no step is
    lost at rate zero (Goyal et al., arXiv:1706.02677).

    Args:
        schedule: which one; its times are in epochs.
        learning_rate: the base rate r.
        epochs, steps_per_epoch: of the whole training, warm-up included.
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
    """Factor of the learning rate now, best value so far, epochs since then."""

    scale: float = 1.0
    best: float | None = None
    wait: int = 0


def update_plateau(
    state: PlateauState, schedule: Schedule, value: float, *, higher: bool
) -> PlateauState:
    """Lower the rate when the monitored value has not improved for some epochs.

    The rule of Keras' ReduceLROnPlateau, with the state outside, so that it can be committed.

    Args:
        state: before the epoch.
        schedule: its `patience` is epochs without improvement before the rate is lowered, its
            `factor` what the rate is then multiplied by; those of other names lower nothing.
        value: that the epoch ended with.
        higher: is a higher value better?

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

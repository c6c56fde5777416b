"""The learning rate: a pure function of the step, or a reaction to how validation goes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

Schedule = Callable[[int], float]
"""Optimizer steps done so far -> learning rate of the next one."""


def build_schedule(
    name: str,
    *,
    learning_rate: float,
    total_steps: int,
    warmup_steps: int = 0,
    decay_steps: int = 1,
    factor: float = 0.1,
) -> Schedule:
    """Build a schedule; with r the base rate and t the steps since the warm-up:

    - `constant`: r. Also the base that `Plateau` lowers.
    - `cosine`: from r to 0 along half a cosine over the steps that are left (Loshchilov & Hutter,
      arXiv:1608.03983).
    - `step`: r `factor`^floor(t / `decay_steps`).
    - `exponential`: r `factor`^(t / `decay_steps`).

    During the warm-up the rate rises linearly, r (t + 1) / `warmup_steps`, so that no step is lost
    at rate zero (Goyal et al., arXiv:1706.02677).

    Args:
        name: one of the above.
        learning_rate: the base rate r.
        total_steps: optimizer steps of the whole training, warm-up included.
        warmup_steps: steps of the warm-up.
        decay_steps: steps between two drops (`step`), or for one `factor` (`exponential`).
        factor: what the rate is multiplied by.
    """
    decays = {
        "constant": lambda _: 1.0,
        "cosine": lambda t: _cosine(t / max(1, total_steps - warmup_steps)),
        "step": lambda t: factor ** (t // decay_steps),
        "exponential": lambda t: factor ** (t / decay_steps),
    }
    decay = decays[name]

    def schedule(step: int) -> float:
        if step < warmup_steps:
            return learning_rate * (step + 1) / warmup_steps
        return learning_rate * decay(step - warmup_steps)

    return schedule


def _cosine(share: float) -> float:
    return (1 + math.cos(math.pi * min(1.0, share))) / 2


@dataclass(frozen=True)
class Plateau:
    """Lower the rate when the monitored value has not improved for some epochs.

    The rule of Keras' ReduceLROnPlateau, with the state outside, so that it can be committed.

    Attributes:
        factor: what the rate is multiplied by.
        patience: epochs without improvement before that.
        min_delta: the least change that counts as an improvement.
    """

    factor: float = 0.1
    patience: int = 10
    min_delta: float = 1e-4

    def update(self, state: "PlateauState", value: float, *, higher: bool) -> "PlateauState":
        """The state after an epoch that ended with `value`; `higher` says which way is better."""
        sign = 1 if higher else -1
        if state.best is None or sign * (value - state.best) > self.min_delta:
            return replace(state, best=value, wait=0)
        if state.wait + 1 < self.patience:
            return replace(state, wait=state.wait + 1)
        return replace(state, wait=0, scale=state.scale * self.factor)


@dataclass(frozen=True)
class PlateauState:
    """Factor of the learning rate now, best value so far, epochs since then."""

    scale: float = 1.0
    best: float | None = None
    wait: int = 0

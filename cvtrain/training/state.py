"""The state and the outcome of a training, as plain values."""

from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np

from cvtrain.sections import Training
from cvtrain.training.schedules import PlateauState, update_plateau

Batches = Generator[tuple[np.ndarray, np.ndarray], None, None]
"""Images uint8 (n, height, width, 3) and labels integer (n,), batch by batch; the labels of mixed
images, which only training sees, are float32 (n, classes), rows sum to 1."""

Row = dict[str, float]
"""One epoch: epoch (from 1), step (optimizer steps in all), learning_rate (of its last step), loss,
accuracy, val_loss, val_accuracy, further validation metrics, images_per_second, seconds (of
training), val_seconds."""

Validated = dict[str, float]
"""The metrics of a validation: val_loss, the mean cross-entropy in nats, val_accuracy and further
metrics, in 0..1."""


@dataclass
class Progress:
    """The progress of a training. Epochs and steps count from 1; the metrics `loss` and `accuracy`
    are means over the epoch so far."""

    epoch: int
    epochs: int
    step: int
    steps_per_epoch: int
    learning_rate: float
    metrics: dict[str, float]
    images_per_second: float


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Attributes:
        history: one row per epoch.
        best_epoch: the epoch, from 1, whose weights the model has; 0 for the weights of the start,
            if no epoch was better; None if no weights were kept, and the model has those of the
            last step.
        outcome: `finished`, `early_stopped`, `stopped` (on request; it can be resumed) or
            `diverged` (a loss, the weights or the optimizer's state are no longer finite).
        seconds: time of training and validation, including that before a resume.
        start: the metrics of the model before the first step, if they were measured.
        reason: the position at which training diverged, and what was not finite; else empty.
        from_start: whether the loss was not finite before any weight had changed.
    """

    history: list[Row]
    best_epoch: int | None
    outcome: str
    seconds: float
    start: Validated | None = None
    reason: str = ""
    from_start: bool = False


@dataclass
class State:
    """The plain values of a training; a checkpoint contains them and the arrays.

    Attributes:
        epoch: number of complete epochs.
        step: number of steps done in the current epoch.
        totals: sums of `backend.TrainStep` over the current epoch.
        seconds: time spent on the steps of the current epoch.
        history: rows of the complete epochs.
        best_epoch: the epoch with the best monitored value so far; 0 before the first ended.
        best_value: the monitored value of that epoch.
        start: the metrics of the model before the first step, if its weights may be kept.
        plateau: the state of a plateau schedule.
    """

    epoch: int = 0
    step: int = 0
    totals: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    history: list[Row] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float = 0.0
    start: Validated | None = None
    plateau: PlateauState = field(default_factory=PlateauState)

    def outcome(self, stage: Training, epochs: int) -> str:
        """`finished` after `epochs`, `early_stopped` if the patience is used up, else empty."""
        if self.epoch >= epochs:
            return "finished"
        stale, patience = self.epoch - self.best_epoch, stage.early_stopping
        return "early_stopped" if patience and stale >= patience else ""

    def end_epoch(self, row: Row, stage: Training) -> bool:
        """Start the next epoch; return whether the weights of this one are the best so far."""
        self.history.append(row)
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        value, higher = row[stage.monitor], _is_higher_better(stage)
        self.plateau = update_plateau(self.plateau, stage.schedule, value, higher=higher)
        if self.best_epoch and not _is_better(value, self.best_value, stage):
            return False
        self.best_epoch, self.best_value = self.epoch, value
        return self._beats_start(stage)

    def kept_epoch(self, stage: Training) -> int:
        """The epoch whose weights are kept; 0 for the start."""
        return self.best_epoch if self.best_epoch and self._beats_start(stage) else 0

    def position(self, steps_per_epoch: int) -> str:
        """The epoch and step, for messages."""
        if not self.epoch and not self.step:
            return "before the first step"
        return f"epoch {self.epoch + 1}, step {self.step} of {steps_per_epoch}"

    def _beats_start(self, stage: Training) -> bool:
        return self.start is None or _is_better(self.best_value, self.start[stage.monitor], stage)


def _is_better(value: float, than: float, stage: Training) -> bool:
    return value > than if _is_higher_better(stage) else value < than


def _is_higher_better(stage: Training) -> bool:
    return stage.monitor != "val_loss"

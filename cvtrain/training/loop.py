"""The training loop: epochs of steps, validation, the best weights, and a state to resume from.

Everything that the next step depends on is in `State`, in the variables of the model, of the
optimizer and of the moving average, and in the best weights; the batches are a function of the
global step. So a training resumed from a checkpoint, in the middle of an epoch too, is the one that
was never interrupted.
"""

import contextlib
import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.errors import ConfigError, RunError, TrainingError
from cvtrain.models.invariant import logits_model
from cvtrain.signals import Stop
from cvtrain.training.average import WeightAverage
from cvtrain.training.checkpoint import Checkpoints, Snapshot
from cvtrain.training.schedules import Plateau, PlateauState, Schedule

Batches = Generator[tuple[np.ndarray, np.ndarray], None, None]
"""Images uint8 (n, height, width, 3) and labels integer (n,), batch by batch; the labels of mixed
images, which only training sees, are float32 (n, classes), rows sum to 1."""

Row = dict[str, float]
"""One epoch: epoch (from 1), step (optimizer steps in all), learning_rate (of its last step), loss,
accuracy, val_loss, val_accuracy, images_per_second, seconds (of training), val_seconds."""

_REPORT_SECONDS = 0.1


@dataclass(frozen=True)
class Progress:
    """Where a training is. Epochs and steps count from 1; the metrics are of the epoch so far."""

    epoch: int
    epochs: int
    step: int
    steps_per_epoch: int
    learning_rate: float
    loss: float
    accuracy: float
    images_per_second: float


@dataclass(frozen=True)
class Trained:
    """How a training ended.

    Attributes:
        history: one row per epoch.
        best_epoch: whose weights the model has, from 1; 0 if it was stopped before the first
            epoch ended, and the model has the weights of the last step.
        outcome: `finished`, `early_stopped` or `stopped` (on request; it can be resumed).
        seconds: of training and validation, those before a resume included.
    """

    history: list[Row]
    best_epoch: int
    outcome: str
    seconds: float


@dataclass
class State:
    """The plain values of a training; a checkpoint holds them beside the arrays.

    Attributes:
        epoch: epochs done.
        step: steps done of the epoch that runs.
        totals: of the epoch that runs, as `backend.TrainStep` has them.
        seconds: spent on the steps of the epoch that runs.
        history: rows of the epochs done.
        best_epoch: the epoch with the best monitored value so far; 0 before the first ended.
        best_value: that value.
        plateau: what a plateau schedule remembers.
    """

    epoch: int = 0
    step: int = 0
    totals: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    seconds: float = 0.0
    history: list[Row] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float = 0.0
    plateau: PlateauState = field(default_factory=PlateauState)


def _ignore(_: object) -> None:
    pass


@backend.memory_errors()
def train(
    model: keras.Model,
    *,
    batches: Callable[[int], Batches],
    validation: Callable[[], Batches],
    epochs: int,
    steps_per_epoch: int,
    optimizer: keras.optimizers.Optimizer,
    schedule: Schedule,
    stop: Stop,
    plateau: Plateau | None = None,
    class_weights: np.ndarray | None = None,
    label_smoothing: float = 0.0,
    rates: Sequence[float] | None = None,
    ema: float | None = None,
    monitor: str = "val_loss",
    patience: int | None = None,
    checkpoints: Checkpoints | None = None,
    on_step: Callable[[Progress], None] = _ignore,
    on_epoch: Callable[[list[Row]], None] = _ignore,
) -> Trained:
    """Train `model` and leave the weights of its best epoch in it.

    Continues from the newest checkpoint if there is one. KERAS_MAX_EPOCHS and
    KERAS_MAX_STEPS_PER_EPOCH in the environment cut a training short, for smoke runs.

    Args:
        model: ends in the layers `logits` and `probabilities`.
        batches: from a global step on, the endless stream of training batches; closed at the end.
        validation: the validation batches, once through.
        epochs, steps_per_epoch: how long to train; independent of the size of the data.
        optimizer: its learning rate is set before each step.
        schedule: optimizer steps done -> learning rate of the next.
        stop: polled; the step that runs is finished, then all is committed.
        plateau: lowers what `schedule` says when the monitored value does not improve.
        class_weights: (classes,) factors of the training loss; the validation loss has none.
        label_smoothing: share of the training labels that is spread over all classes; the
            validation loss is the plain cross-entropy.
        rates: factor of the learning rate of each trainable variable of `model`; None for ones.
        ema: decay per step of a moving average of the weights (`WeightAverage`). It is what is
            validated and kept as the best; the loss and accuracy of training are those of the
            weights themselves. None for no average.
        monitor: `val_loss` or `val_accuracy`; its best epoch is the one that counts, the first
            among equals.
        patience: epochs without improvement, at least 1, before an early end; None for never.
        checkpoints: where to commit and from where to continue; None for nowhere.
        on_step: called some ten times a second.
        on_epoch: called after each epoch with the rows so far; the last one is new.

    Raises:
        TrainingError: the loss is not finite; the model has the best weights so far.
        ResourceError: the memory does not suffice, or a checkpoint could not be written.
        RunError: the checkpoints are damaged, or of another model or optimizer.
    """
    epochs = _at_most("KERAS_MAX_EPOCHS", epochs)
    steps_per_epoch = _at_most("KERAS_MAX_STEPS_PER_EPOCH", steps_per_epoch)
    logits = logits_model(model)
    loop = _Loop(
        model=model,
        optimizer=optimizer,
        step=backend.train_step(
            logits,
            optimizer,
            class_weights=class_weights,
            label_smoothing=label_smoothing,
            rates=rates,
        ),
        predict=backend.inference(logits),
        average=WeightAverage(model, ema) if ema else None,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        schedule=schedule,
        plateau=plateau,
        monitor=monitor,
        patience=patience,
        stop=stop,
    )
    state = loop.state
    if checkpoints and (snapshot := checkpoints.load()):
        loop.restore(snapshot)
    try:
        with contextlib.closing(batches(loop.global_step)) as stream:
            while not loop.outcome() and not stop.requested:
                for progress in loop.run_steps(stream):
                    on_step(progress)
                    if checkpoints and checkpoints.due(at_epoch_end=False):
                        checkpoints.save(loop.snapshot())
                if not stop.requested and loop.validate_and_end_epoch(validation):
                    on_epoch(state.history)
                ended = loop.outcome() or stop.requested
                if checkpoints and (ended or checkpoints.due(at_epoch_end=True)):
                    checkpoints.save(loop.snapshot())
    finally:
        loop.set_best_weights()
    return Trained(
        history=state.history,
        best_epoch=state.best_epoch,
        outcome=loop.outcome() or "stopped",
        seconds=state.seconds + sum(row["seconds"] + row["val_seconds"] for row in state.history),
    )


@dataclass(kw_only=True)
class _Loop:
    """What `train` works on: the arrays, the state and the rules, one method for each phase."""

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    step: backend.TrainStep
    predict: Callable[[np.ndarray], np.ndarray]
    average: WeightAverage | None
    epochs: int
    steps_per_epoch: int
    schedule: Schedule
    plateau: Plateau | None
    monitor: str
    patience: int | None
    stop: Stop
    state: State = field(default_factory=State)
    best: list[np.ndarray] = field(default_factory=list)

    @property
    def global_step(self) -> int:
        return self.state.epoch * self.steps_per_epoch + self.state.step

    def outcome(self) -> str:
        state = self.state
        if state.epoch >= self.epochs:
            return "finished"
        stale = state.epoch - state.best_epoch
        return "early_stopped" if self.patience and stale >= self.patience else ""

    def run_steps(self, stream: Batches) -> Iterator[Progress]:
        """Go on to the end of the epoch or to a request to stop; say every so often where."""
        state = self.state
        mark, reported = time.perf_counter(), -math.inf
        while state.step < self.steps_per_epoch and not self.stop.requested:
            images, labels = next(stream)
            self.step(images, labels, self._learning_rate(self.global_step))
            state.step += 1
            if self.average:
                self.average.update(self.global_step)
            now = time.perf_counter()
            reports = now - reported >= _REPORT_SECONDS or state.step == self.steps_per_epoch
            if reports:
                # Waits for the device: too dear for every step, and part of the time they took.
                self._checked_totals()
                reported = now = time.perf_counter()
            state.seconds += now - mark
            mark = now
            if reports:
                yield self._progress()
                mark = time.perf_counter()

    def validate_and_end_epoch(self, validation: Callable[[], Batches]) -> bool:
        """Close the epoch; False if a stop was asked for before that could be done."""
        with self.average.applied() if self.average else contextlib.nullcontext():
            return self._validate_and_end_epoch(validation)

    def _validate_and_end_epoch(self, validation: Callable[[], Batches]) -> bool:
        started = time.perf_counter()
        validated = self._validate(validation)
        if validated is None:
            return False
        loss, accuracy = validated
        state, progress = self.state, self._progress()
        row = {
            "epoch": progress.epoch,
            "step": self.global_step,
            "learning_rate": progress.learning_rate,
            "loss": progress.loss,
            "accuracy": progress.accuracy,
            "val_loss": loss,
            "val_accuracy": accuracy,
            "images_per_second": progress.images_per_second,
            "seconds": state.seconds,
            "val_seconds": time.perf_counter() - started,
        }
        state.history.append(row)
        state.epoch, state.step, state.seconds = progress.epoch, 0, 0.0
        self.step.totals = np.zeros(3)
        self._judge(row[self.monitor])
        return True

    def set_best_weights(self) -> None:
        if self.best:
            self.model.set_weights(self.best)

    def snapshot(self) -> Snapshot:
        self.state.totals = self._checked_totals().tolist()
        arrays = {
            f"{group}/{i}": array
            for group, variables in self._groups().items()
            for i, array in enumerate(map(_to_numpy, variables))
        }
        arrays |= {f"best/{i}": array for i, array in enumerate(self.best)}
        return Snapshot(asdict(self.state), arrays)

    def restore(self, snapshot: Snapshot) -> None:
        for group, variables in self._groups().items():
            arrays = _group(snapshot, group)
            if [a.shape for a in arrays] != [tuple(v.shape) for v in variables]:
                raise RunError(
                    f"the checkpoint is of another {group}: its variables have other shapes",
                    "Resume with the config that the run was started with.",
                )
            for variable, array in zip(variables, arrays, strict=True):
                variable.assign(array)
        self.best = _group(snapshot, "best")
        values = snapshot.values
        vars(self.state).update(values | {"plateau": PlateauState(**values["plateau"])})
        self.step.totals = np.array(self.state.totals)

    def _groups(self) -> dict[str, list[keras.Variable]]:
        groups = {"model": self.model.variables, "optimizer": self.optimizer.variables}
        return groups | ({"average": self.average.variables} if self.average else {})

    def _learning_rate(self, step: int) -> float:
        return self.schedule(step) * self.state.plateau.scale

    def _progress(self) -> Progress:
        state = self.state
        loss, hits, images = self._checked_totals().tolist()
        return Progress(
            epoch=state.epoch + 1,
            epochs=self.epochs,
            step=state.step,
            steps_per_epoch=self.steps_per_epoch,
            learning_rate=self._learning_rate(self.global_step - 1),
            loss=loss / images,
            accuracy=hits / images,
            images_per_second=images / state.seconds,
        )

    def _checked_totals(self) -> np.ndarray:
        totals = self.step.totals
        self._check(totals[0], "loss")
        return totals

    def _check(self, value: float, name: str) -> None:
        if not math.isfinite(value):
            state = self.state
            raise TrainingError(
                f"epoch {state.epoch + 1}, step {state.step} of {self.steps_per_epoch}: "
                f"the {name} is {value}",
                "Lower optimizer.learning_rate or set optimizer.clip_norm, and look at the images "
                "(`cvtrain data check`). The best weights so far are kept.",
            )

    def _validate(self, validation: Callable[[], Batches]) -> tuple[float, float] | None:
        """Mean loss and accuracy; None when a stop was asked for."""
        loss, hits, images = 0.0, 0, 0
        with contextlib.closing(validation()) as stream:
            for batch, labels in stream:
                if self.stop.requested:
                    return None
                logits = self.predict(batch)
                loss += float(np.sum(_cross_entropy(logits, labels)))
                hits += int(np.sum(np.argmax(logits, axis=1) == labels))
                images += len(labels)
        self._check(loss, "validation loss")
        return loss / images, hits / images

    def _judge(self, value: float) -> None:
        """Keep the weights if this epoch is the best; let a plateau lower the rate."""
        state = self.state
        higher = self.monitor == "val_accuracy"
        gain = value - state.best_value if higher else state.best_value - value
        if not state.best_epoch or gain > 0:
            state.best_epoch, state.best_value = state.epoch, value
            self.best = [_to_numpy(weight) for weight in self.model.weights]
        if self.plateau:
            state.plateau = self.plateau.update(state.plateau, value, higher=higher)


def _at_most(variable: str, number: int) -> int:
    """`number`, or what Keras' environment variable limits it to, as Keras itself does it."""
    text = os.environ.get(variable, str(number))
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise ConfigError(f"{variable}: must be a whole number, 1 or more; received {text!r}")
    return min(number, int(text))


def _to_numpy(variable: keras.Variable) -> np.ndarray:
    # A copy: an engine may show its own memory, which the next step overwrites.
    return np.array(variable.numpy())


def _group(snapshot: Snapshot, name: str) -> list[np.ndarray]:
    count = sum(key.startswith(f"{name}/") for key in snapshot.arrays)
    return [snapshot.arrays[f"{name}/{i}"] for i in range(count)]


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    shifted = (logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]

"""The training loop: epochs of steps, validation, the best weights, and a state to resume from.

Everything that the next step depends on is in `State`, in the variables of the model, of the
optimizer and of the moving average, and in the best weights; the batches are a function of the
global step. So a training resumed from a checkpoint, in the middle of an epoch too, is the one that
was never interrupted.

Why not `keras.Model.fit`: it resumes at the beginning of an epoch, and not with the state of its
callbacks; it has one learning rate for all layers; and XLA cannot compile the optimizer alone,
which is faster on processors (`backend.steps`).
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.errors import ConfigError, RunError
from cvtrain.evaluation.calibration import softmax
from cvtrain.evaluation.metrics import METRICS
from cvtrain.models.saved_model import logits_model
from cvtrain.sections import Training
from cvtrain.system.signals import Stop
from cvtrain.training.checkpoint import Checkpoints, Snapshot
from cvtrain.training.ema import WeightAverage
from cvtrain.training.optimizers import build_optimizer
from cvtrain.training.schedules import LearningRate, PlateauState, build_schedule, update_plateau
from cvtrain.training.state import Batches, Progress, Row, State, Trained, Validated

_REPORT_SECONDS = 0.1


class _NotFinite(Exception):
    """Training cannot go on; where and what is not finite, and whether it was so from the start."""


def _ignore(_: object) -> None:
    pass


@backend.memory_errors()
def train(
    model: keras.Model,
    stage: Training,
    *,
    batches: Callable[[int], Batches],
    validation: Callable[[], Batches],
    steps_per_epoch: int,
    stop: Stop,
    precision: str = "float32",
    class_weights: np.ndarray | None = None,
    rates: Sequence[float] | None = None,
    keep_start: bool = False,
    checkpoints: Checkpoints | None = None,
    on_start: Callable[[Validated], None] = _ignore,
    on_step: Callable[[Progress], None] = _ignore,
    on_epoch: Callable[[list[Row]], None] = _ignore,
) -> Trained:
    """Train `model` and leave the weights of its best epoch in it.

    It ends at the first loss that is not finite, and where an epoch leaves weights, moving
    statistics, averages or a state of the optimizer that are not: that epoch is never the best, and
    no checkpoint holds it.

    Continues from the newest checkpoint if there is one. KERAS_MAX_EPOCHS and
    KERAS_MAX_STEPS_PER_EPOCH in the environment cut a training short, for smoke runs.

    Args:
        model: ends in the layers `logits` and `probabilities`.
        stage: how long to train, with which optimizer and schedule, and which epoch is the best:
            the first among equals. Early stopping counts the epochs alone. The validation loss is
            the plain cross-entropy, without the smoothing of labels. With a moving average
            (`WeightAverage`) that is what is validated and kept as the best; the loss and accuracy
            of training are those of the weights themselves.
        batches: from a global step on, the endless stream of training batches; closed at the end.
        validation: the validation batches, once through.
        steps_per_epoch: batches in an epoch; independent of the size of the data.
        stop: polled; the step that runs is finished, then all is committed.
        precision: that `model` computes in.
        class_weights: (classes,) factors of the training loss; the validation loss has none.
        rates: factor of the learning rate of each trainable variable of `model`; None for ones.
        keep_start: also validate the model as it is before the first step, as epoch 0, and keep its
            weights where no epoch is better.
        checkpoints: where to commit and from where to continue; None for nowhere.
        on_start: called with how the start did, once, where it is validated.
        on_step: called some ten times a second.
        on_epoch: called after each epoch with the rows so far; the last one is new.

    Raises:
        ResourceError: the memory does not suffice, or a checkpoint could not be written.
        RunError: the checkpoints are damaged, or of another model or optimizer.
    """
    learning_rate = build_schedule(
        stage.schedule,
        learning_rate=stage.optimizer.learning_rate,
        epochs=stage.epochs,
        steps_per_epoch=steps_per_epoch,
    )
    epochs = _at_most("KERAS_MAX_EPOCHS", stage.epochs)
    steps_per_epoch = _at_most("KERAS_MAX_STEPS_PER_EPOCH", steps_per_epoch)
    logits = logits_model(model)
    optimizer = build_optimizer(stage.optimizer, precision=precision)
    loop = _Loop(
        model=model,
        optimizer=optimizer,
        step=backend.train_step(
            logits,
            optimizer,
            class_weights=class_weights,
            label_smoothing=stage.label_smoothing,
            rates=rates,
        ),
        predict=backend.inference(logits),
        average=WeightAverage(model, stage.ema) if stage.ema else None,
        stage=stage,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        learning_rate=learning_rate,
        stop=stop,
    )
    state, reason, from_start = loop.state, "", False
    if checkpoints and (snapshot := checkpoints.load()):
        loop.restore(snapshot)
    try:
        if keep_start and (start := loop.validate_start(validation)):
            on_start(start)
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
    except _NotFinite as error:
        reason, from_start = error.args
    finally:
        loop.set_best_weights()
    return Trained(
        history=state.history,
        best_epoch=loop.kept_epoch,
        outcome="diverged" if reason else loop.outcome() or "stopped",
        seconds=state.seconds + sum(row["seconds"] + row["val_seconds"] for row in state.history),
        start=state.start,
        reason=reason,
        from_start=from_start,
    )


@dataclass(kw_only=True)
class _Loop:
    """What `train` works on: the arrays, the state and the rules, one method for each phase."""

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    step: backend.TrainStep
    predict: Callable[[np.ndarray], np.ndarray]
    average: WeightAverage | None
    stage: Training
    epochs: int
    steps_per_epoch: int
    learning_rate: LearningRate
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
        stale, patience = state.epoch - state.best_epoch, self.stage.early_stopping
        return "early_stopped" if patience and stale >= patience else ""

    @property
    def kept_epoch(self) -> int | None:
        """Whose weights `best` has; 0 for the start, None for nothing."""
        if not self.best:
            return None
        state = self.state
        is_better = state.best_epoch and self._beats_start(state.best_value)
        return state.best_epoch if is_better else 0

    def validate_start(self, validation: Callable[[], Batches]) -> dict[str, float] | None:
        """Keep the model as it is until an epoch is better, and return how it does; None if that
        was done before, or a stop was asked for."""
        if self.global_step or self.state.start:
            return None
        if validated := self._validate(validation):
            self.state.start, self.best = validated, self._weights()
        return validated

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
        self._check_variables()
        with self.average.applied() if self.average else contextlib.nullcontext():
            return self._validate_and_end_epoch(validation)

    def _validate_and_end_epoch(self, validation: Callable[[], Batches]) -> bool:
        started = time.perf_counter()
        validated = self._validate(validation)
        if validated is None:
            return False
        state, progress = self.state, self._progress()
        row = {
            "epoch": progress.epoch,
            "step": self.global_step,
            "learning_rate": progress.learning_rate,
            **progress.metrics,
            **validated,
            "images_per_second": progress.images_per_second,
            "seconds": state.seconds,
            "val_seconds": time.perf_counter() - started,
        }
        state.history.append(row)
        state.epoch, state.step, state.seconds = progress.epoch, 0, 0.0
        self.step.totals = backend.NO_TOTALS
        self._judge(row[self.stage.monitor])
        return True

    def set_best_weights(self) -> None:
        if self.best:
            self.model.set_weights(self.best)

    def snapshot(self) -> Snapshot:
        self._check_variables()
        self.state.totals = self._checked_totals()
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
        if isinstance(self.state.totals, list):  # as earlier versions wrote them
            self.state.totals = dict(zip(backend.NO_TOTALS, self.state.totals, strict=True))
        self.step.totals = self.state.totals

    def _groups(self) -> dict[str, list[keras.Variable]]:
        groups = {"model": self.model.variables, "optimizer": self.optimizer.variables}
        return groups | ({"average": self.average.variables} if self.average else {})

    def _learning_rate(self, step: int) -> float:
        return self.learning_rate(step) * self.state.plateau.scale

    def _progress(self) -> Progress:
        state = self.state
        totals = self._checked_totals()
        images = totals.pop("images")
        return Progress(
            epoch=state.epoch + 1,
            epochs=self.epochs,
            step=state.step,
            steps_per_epoch=self.steps_per_epoch,
            learning_rate=self._learning_rate(self.global_step - 1),
            metrics={name: total / images for name, total in totals.items()},
            images_per_second=images / state.seconds,
        )

    def _checked_totals(self) -> dict[str, float]:
        totals = dict(self.step.totals)
        self._check(totals["loss"], "loss")
        return totals

    def _check(self, value: float, name: str) -> None:
        if not math.isfinite(value):
            # The loss of a batch is that before its step.
            raise _NotFinite(f"{self._where()}: the {name} is {value}", self.global_step <= 1)

    def _check_variables(self) -> None:
        """Notice what the losses may hide: normalising by an infinite variance gives zeros, and a
        weight whose squared gradients overflowed once never moves again."""
        names = {"model": "weights", "average": "averaged weights"}
        for group, variables in self._groups().items():
            if found := backend.not_finite(variables):
                # The paths of an optimizer count those that the process had before.
                first = found[0].path if group == "model" else found[0].name
                more = f" and {len(found) - 1} more" if len(found) > 1 else ""
                what = names.get(group, f"values that the {group} keeps")
                reason = f"{self._where()}: {what} are not finite ({first}{more})"
                raise _NotFinite(reason, False)

    def _where(self) -> str:
        state = self.state
        if not self.global_step:
            return "before the first step"
        return f"epoch {state.epoch + 1}, step {state.step} of {self.steps_per_epoch}"

    def _validate(self, validation: Callable[[], Batches]) -> Validated | None:
        """How the model does on the validation images; None when a stop was asked for."""
        loss, answers = 0.0, []
        with contextlib.closing(validation()) as stream:
            for images, labels in stream:
                if self.stop.requested:
                    return None
                logits = self.predict(images)
                loss += float(np.sum(_cross_entropy(logits, labels)))
                answers.append((labels, logits))
        self._check(loss, "validation loss")
        labels, logits = map(np.concatenate, zip(*answers, strict=True))
        num_correct = int(np.sum(np.argmax(logits, axis=1) == labels))
        found = {"loss": loss / len(labels), "accuracy": num_correct / len(labels)}
        if self.stage.metrics:
            # In float64: probabilities of float32 that are almost 0 or 1 would be equal.
            probabilities = softmax(logits.astype(np.float64))
            found |= {name: METRICS[name](labels, probabilities) for name in self.stage.metrics}
        return {f"val_{name}": value for name, value in found.items()}

    def _judge(self, value: float) -> None:
        """Keep the weights if this epoch is the best; let a plateau lower the rate."""
        state = self.state
        if not state.best_epoch or self._is_better(value, state.best_value):
            state.best_epoch, state.best_value = state.epoch, value
            if self._beats_start(value):
                self.best = self._weights()
        schedule, higher = self.stage.schedule, self._is_share
        state.plateau = update_plateau(state.plateau, schedule, value, higher=higher)

    def _beats_start(self, value: float) -> bool:
        start = self.state.start
        return start is None or self._is_better(value, start[self.stage.monitor])

    def _is_better(self, value: float, than: float) -> bool:
        return value > than if self._is_share else value < than

    @property
    def _is_share(self) -> bool:
        """Is what is monitored better where it is higher, as all but the loss are?"""
        return self.stage.monitor != "val_loss"

    def _weights(self) -> list[np.ndarray]:
        return [_to_numpy(weight) for weight in self.model.weights]


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

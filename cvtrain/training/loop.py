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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

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
from cvtrain.training.schedules import PlateauState, build_schedule
from cvtrain.training.state import Batches, Progress, Row, State, Trained, Validated

_REPORT_SECONDS = 0.1


class _NotFinite(Exception):
    """Training cannot continue; arguments: what is not finite, and whether that is a loss."""


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

    Training ends at the first loss that is not finite, and after an epoch in which weights, moving
    statistics, averages or the optimizer's state become non-finite. Such an epoch is never the
    best, and no checkpoint contains it.

    Training continues from the newest checkpoint if there is one. The environment variables
    KERAS_MAX_EPOCHS and KERAS_MAX_STEPS_PER_EPOCH limit its length, for smoke tests.

    Args:
        model: a model that ends in the layers `logits` and `probabilities`.
        stage: the epochs, optimizer, schedule and monitored metric. The best epoch is the first
            among equals. Early stopping compares epochs with each other, not with the start. The
            validation loss is the plain cross-entropy, without label smoothing. With a moving
            average (`WeightAverage`), the averages are validated and kept as the best; the loss and
            accuracy of training are those of the weights themselves.
        batches: a function from a global step to the endless stream of training batches from there
            on, which is closed at the end.
        validation: a function that returns the validation batches of one pass.
        steps_per_epoch: batches in an epoch; independent of the size of the data.
        stop: a request to stop, polled: the current step is finished, then a checkpoint is saved.
        precision: the precision in which `model` computes.
        class_weights: (classes,) factors of the training loss; the validation loss has none.
        rates: factor of the learning rate of each trainable variable of `model`; None for ones.
        keep_start: also validate the model before the first step, as epoch 0, and keep its weights
            if no epoch is better.
        checkpoints: where to save the state and from where to continue; None for no checkpoints.
        on_start: called once with the validation metrics of the start, if `keep_start`.
        on_step: called about ten times a second.
        on_epoch: called after each epoch with all rows so far; the last one is new.

    Raises:
        ResourceError: the memory does not suffice, or a checkpoint could not be written.
        RunError: the checkpoints are damaged, or belong to another model or optimizer.
    """
    schedule = build_schedule(
        stage.schedule,
        learning_rate=stage.optimizer.learning_rate,
        epochs=stage.epochs,
        steps_per_epoch=steps_per_epoch,
    )
    epochs = _at_most("KERAS_MAX_EPOCHS", stage.epochs)
    steps_per_epoch = _at_most("KERAS_MAX_STEPS_PER_EPOCH", steps_per_epoch)
    logits = logits_model(model)
    optimizer = build_optimizer(stage.optimizer, precision=precision)
    step = backend.train_step(
        logits,
        optimizer,
        class_weights=class_weights,
        label_smoothing=stage.label_smoothing,
        rates=rates,
    )
    predict = backend.inference(logits)
    average = WeightAverage(model, stage.ema) if stage.ema else None
    variables = {"model": model.variables, "optimizer": optimizer.variables}
    if average:
        variables["average"] = average.variables

    best: list[np.ndarray] = []
    state, reason, from_start = State(), "", False
    if checkpoints and (snapshot := checkpoints.load()):
        state, best = _restore(snapshot, variables)
        step.totals = state.totals
    num_steps = state.epoch * steps_per_epoch + state.step

    def progress() -> Progress:
        totals = _finite_totals(step)
        images = totals.pop("images")
        return Progress(
            epoch=state.epoch + 1,
            epochs=epochs,
            step=state.step,
            steps_per_epoch=steps_per_epoch,
            learning_rate=schedule(num_steps - 1) * state.plateau.scale,
            metrics={name: total / images for name, total in totals.items()},
            images_per_second=images / state.seconds,
        )

    try:
        if keep_start and not num_steps and not state.start:
            state.start = _validate(predict, validation, stage.metrics, stop)
            if state.start:
                best = _copies(model.weights)
                on_start(state.start)
        with contextlib.closing(batches(num_steps)) as stream:
            while not state.outcome(stage, epochs) and not stop.requested:
                reported = -math.inf
                while state.step < steps_per_epoch and not stop.requested:
                    started = time.perf_counter()
                    images, labels = next(stream)
                    with np.errstate(over="ignore"):  # what an infinite rate does is reported
                        learning_rate = np.float32(schedule(num_steps) * state.plateau.scale)
                    step.run(images, labels, learning_rate)
                    state.step, num_steps = state.step + 1, num_steps + 1
                    if average:
                        average.update(num_steps)
                    reports = time.perf_counter() - reported >= _REPORT_SECONDS
                    reports = reports or state.step == steps_per_epoch
                    if reports:
                        # Waits for the device: too slow for each step, and part of their time.
                        _finite_totals(step)
                        reported = time.perf_counter()
                    state.seconds += time.perf_counter() - started
                    if reports:
                        on_step(progress())
                        if checkpoints and checkpoints.due(at_epoch_end=False):
                            checkpoints.save(_snapshot(state, step, variables, best))
                if not stop.requested:
                    _check_variables(variables)
                    with average.applied() if average else contextlib.nullcontext():
                        started = time.perf_counter()
                        validated = _validate(predict, validation, stage.metrics, stop)
                        if validated:
                            row = _row(progress(), num_steps, state.seconds, validated, started)
                            if state.end_epoch(row, stage):
                                best = _copies(model.weights)
                    if validated:
                        step.totals = backend.NO_TOTALS
                        on_epoch(state.history)
                ended = state.outcome(stage, epochs) or stop.requested
                if checkpoints and (ended or checkpoints.due(at_epoch_end=True)):
                    checkpoints.save(_snapshot(state, step, variables, best))
    except _NotFinite as error:
        what, is_loss = error.args
        reason = f"{state.position(steps_per_epoch)}: {what}"
        from_start = is_loss and num_steps <= 1  # the loss of a batch is that before its step
    finally:
        if best:
            model.set_weights(best)
    return Trained(
        history=state.history,
        best_epoch=state.kept_epoch(stage) if best else None,
        outcome="diverged" if reason else state.outcome(stage, epochs) or "stopped",
        seconds=state.seconds + sum(row["seconds"] + row["val_seconds"] for row in state.history),
        start=state.start,
        reason=reason,
        from_start=from_start,
    )


def _validate(
    predict: Callable[[np.ndarray], np.ndarray],
    validation: Callable[[], Batches],
    metrics: Sequence[str],
    stop: Stop,
) -> Validated | None:
    """Evaluate logits on the validation images; None if a stop was requested."""
    loss, answers = 0.0, []
    with contextlib.closing(validation()) as stream:
        for images, labels in stream:
            if stop.requested:
                return None
            logits = predict(images)
            loss += float(np.sum(_cross_entropy(logits, labels)))
            answers.append((labels, logits))
    _check_finite(loss, "validation loss")
    labels, logits = map(np.concatenate, zip(*answers, strict=True))
    num_correct = int(np.sum(np.argmax(logits, axis=1) == labels))
    found = {"loss": loss / len(labels), "accuracy": num_correct / len(labels)}
    if metrics:
        # In float64: probabilities of float32 that are almost 0 or 1 would be equal.
        probabilities = softmax(logits.astype(np.float64))
        found |= {name: METRICS[name](labels, probabilities) for name in metrics}
    return {f"val_{name}": value for name, value in found.items()}


def _row(
    progress: Progress, num_steps: int, seconds: float, validated: Validated, started: float
) -> Row:
    """The row of the history; `started` is when its validation began, by `time.perf_counter`."""
    return {
        "epoch": progress.epoch,
        "step": num_steps,
        "learning_rate": progress.learning_rate,
        **progress.metrics,
        **validated,
        "images_per_second": progress.images_per_second,
        "seconds": seconds,
        "val_seconds": time.perf_counter() - started,
    }


def _snapshot(
    state: State,
    step: backend.TrainStep,
    variables: Mapping[str, Sequence[keras.Variable]],
    best: Sequence[np.ndarray],
) -> Snapshot:
    _check_variables(variables)
    state.totals = _finite_totals(step)
    groups = {group: _copies(of_group) for group, of_group in variables.items()} | {"best": best}
    arrays = {f"{name}/{i}": array for name, of in groups.items() for i, array in enumerate(of)}
    return Snapshot(asdict(state), arrays)


def _restore(
    snapshot: Snapshot, variables: Mapping[str, Sequence[keras.Variable]]
) -> tuple[State, list[np.ndarray]]:
    """Assign the variables of a checkpoint; return its state and the best weights."""
    for group, of_group in variables.items():
        arrays = _group(snapshot, group)
        if [array.shape for array in arrays] != [tuple(each.shape) for each in of_group]:
            raise RunError(
                f"the checkpoint is of another {group}: its variables have other shapes",
                "Resume with the config that the run was started with.",
            )
        for variable, array in zip(of_group, arrays, strict=True):
            variable.assign(array)
    values = snapshot.values
    state = State(**values | {"plateau": PlateauState(**values["plateau"])})
    if isinstance(state.totals, list):  # as earlier versions wrote them
        state.totals = dict(zip(backend.NO_TOTALS, state.totals, strict=True))
    return state, _group(snapshot, "best")


def _finite_totals(step: backend.TrainStep) -> dict[str, float]:
    totals = dict(step.totals)
    _check_finite(totals["loss"], "loss")
    return totals


def _check_finite(loss: float, name: str) -> None:
    if not math.isfinite(loss):
        raise _NotFinite(f"the {name} is {loss}", True)


def _check_variables(variables: Mapping[str, Sequence[keras.Variable]]) -> None:
    """Notice what the losses may hide: normalising by an infinite variance gives zeros, and a
    weight whose squared gradients overflowed once never moves again."""
    names = {"model": "weights", "average": "averaged weights"}
    for group, of_group in variables.items():
        if found := backend.not_finite(of_group):
            # The paths of an optimizer count those that the process had before.
            first = found[0].path if group == "model" else found[0].name
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            what = names.get(group, f"values that the {group} keeps")
            raise _NotFinite(f"{what} are not finite ({first}{more})", False)


def _at_most(variable: str, number: int) -> int:
    """`number`, or what Keras' environment variable limits it to, as Keras itself does it."""
    text = os.environ.get(variable, str(number))
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise ConfigError(f"{variable}: must be a whole number, 1 or more; received {text!r}")
    return min(number, int(text))


def _copies(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    # Copies, because an engine may show its own memory, which the next step overwrites.
    return [np.array(variable.numpy()) for variable in variables]


def _group(snapshot: Snapshot, name: str) -> list[np.ndarray]:
    count = sum(key.startswith(f"{name}/") for key in snapshot.arrays)
    return [snapshot.arrays[f"{name}/{i}"] for i in range(count)]


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    shifted = (logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]

"""One stage of training: its batches, its precision, and the model that it saves."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.data.batches import num_steps, ordered_batches, training_batches
from cvtrain.errors import Stopped, TrainingError
from cvtrain.images.augment import augment
from cvtrain.images.mixup_cutmix import mix, mixed_batches
from cvtrain.models.saved_model import copy_weights, save_model, weights_digest
from cvtrain.models.transfer import layer_digest, without_gradient
from cvtrain.runs.run import Run
from cvtrain.sections import Augment, Training
from cvtrain.steps.session import RunSession
from cvtrain.steps.training_outcome import (
    TrainingResult,
    against_overflow,
    concat_history,
    continued,
    record_result,
    write_history,
)
from cvtrain.system.console import duration
from cvtrain.system.files import commit_interval
from cvtrain.training.checkpoint import Checkpoints
from cvtrain.training.loop import train
from cvtrain.training.precision import choose_precision
from cvtrain.training.state import Batches, Row, Trained

VALIDATION_BATCH_SIZE = 64
_MOST_TRIED = 4  # batches with which is measured whether a layer gets a gradient


@dataclass(frozen=True)
class Feed:
    """The batches that a training reads.

    Attributes:
        batches: a function from a global step to the endless training batches from there on.
        validation: a function that returns the validation batches of one pass.
        labels: labels (n,) of the training samples.
    """

    batches: Callable[[int], Batches]
    validation: Callable[[], Batches]
    labels: np.ndarray


def image_feed(session: RunSession, stage: Training, augmentation: Augment | None) -> Feed:
    """Batches of pixels; the training images are augmented and mixed differently in every pass."""
    pixels, splits = session.dataset.pixels, session.dataset.index.splits
    samples, validation = splits["train"], splits["validation"]

    def batches(start_step: int) -> Batches:
        stream = training_batches(
            pixels,
            samples,
            batch_size=stage.batch_size,
            seed=session.config.seed,
            steps_per_epoch=stage.steps_per_epoch,
            start_step=start_step,
            augmentation=augmentation,
        )
        if augmentation is None or not augmentation.mixes:
            return stream
        return mixed_batches(
            stream,
            augmentation,
            num_classes=len(session.dataset.index.class_names),
            seed=session.config.seed,
            start_step=start_step,
        )

    return Feed(
        batches=batches,
        validation=lambda: ordered_batches(pixels, validation, batch_size=VALIDATION_BATCH_SIZE),
        labels=samples.labels,
    )


def train_stage(
    session: RunSession,
    model: keras.Model,
    saved: keras.Model,
    stage: Training,
    feed: Feed,
    *,
    precision: str,
    rates: Sequence[float] | None = None,
    number: int = 1,
    earlier: TrainingResult | None = None,
) -> TrainingResult:
    """Train a model, copy its best weights into the model that is saved, and record the result.

    Args:
        model: the model to train: the whole network or its upper part.
        saved: the whole network in float32, with layers of the same names.
        stage: the section of the config.
        feed: the batches.
        precision: the precision in which `model` computes.
        rates: factor of the learning rate of each trainable variable; None for ones.
        number: the number of the stage in its run, from 1.
        earlier: the result of the stages before, for a trained model: if no epoch is better, its
            weights stay the same. None for a model that was not trained before.

    Returns:
        The result of all stages up to this one.

    Raises:
        TrainingError: a loss or weights are not finite; the best model before that is saved.
        ResourceError, RunError: as in `training.loop.train`.
        Stopped: on request; the best model so far is saved.
    """
    run, digests = session.run, _trainable_digests(model)
    with session.watch.phase("train"), session.console.training(stage.epochs) as view:

        def on_epoch(rows: list[Row]) -> None:
            history = concat_history(earlier.history if earlier else (), rows)
            write_history(run, history)
            session.tracking.log_epoch(history[-1])
            view.epoch(rows[-1])

        trained = train(
            model,
            stage,
            batches=feed.batches,
            validation=feed.validation,
            steps_per_epoch=steps_of(stage, feed),
            precision=precision,
            class_weights=class_weights_of(stage, feed.labels),
            rates=rates,
            keep_start=earlier is not None,
            checkpoints=Checkpoints(
                run.checkpoints / str(number),
                every_seconds=commit_interval(),
                warn=session.console.warning,
            ),
            stop=session.stop,
            on_start=view.start,
            on_step=view.step,
            on_epoch=on_epoch,
        )
    result = continued(earlier, trained)
    _save_and_record(session, model, saved, stage, precision, number, trained, result)
    return replace(result, idle=_idle(session, model, feed, digests))


def _save_and_record(
    session: RunSession,
    model: keras.Model,
    saved: keras.Model,
    stage: Training,
    precision: str,
    number: int,
    trained: Trained,
    result: TrainingResult,
) -> None:
    """Save and record the result of a stage; raise if it diverged or was stopped."""
    has_diverged = trained.outcome == "diverged"
    # Without an epoch there are only the weights of the last step, which may not be finite.
    if not has_diverged or result.best_epoch is not None:
        save(session.run, saved, model)
    record_result(session.run, result, trained.outcome)
    if has_diverged:
        step = f"step {number}: " if number > 1 else ""
        raise TrainingError(
            f"{step}{trained.reason}",
            against_overflow(
                session.run,
                stage,
                number,
                result,
                precision=precision,
                from_start=trained.from_start,
            ),
        )
    if trained.outcome == "stopped":
        raise Stopped(
            f"stopped in epoch {len(result.history) + 1}; what was learnt is in {session.run.path}",
            session.stop.advice,
        )


def _idle(
    session: RunSession, model: keras.Model, feed: Feed, digests: Mapping[str, str]
) -> frozenset[str]:
    """The layers that no gradient reaches, with a warning; `digests` are those before training."""
    now = _trainable_digests(model)
    still = {name for name in now if now[name] == digests[name]}
    if not still:
        return frozenset()
    with contextlib.closing(feed.batches(0)) as stream:
        idle = still & without_gradient(model, itertools.islice(stream, _MOST_TRIED))
    if idle:
        names = [layer.name for layer in model.layers if layer.name in idle]
        known = session.run.record.without_gradient
        session.run.update(without_gradient=[*dict.fromkeys([*known, *names])])
        session.console.warning(
            f"training did not change {', '.join(names)}: their inputs or outputs are zero for all "
            "images, so the loss does not depend on their weights"
        )
    return frozenset(idle)


def _trainable_digests(model: keras.Model) -> dict[str, str]:
    return {layer.name: layer_digest(layer) for layer in model.layers if layer.trainable_weights}


def steps_of(stage: Training, feed: Feed) -> int:
    """Number of batches in an epoch."""
    return stage.steps_per_epoch or num_steps(len(feed.labels), stage.batch_size)


def in_best_precision(
    session: RunSession,
    build: Callable[[str], keras.Model],
    stage: Training,
    feed: Feed | None = None,
) -> tuple[keras.Model, str]:
    """Choose the precision, record it, print the expected duration, and build the model.

    A resumed run keeps its precision.

    Args:
        build: a function from a precision to a model.
        feed: the batches of the stage; None if no duration is to be printed.

    Returns:
        The model and its precision.
    """
    device = session.run.record.device
    with session.watch.phase("precision"), backend.memory_errors():
        choice = choose_precision(
            session.run.record.precision or session.config.precision,
            build=build,
            batch_size=stage.batch_size,
            device=device,
            raise_if_stopped=partial(session.stop.raise_if_stopped, "measuring the precision"),
        )
        model = build(choice.precision)
    session.run.update(precision=choice.precision)
    size = model.count_params()
    session.console.info(f"{size:,} parameters, {choice.precision} ({choice.reason}), {device}")
    if feed and (speed := choice.images_per_second.get(choice.precision)):
        steps = steps_of(stage, feed)
        seconds = stage.epochs * steps * stage.batch_size / speed
        session.console.info(f"{stage.epochs} epochs of {steps} steps: about {duration(seconds)}")
    return model, choice.precision


def save(run: Run, saved: keras.Model, trained: keras.Model) -> None:
    """Copy the trained weights to the model that is saved, and commit it."""
    copy_weights(trained, saved)
    about = {key: run.content[key] for key in ("class_names", "image_size", "decoder")}
    save_model(saved, run.model_path, about=about)
    run.update(weights_sha256=weights_digest(saved), num_parameters=saved.count_params())


def draw_augmentation(
    session: RunSession,
    augmentation: Augment | None,
    views: int | str = "unlimited",
) -> None:
    """Draw one image of each class (at most eight) as augmented in the first passes of training.

    Nothing is drawn without augmentation.

    Args:
        augmentation: the section of the config; images in one column are mixed with each other, as
            those of a batch are in training.
        views: the number of views of each image; at most seven are drawn.
    """
    if augmentation is None or not (augmentation.image_changes or augmentation.mixes):
        return
    from cvtrain.plots import figures

    index, seed = session.dataset.index, session.config.seed
    num_views = 7 if views == "unlimited" else min(7, int(views))
    samples = index.splits["train"]
    _, firsts = np.unique(samples.labels, return_index=True)
    chosen = firsts[:8]
    labels = samples.labels[chosen]
    originals = np.stack([session.dataset.pixels[samples.paths[i]] for i in chosen])
    columns, titles = [originals], ["original"]
    for epoch in range(num_views):
        images, title = originals, "augmented"
        if augmentation.image_changes:
            changed = [
                augment(pixels, augmentation, seed=seed, epoch=epoch, sample=i)
                for pixels, i in zip(originals, chosen.tolist(), strict=True)
            ]
            images = np.stack(changed)
        if augmentation.mixes:
            num_classes = len(index.class_names)
            images, shares = mix(
                images, labels, augmentation, num_classes=num_classes, seed=seed, step=epoch
            )
            title = f"{shares[0, labels[0]]:.0%} its own"
        columns.append(images)
        titles.append(title)
    rows, names = list(zip(*columns, strict=True)), [index.class_names[i] for i in labels]
    figure = figures.draw_augmented_samples(rows, names, titles)
    figures.save(figure, session.run.figures / "augmented_samples.png")


def class_weights_of(stage: Training, labels: np.ndarray) -> np.ndarray | None:
    """Weights (classes,) that give every class the same total weight; None for no weights.

    n / (classes * n_c), the heuristic of King and Zeng (2001) that scikit-learn calls balanced.
    """
    if stage.class_weights == "none":
        return None
    counts = np.bincount(labels)
    return len(labels) / (len(counts) * counts)

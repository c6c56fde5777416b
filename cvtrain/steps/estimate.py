"""How long a stage will take on this machine: its work in images, over speeds measured here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cvtrain.backend import keras
from cvtrain.config import Config
from cvtrain.data.batches import num_steps
from cvtrain.models.transfer import in_precision, prefix_of, set_trainable, suffix_of, unfreeze
from cvtrain.sections import FineTune, Training
from cvtrain.steps.cached_features import BATCH_SIZE, evaluation_parts
from cvtrain.steps.heads import attach_dense_head, cut_backbone, finetuning_splits
from cvtrain.steps.network import build_network
from cvtrain.steps.session import RunSession
from cvtrain.training.precision import images_per_second

_DOING = "measuring the steps"
_OVERHEAD_SECONDS = 10.0
"""The time for compiling, saving, drawing and explaining mistakes, measured on two cores:
5 s with images of 8 x 8 pixels, 14 s with photographs."""


def estimate_fit(session: RunSession, config: Config) -> float:
    """Seconds that `fit` will take: its steps, validation after each epoch, the evaluation."""
    build = partial(build_network, config, len(session.dataset.index.class_names))
    counts = _counts(session)
    trained = _images_trained(config.fit, counts["train"])
    evaluated = config.fit.epochs * counts["validation"] + sum(counts.values())
    speed = _speed(session, partial(build, for_training=True), config.fit.batch_size)
    steps = trained / speed
    return steps + evaluated / _forward_speed(session, build) + _OVERHEAD_SECONDS


def estimate_features(session: RunSession, config: Config, *, finetuning: bool = False) -> float:
    """Seconds that `extract-features` will take, or `finetune` after it: what its steps train, and
    for the former the extraction. The number of views must be limited.
    """
    stage = config.extract_features
    backbone, cut = cut_backbone(session, config)
    model = attach_dense_head(session, backbone, cut)
    counts = _counts(session)
    if finetuning:
        seconds = _OVERHEAD_SECONDS
        section = config.finetune or FineTune()
        for step in (section, *section.then):
            unfrozen = unfreeze(model, step)
            set_trainable(model, unfrozen.layers)
            upper = suffix_of(model, unfrozen.split) if unfrozen.split else model
            seconds += _seconds_of_upper(session, partial(in_precision, upper), step, counts)
        return seconds
    prefix = prefix_of(model, *dict.fromkeys((cut, *finetuning_splits(config, model))))
    views = _forward_speed(session, partial(in_precision, prefix), session.config.precision)
    exact = sum(len(part.paths) for part in evaluation_parts(session.dataset).values())
    assert stage.views != "unlimited"
    seconds = _OVERHEAD_SECONDS + counts["train"] * stage.views / views
    seconds += exact / _forward_speed(session, partial(in_precision, prefix))
    if stage.head.name == "dense":
        head = suffix_of(model, cut)
        set_trainable(model, [layer.name for layer in head.layers])
        seconds += _seconds_of_upper(
            session, lambda _: in_precision(head, "float32"), stage, counts
        )
    return seconds


def _seconds_of_upper(
    session: RunSession,
    build: Callable[[str], keras.Model],
    stage: Training,
    counts: dict[str, int],
) -> float:
    """Seconds of training on features: the steps, and validation after each epoch."""
    trained = _images_trained(stage, counts["train"]) / _speed(session, build, stage.batch_size)
    return trained + stage.epochs * counts["validation"] / _forward_speed(session, build)


def _counts(session: RunSession) -> dict[str, int]:
    return {name: len(split.paths) for name, split in session.dataset.index.splits.items()}


def _images_trained(stage: Training, num_samples: int) -> int:
    steps = stage.steps_per_epoch or num_steps(num_samples, stage.batch_size)
    return stage.epochs * steps * stage.batch_size


def _speed(session: RunSession, build: Callable[[str], keras.Model], batch_size: int) -> float:
    """Images per second of training steps."""
    return images_per_second(
        session.config.precision,
        build=build,
        batch_size=batch_size,
        device=session.run.record.device,
        raise_if_stopped=partial(session.stop.raise_if_stopped, _DOING),
    )


def _forward_speed(
    session: RunSession, build: Callable[[str], keras.Model], precision: str = "float32"
) -> float:
    """Images per second of the forward pass."""
    return images_per_second(
        precision,
        build=build,
        batch_size=BATCH_SIZE,
        device=session.run.record.device,
        training=False,
        raise_if_stopped=partial(session.stop.raise_if_stopped, _DOING),
    )

"""`cvtrain fit`: a convnet from scratch, augmented where the config says so."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from cvtrain.commands.evaluate import image_predictor
from cvtrain.config import Config, Separable
from cvtrain.models import convnet, separable
from cvtrain.runs.run import Run, RunRequest
from cvtrain.steps.finish import finish
from cvtrain.steps.session import finished_run, start_job
from cvtrain.steps.stage import (
    augmentation_of,
    draw_augmentation,
    image_feed,
    in_best_precision,
    mixing_of,
    train_stage,
)
from cvtrain.system.console import Console

if TYPE_CHECKING:
    import keras


def fit(config: Config, request: RunRequest, console: Console) -> Run:
    """Train the net of a config on its images, evaluate it and draw how it went.

    Args:
        config: the checked config.
        request: the run folder to write, or to continue.

    Returns:
        The finished run.

    Raises:
        ConfigError, DataError, RunError: before anything is trained.
        TrainingError, ResourceError: training cannot go on; the best model so far is saved.
        Stopped: on request; the best model so far is saved, and `resume` continues.
    """
    output_sizes(config)
    if done := finished_run(request, console):
        return done
    with start_job("fit", config, request, console) as job:
        build = builder(config, len(job.dataset.index.class_names))
        augmentation, mixing = augmentation_of(config.augment), mixing_of(config.augment)
        draw_augmentation(job, augmentation, mixing)
        feed = image_feed(job, config.fit, augmentation, mixing)
        model = in_best_precision(
            job,
            partial(build, for_training=True),
            config.fit,
            feed,
        )
        saved = build("float32")
        train_stage(job, model, saved, config.fit, feed)
        finish(job, job.dataset.index.splits, image_predictor(job, saved))
    return job.run


def output_sizes(config: Config) -> list[tuple[int, int]]:
    """Height and width of the map after each stage of the net; TensorFlow is not needed.

    Raises:
        ConfigError: the images are too small for the net.
    """
    model, image_size = config.fit.model, config.data.image_size
    if isinstance(model, Separable):
        return separable.output_sizes(image_size, filters=model.filters)
    sizing = {"filters", "kernel_size", "padding", "strides", "pooling"}
    return convnet.output_sizes(image_size, **model.model_dump(include=sizing))


def builder(config: Config, num_classes: int) -> Callable[..., "keras.Model"]:
    """The net of a config as a function: `build(precision, for_training=False)`."""
    settings = config.fit.model.model_dump(exclude={"name"}) | {
        "image_size": config.data.image_size,
        "num_classes": num_classes,
        "seed": config.seed,
    }

    def build(precision: str, *, for_training: bool = False) -> "keras.Model":
        if isinstance(config.fit.model, Separable):
            return separable.build_separable(precision=precision, **settings)
        return convnet.build_convnet(precision=precision, for_training=for_training, **settings)

    return build

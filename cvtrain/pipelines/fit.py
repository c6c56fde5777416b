"""`cvtrain fit`: a convnet from scratch, augmented where the config says so."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cvtrain.config import Config
from cvtrain.console import Console
from cvtrain.models.convnet import build_convnet, output_sizes
from cvtrain.pipelines.evaluate import image_predictor
from cvtrain.pipelines.finish import finish
from cvtrain.pipelines.job import finished_run, start_job
from cvtrain.pipelines.train import (
    augmentation_of,
    draw_augmentation,
    image_feed,
    in_best_precision,
    train_stage,
)
from cvtrain.run import Run

if TYPE_CHECKING:
    import keras


def fit(config: Config, path: Path, *, name: str, resume: bool, console: Console) -> Run:
    """Train the convnet of a config on its images, evaluate it and draw how it went.

    Args:
        config: the checked config.
        path: the run folder to write, or to continue.
        name: of the config, for the record.
        resume: continue the run at `path` from its last checkpoint.

    Returns:
        The finished run.

    Raises:
        ConfigError, DataError, RunError: before anything is trained.
        TrainingError, ResourceError: training cannot go on; the best model so far is saved.
        Stopped: on request; the best model so far is saved, and `resume` continues.
    """
    settings = config.fit.model.model_dump(exclude={"name"})
    sizing = ("filters", "kernel_size", "padding", "strides", "pooling")
    output_sizes(config.data.image_size, **{key: settings[key] for key in sizing})
    if done := finished_run(path, resume=resume, console=console):
        return done
    with start_job("fit", config, path, name=name, resume=resume, console=console) as job:
        build = builder(config, len(job.dataset.index.class_names))
        augmentation = augmentation_of(config.augment)
        if augmentation:
            draw_augmentation(job, augmentation)
        feed = image_feed(job, config.fit, augmentation)
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


def builder(config: Config, num_classes: int) -> Callable[..., "keras.Model"]:
    """The convnet of a config as a function: `build(precision, for_training=False)`."""
    settings = config.fit.model.model_dump(exclude={"name"})

    def build(precision: str, *, for_training: bool = False) -> "keras.Model":
        return build_convnet(
            image_size=config.data.image_size,
            num_classes=num_classes,
            seed=config.seed,
            precision=precision,
            for_training=for_training,
            **settings,
        )

    return build

"""`cvtrain fit`: a convnet from scratch, augmented where the config says so."""

from functools import partial

from cvtrain.config import Config
from cvtrain.runs.run import Run, RunRequest
from cvtrain.steps.finish import finish
from cvtrain.steps.inference import image_predictor
from cvtrain.steps.network import build_network, check_image_size
from cvtrain.steps.session import finished_run, open_session
from cvtrain.steps.stage import (
    draw_augmentation,
    image_feed,
    in_best_precision,
    train_stage,
)
from cvtrain.system.console import Console


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
    check_image_size(config)
    if done := finished_run(request, console):
        return done
    with open_session("fit", config, request, console) as session:
        build = partial(build_network, config, len(session.dataset.index.class_names))
        draw_augmentation(session, config.augment)
        feed = image_feed(session, config.fit, config.augment)
        model, precision = in_best_precision(
            session,
            partial(build, for_training=True),
            config.fit,
            feed,
        )
        saved = build("float32")
        result = train_stage(session, model, saved, config.fit, feed, precision=precision)
        finish(
            session, saved, result, session.dataset.index.splits, image_predictor(session, saved)
        )
    return session.run

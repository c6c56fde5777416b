"""`cvtrain fit --find-lr`: suggest a learning rate by a short training at rising rates."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from cvtrain import backend
from cvtrain.config import Config
from cvtrain.errors import TrainingError
from cvtrain.models.saved_model import logits_model
from cvtrain.runs.run import Run, RunRequest
from cvtrain.steps.network import build_network, check_image_size
from cvtrain.steps.session import RunSession, open_session
from cvtrain.steps.stage import class_weights_of, image_feed, in_best_precision
from cvtrain.system.console import Console
from cvtrain.system.files import commit_text
from cvtrain.system.text import csv_text
from cvtrain.training.lr_range_test import RangeTest, range_test
from cvtrain.training.optimizers import build_optimizer


def find_lr(config: Config, request: RunRequest, console: Console) -> Run:
    """Train with a rising learning rate, and suggest one; no model is saved.

    Args:
        config: the checked config; the rate is for its `fit.optimizer`.
        request: the run folder to write.

    Returns:
        The finished run, with `lr.csv` and `figures/find_lr.png`.

    Raises:
        ConfigError, DataError, RunError: before anything is trained.
        TrainingError: the loss is not finite from the start.
        Stopped: on request.
    """
    check_image_size(config)
    with open_session("find-lr", config, request, console) as session:
        with (
            session.stop.advising("Start it again, with a new --run-dir."),
            backend.memory_errors(),
            training_step(session) as step,
            session.watch.phase("train"),
            session.console.task("raising the learning rate") as show,
        ):
            try:
                found = range_test(step, on_step=show)
            except ValueError as error:
                raise TrainingError(
                    f"find-lr: {error}, at a learning rate of 1e-7",
                    "Compute in float32 (precision: float32), or use another network (fit.model).",
                ) from error
        with session.watch.phase("draw"):
            write(session.run, found)
        session.run.update(
            status="finished",
            find_lr={
                "suggestion": found.suggestion and rounded(found.suggestion),
                "lowest": rounded(found.lowest),
                "steps": len(found.rates),
            },
            seconds=session.watch.seconds,
        )
        show_suggestion(session, found)
    return session.run


@contextlib.contextmanager
def training_step(session: RunSession) -> Iterator[Callable[[float], float]]:
    """Yield a function that trains on the next batch: learning rate -> loss before the step."""
    config, stage = session.config, session.config.fit
    build = partial(
        build_network, config, len(session.dataset.index.class_names), for_training=True
    )
    model, precision = in_best_precision(session, build, stage)
    feed = image_feed(session, stage, config.augment)
    train = backend.train_step(
        logits_model(model),
        build_optimizer(stage.optimizer, precision=precision),
        class_weights=class_weights_of(stage, feed.labels),
        label_smoothing=stage.label_smoothing,
    )
    with contextlib.closing(feed.batches(0)) as stream:

        def step(rate: float) -> float:
            session.stop.raise_if_stopped("the learning rate was raised")
            images, labels = next(stream)
            train.totals = backend.NO_TOTALS
            train.run(images, labels, np.float32(rate))
            totals = train.totals
            return totals["loss"] / totals["images"]

        yield step


def write(run: Run, found: RangeTest) -> None:
    """Commit `lr.csv` and the figure."""
    from cvtrain.plots import figures

    columns = (found.rates, found.losses, found.smoothed)
    rows = [[f"{value:.7g}" for value in row] for row in zip(*columns, strict=True)]
    commit_text(run.path / "lr.csv", csv_text([["learning_rate", "loss", "smoothed"], *rows]))
    figures.save(figures.draw_find_lr(*columns, found.suggestion), run.figures / "find_lr.png")


def show_suggestion(session: RunSession, found: RangeTest) -> None:
    """Print the line for the config, or warn that there is no good rate."""
    run, optimizer = session.run, session.config.fit.optimizer.name
    if found.suggestion is None:
        session.console.warning(
            f"find-lr: the loss does not fall at any learning rate up to {found.rates[-1]:.2g} by "
            "more than it differs between batches; the batches may be too small (fit.batch_size), "
            "or the labels may be wrong"
        )
    else:
        session.console.print(
            f"With {optimizer}, the loss has fallen by half at a learning rate of "
            f"{found.suggestion:.1e}, and is lowest at {found.lowest:.1e}. Write into the "
            "config:\n\n"
            f"fit: {{optimizer: {{learning_rate: {found.suggestion:.1e}}}}}\n"
        )
    session.console.print(f"{run.path}/ holds lr.csv and figures/find_lr.png")


def rounded(rate: float) -> float:
    """The rate with two digits; more would not be significant."""
    return float(f"{rate:.1e}")

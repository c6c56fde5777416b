"""`cvtrain ladder`: run all stages, from scratch to fine-tuned, on one split and compare them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cvtrain.commands.extract_features import extract_features
from cvtrain.commands.finetune import finetune
from cvtrain.commands.fit import fit
from cvtrain.config import Config
from cvtrain.errors import ConfigError, Stopped
from cvtrain.evaluation.metrics import mcnemar
from cvtrain.runs.predictions import read_predictions
from cvtrain.runs.run import Run, RunRequest
from cvtrain.sections import FineTune
from cvtrain.steps.estimate import estimate_features, estimate_fit
from cvtrain.steps.session import RunSession, finished_run, open_session
from cvtrain.system.console import Console, duration
from cvtrain.system.files import commit_text
from cvtrain.system.text import csv_text, shell_quote

VIEWS = 4
"""The number of augmented views if the config does not set it."""


@dataclass(frozen=True)
class Stage:
    """A stage of the ladder, called a rung in run.json.

    Attributes:
        name: the name in tables and of the folder.
        config: the config of the stage.
        train: the command: `train(config, request, console) -> Run`.
        estimate: a function that estimates the seconds on this machine.
    """

    name: str
    config: Config
    train: Callable[[Config, RunRequest, Console], Run]
    estimate: Callable[[RunSession, Config], float]


def ladder(config: Config, request: RunRequest, console: Console) -> Run:
    """Train every stage on the same images, and compare each with the one before.

    Args:
        config: the checked config; without `augment` there are no stages with augmentation.
        request: the run folder to write, or to continue; it contains a run folder for each stage.

    Returns:
        The finished run; it has no model of its own.

    Raises:
        ConfigError, DataError, RunError: before anything is trained.
        TrainingError, ResourceError: a stage cannot continue; the stages before it are kept.
        Stopped: on request; `resume` continues.
    """
    if done := finished_run(request, console):
        return done
    rungs = stages_of(config, request.path)
    with open_session("ladder", config, request, console) as session:
        estimates = session.run.record.estimates
        if any(rung.name not in estimates for rung in rungs):
            estimates = measured_estimates(session, rungs)
        show_estimates(session, rungs, estimates)
        rows: list[dict[str, Any]] = []
        for rung in rungs:
            run = run_stage(session, rung, request)
            rows.append(describe(run, rung, estimates[rung.name], rows))
            session.run.update(rungs=rows)
            console.log_to(session.run.path / "log.txt")
        with session.watch.phase("draw"):
            write(session.run, rows)
        session.run.update(status="finished", seconds=session.watch.seconds)
        show(session, rows)
    return session.run


def stages_of(config: Config, path: Path) -> list[Stage]:
    """The stages of a config, the simplest first.

    Raises:
        ConfigError: the config mixes images, which is not possible with cached views.
    """
    if config.augment and config.augment.mixes:
        key = f"augment.{config.augment.mixes[0]}"
        raise ConfigError(
            f"{key}: mixes images in every step, which is impossible with the cached views of the "
            "ladder",
            f"Leave it out for the ladder: --set {key}=null",
        )
    plain = config.model_copy(update={"augment": None})
    views = config.extract_features.views
    many = VIEWS if views == 1 or views == "unlimited" else views
    section = config.finetune or FineTune()

    def with_views(base: Config, number: int) -> Config:
        stage = base.extract_features.model_copy(update={"views": number})
        tune = section.model_copy(update={"views": number})
        return base.model_copy(update={"extract_features": stage, "finetune": tune})

    augmented = with_views(config, many)
    top = augmented if config.augment else with_views(plain, 1)
    rungs = [Stage("scratch", plain, fit, estimate_fit)]
    if config.augment:
        rungs.append(Stage("augmented", config, fit, estimate_fit))
    rungs.append(Stage("features", with_views(plain, 1), extract_features, estimate_features))
    if config.augment:
        rungs.append(Stage("features, views", top, extract_features, estimate_features))
    source = folder(path, rungs[-1])

    def from_features(config: Config, request: RunRequest, console: Console) -> Run:
        return finetune(config, request, console, source=Run.open(source))

    tuned = partial(estimate_features, finetuning=True)
    return [*rungs, Stage("fine-tuned", top, from_features, tuned)]


def folder(path: Path, rung: Stage) -> Path:
    """The run folder of a stage."""
    return path / rung.name.replace(", ", "-")


def run_stage(session: RunSession, rung: Stage, request: RunRequest) -> Run:
    """Train a stage or continue it; a finished stage is only opened."""
    path = folder(session.run.path, rung)
    session.console.info(f"\n{rung.name}")
    try:
        with session.console.part_of_a_whole():
            is_begun = (path / "run.json").is_file()
            part = replace(request, path=path, resume=is_begun)
            return rung.train(rung.config, part, session.console)
    except Stopped as error:
        raise Stopped(f"{rung.name}: {error.message}", session.stop.advice) from error


def measured_estimates(session: RunSession, rungs: Sequence[Stage]) -> dict[str, float]:
    """Estimate the seconds of each stage by measuring steps, and record them."""
    with session.watch.phase("estimate"):
        estimates = {rung.name: rung.estimate(session, rung.config) for rung in rungs}
    session.run.update(estimates=estimates)
    return estimates


def show_estimates(
    session: RunSession, rungs: Sequence[Stage], estimates: dict[str, float]
) -> None:
    """Print the estimated time of each stage."""
    parts = ", ".join(f"{rung.name} {duration(estimates[rung.name])}" for rung in rungs)
    session.console.print(
        f"{len(rungs)} stages, estimated to take {duration(sum(estimates.values()))} on this "
        f"machine: {parts}"
    )


def describe(run: Run, rung: Stage, estimate: float, below: Sequence[dict]) -> dict[str, Any]:
    """The row of a stage in run.json."""
    record = run.require("metrics")
    test = record.test
    row = {
        "name": rung.name,
        "run": run.path.name,
        "accuracy": test.accuracy,
        "accuracy_interval": list(test.accuracy_interval),
        "num_images": test.num_images,
        "num_parameters": record.num_parameters,
        "learnt": record.learnt,
        "minutes": record.seconds["total"] / 60,
        "estimated_minutes": estimate / 60,
    }
    if below:
        before = correct(Run.open(run.path.parent / below[-1]["run"]))
        row["against_the_rung_below"] = mcnemar(before, correct(run))
    return row


def correct(run: Run) -> np.ndarray:
    """Whether each test image is classified correctly, (n,) bool, in the order of the split.

    Raises:
        RunError: its predictions are missing or damaged.
    """
    path = run.path / "predictions-test.csv"
    predictions = read_predictions(path, run.require("class_names").class_names)
    return predictions.predicted == predictions.labels


def write(run: Run, rows: Sequence[dict[str, Any]]) -> None:
    """Commit `ladder.csv` and its figure."""
    from cvtrain.plots import figures

    columns = ["rung", "accuracy", "low", "high", "p", "minutes", "estimated", "parameters"]
    commit_text(run.path / "ladder.csv", csv_text([columns, *map(_cells, rows)]))
    figures.save(figures.draw_ladder(rows), run.figures / "ladder.png")


def show(session: RunSession, rows: Sequence[dict[str, Any]]) -> None:
    """Print the table, and compare the time with the estimate."""
    columns = ("rung", "accuracy", "95 % interval", "p", "minutes", "estimated", "parameters")
    cells = []
    for row in rows:
        name, accuracy, low, high, p, minutes, estimated, parameters = _cells(row)
        interval = f"{low} to {high}"
        cells.append((name, accuracy, interval, p, minutes, estimated, f"{parameters:,}"))
    session.console.table(columns, cells)
    session.console.print(
        "p: McNemar's exact test against the rung below, on the same test images; "
        "a difference with p above 0.05 may be chance."
    )
    if unlearnt := [row["name"] for row in rows if not row.get("learnt", True)]:
        session.console.warning(
            f"no better than guessing: {', '.join(unlearnt)}; their logs suggest what to change"
        )
    actual = sum(row["minutes"] for row in rows)
    estimated = sum(row["estimated_minutes"] for row in rows)
    session.console.print(
        f"{actual:.1f} minutes in all, {actual / estimated:.2f} times the estimate\n"
        f"{session.run.path}/ holds ladder.csv, figures/ladder.png and a run folder for each rung\n"
        f"Next: cvtrain compare {shell_quote(session.run.path)}"
    )


def _cells(row: dict[str, Any]) -> list[Any]:
    against = row.get("against_the_rung_below")
    return [
        row["name"],
        f"{row['accuracy']:.4f}",
        *(f"{end:.4f}" for end in row["accuracy_interval"]),
        f"{against['p']:.2g}" if against else "",
        f"{row['minutes']:.2f}",
        f"{row['estimated_minutes']:.2f}",
        row["num_parameters"],
    ]

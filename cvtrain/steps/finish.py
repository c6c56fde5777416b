"""The end of every command that trains: the saved model is measured, drawn and recorded."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cvtrain.backend import keras
from cvtrain.data.index import Split
from cvtrain.errors import TrainingError
from cvtrain.evaluation.metrics import (
    against_guessing,
    classification_report,
    mcnemar,
    summarize,
    worst_mistakes,
)
from cvtrain.runs.predictions import predictions_csv
from cvtrain.runs.run import Run
from cvtrain.steps.abstention import record_calibration
from cvtrain.steps.diagnosis import diagnose, print_diagnosis
from cvtrain.steps.find_mislabels import NO_SEARCH, MislabelSearch, find_mislabels, print_mislabels
from cvtrain.steps.scores import show_metrics, write_confusion_matrix
from cvtrain.steps.session import RunSession
from cvtrain.steps.training_outcome import TrainingResult
from cvtrain.steps.worst_mistakes import explain_mistakes
from cvtrain.system.console import Console, duration
from cvtrain.system.files import commit_text
from cvtrain.system.text import shell_quote

_UNLEARNT = (
    "the saved model is not significantly better than guessing on images that it has not learnt, "
    "so its mistakes say nothing about them"
)
"""The reason for which the lists of mistakes and mislabels are left out."""


def finish(
    session: RunSession,
    model: keras.Model,
    result: TrainingResult,
    parts: Mapping[str, Split],
    predict: Callable[[str], np.ndarray],
    training: MislabelSearch = NO_SEARCH,
    *,
    untuned: np.ndarray | None = None,
) -> None:
    """Measure the saved model, draw, and complete `run.json`.

    Args:
        model: the saved model.
        result: the result of its training.
        parts: the samples of each split on which it is evaluated: train (all or some of them),
            validation, test.
        predict: a function from the name of a part to the probabilities (n, classes) of the model.
        training: the likely mislabels among the training images.
        untuned: probabilities (n, classes) of the test images by the model that fine-tuning started
            from.

    Raises:
        TrainingError: the probabilities of the saved model are not finite; it is removed.
        Stopped: on request; the model is saved, and `--resume` evaluates it.
    """
    run, watch = session.run, session.watch
    with watch.phase("evaluate"):
        probabilities = {name: predict(name) for name in parts}
    check_finite(run, probabilities)
    metrics = measure(session, parts, probabilities)
    # Runs of earlier versions lack the validation metrics of that model.
    if untuned is not None and result.start is not None:
        before = _against_start(parts["test"].labels, untuned, probabilities["test"])
        run.update(start={**result.start, **before})
    held_out = [(parts[name].labels, probabilities[name]) for name in ("validation", "test")]
    against = against_guessing(*map(np.concatenate, zip(*held_out, strict=True)))
    left_out = "" if against.is_better else _UNLEARNT
    with watch.phase("draw"):
        for name, split in parts.items():
            text = predictions_csv(split, probabilities[name], session.dataset.index.class_names)
            commit_text(run.path / f"predictions-{name}.csv", text)
        matrix = metrics["test"]["confusion_matrix"]
        write_confusion_matrix(run.path, matrix, session.dataset.index.class_names)
        calibration = record_calibration(run, parts, probabilities)
    if not left_out:
        draw_worst_mistakes(session, probabilities["test"])
        mistakes = explain_mistakes(session, model, probabilities["test"])
    else:
        mistakes = {"num": 0, "left_out": left_out}
    suspects, mislabels = find_mislabels(session, probabilities, training, left_out=left_out)
    readings = diagnose(session, result, metrics, against)
    found = {
        "metrics": metrics,
        "learnt": not left_out,
        "calibration": calibration,
        "mistakes": mistakes,
        "mislabels": mislabels,
        "reading": readings,
    }
    run.update(status="finished", **found, seconds=watch.seconds)
    # Nothing is left to resume, and they are several times the size of the model.
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    show_metrics(metrics["test"], session.console)
    print_mislabels(run, suspects, mislabels, session.console)
    print_diagnosis(readings, session.console)
    tell_next(run, watch.seconds["total"], session.console)


def measure(
    session: RunSession, parts: Mapping[str, Split], probabilities: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Any]]:
    """The field `metrics` of run.json; arguments as in `finish`."""
    chosen = getattr(session.config, session.run.record.command.replace("-", "_")).metrics
    metrics = {
        name: summarize(split.labels, probabilities[name], chosen) for name, split in parts.items()
    }
    labels, names = parts["test"].labels, session.dataset.index.class_names
    return metrics | {"test": classification_report(labels, probabilities["test"], names, chosen)}


def tell_next(run: Run, seconds: float, console: Console) -> None:
    """Print the contents of the run folder and the next commands."""
    console.print(
        f"\n{run.path}/ holds model.keras, run.json, history.csv, predictions-*.csv and figures/ "
        f"({duration(seconds)})"
    )
    path = shell_quote(run.path)
    figures = [run.figures / f"{name}.png" for name in ("curves", "worst_mistakes")]
    drawn = [figure.name for figure in figures if figure.exists()]
    look = f"  look at      {run.figures}/{', '.join(drawn)}\n" if drawn else ""
    console.print(
        "Next:\n"
        f"  everything   cvtrain report {path}\n"
        f"{look}"
        f"  classify     cvtrain predict {path} YOUR_IMAGES\n"
        f"  measure      cvtrain evaluate {path} --data OTHER_IMAGES\n"
        f"  abstain      cvtrain calibrate {path}"
    )


def check_finite(run: Run, probabilities: Mapping[str, np.ndarray]) -> None:
    """Raise TrainingError if the probabilities of a saved model are not finite.

    The model is removed, because no later command could use it.
    """
    for name, rows in probabilities.items():
        num = int((~np.isfinite(rows).all(axis=1)).sum())
        if num:
            run.model_path.unlink(missing_ok=True)
            raise TrainingError(
                f"the model gives probabilities that are not finite for {num:,} of {len(rows):,} "
                f"{name} images",
                "Its weights are too large. Lower the learning rate, and train again.",
            )


def _against_start(
    labels: np.ndarray, untuned: np.ndarray, probabilities: np.ndarray
) -> dict[str, float]:
    """The fields of `start` in run.json that are measured on the test images."""
    before, now = (rows.argmax(axis=1) == labels for rows in (untuned, probabilities))
    return {"test_accuracy": float(before.mean()), "p": mcnemar(before, now)["p"]}


def draw_worst_mistakes(session: RunSession, probabilities: np.ndarray) -> None:
    """Draw the test images with the highest loss, with true and predicted class."""
    from cvtrain.plots import figures

    index, pixels = session.dataset.index, session.dataset.pixels
    split, names = index.splits["test"], index.class_names
    predicted = probabilities.argmax(axis=1)
    worst = worst_mistakes(split.labels, probabilities)
    captions = [
        f"{names[predicted[i]]} {probabilities[i, predicted[i]]:.0%}\n"
        f"is {names[split.labels[i]]} {probabilities[i, split.labels[i]]:.0%}\n"
        f"{split.paths[i].rpartition('/')[2]}"
        for i in worst
    ]
    with session.watch.phase("draw"):
        images = [pixels[split.paths[i]] for i in worst]
        groups = [[each] for each in zip(images, captions, strict=True)]
        figure = figures.draw_contact_sheet(groups, nothing="no mistakes")
        figures.save(figure, session.run.figures / "worst_mistakes.png")

"""The end of every command that trains: the saved model is measured, drawn and recorded."""

import shutil
from collections.abc import Callable, Mapping

import numpy as np

from cvtrain.console import duration
from cvtrain.data.index import Split
from cvtrain.files import commit_text, quoted
from cvtrain.metrics import classification_report, summarize, worst_mistakes
from cvtrain.pipelines.calibrate import record_calibration
from cvtrain.pipelines.dataset import Dataset
from cvtrain.pipelines.evaluate import show_metrics, write_confusion_matrix
from cvtrain.pipelines.job import Job
from cvtrain.pipelines.mistakes import explain_mistakes
from cvtrain.pipelines.reading import readings_of, tell_readings
from cvtrain.pipelines.suspects import NONE_JUDGED, Judged, find_mislabels, tell_mislabels
from cvtrain.predictions import predictions_csv
from cvtrain.run import Run


def finish(
    job: Job,
    parts: Mapping[str, Split],
    predict: Callable[[str], np.ndarray],
    training: Judged = NONE_JUDGED,
) -> None:
    """Measure the saved model, draw, and complete `run.json`.

    Args:
        parts: the samples to measure it on: train (all or some of them), validation, test.
        predict: name of a part -> probabilities (n, classes) of the model as it was saved.
        training: what is known about the labels of the training images.

    Raises:
        Stopped: on request; the model is saved, `--resume` measures it.
    """
    run, dataset, watch, console = job.run, job.dataset, job.watch, job.console
    index = dataset.index
    with watch.phase("evaluate"):
        probabilities = {name: predict(name) for name in parts}
    metrics = {name: summarize(split.labels, probabilities[name]) for name, split in parts.items()}
    test = parts["test"]
    metrics["test"] = classification_report(test.labels, probabilities["test"], index.class_names)
    with watch.phase("draw"):
        for name, split in parts.items():
            text = predictions_csv(split, probabilities[name], index.class_names)
            commit_text(run.path / f"predictions-{name}.csv", text)
        write_confusion_matrix(run.path, metrics["test"]["confusion_matrix"], index.class_names)
        draw_worst_mistakes(run, dataset, probabilities["test"])
        calibration = record_calibration(run, parts, probabilities)
    mistakes = explain_mistakes(job, probabilities["test"])
    mislabels = find_mislabels(job, probabilities, training)
    readings = readings_of(job)
    found = {"calibration": calibration, "mistakes": mistakes, "mislabels": mislabels}
    run.update(status="finished", metrics=metrics, reading=readings, **found, seconds=watch.seconds)
    # Nothing is left to resume, and they are several times the size of the model.
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    show_metrics(metrics["test"], console)
    tell_mislabels(run, console)
    tell_readings(readings, console)
    console.result(
        f"\n{run.path}/ holds model.keras, run.json, history.csv, predictions-*.csv and figures/ "
        f"({duration(watch.seconds['total'])})"
    )
    path = quoted(run.path)
    console.result(
        "Next:\n"
        f"  everything   cvtrain report {path}\n"
        f"  look at      {run.figures}/curves.png, worst_mistakes.png\n"
        f"  classify     cvtrain predict {path} YOUR_IMAGES\n"
        f"  measure      cvtrain evaluate {path} --data OTHER_IMAGES\n"
        f"  abstain      cvtrain calibrate {path}"
    )


def draw_worst_mistakes(run: Run, dataset: Dataset, probabilities: np.ndarray) -> None:
    """Draw the test images that cost the most, with true and predicted class."""
    from cvtrain.visuals import draw

    split, names = dataset.index.splits["test"], dataset.index.class_names
    predicted = probabilities.argmax(axis=1)
    worst = worst_mistakes(split.labels, probabilities)
    captions = [
        f"{names[predicted[i]]} {probabilities[i, predicted[i]]:.0%}\n"
        f"is {names[split.labels[i]]} {probabilities[i, split.labels[i]]:.0%}\n"
        f"{split.paths[i].rpartition('/')[2]}"
        for i in worst
    ]
    images = [dataset.pixels[split.paths[i]] for i in worst]
    draw.save(draw.draw_mistakes(images, captions), run.figures / "worst_mistakes.png")

"""Metrics of a model for the user: a table, a figure and a CSV file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvtrain.evaluation.metrics import METRICS
from cvtrain.steps.abstention import describe_coverage
from cvtrain.system.console import Console
from cvtrain.system.files import commit_text
from cvtrain.system.text import csv_text


def write_confusion_matrix(
    folder: Path, matrix: list[list[int]], class_names: Sequence[str]
) -> None:
    """Commit `confusion_matrix.csv` (rows are true classes) and its figure."""
    from cvtrain.plots import figures

    rows = [[name, *counts] for name, counts in zip(class_names, matrix, strict=True)]
    text = csv_text([["true class", *class_names], *rows])
    commit_text(folder / "confusion_matrix.csv", text)
    figure = figures.draw_confusion_matrix(np.array(matrix), class_names)
    figures.save(figure, folder / "figures" / "confusion_matrix.png")


def show_metrics(metrics: dict[str, Any], console: Console) -> None:
    """Print the headline and the table of classes."""
    low, high = metrics["accuracy_interval"]
    rows = [
        (
            name,
            f"{row['num_images']:,}",
            *(_share(row[key]) for key in ("precision", "recall", "f1")),
        )
        for name, row in metrics["per_class"].items()
    ]
    console.table(("class", "images", "precision", "recall", "F1"), rows)
    console.print(
        f"accuracy {metrics['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}) "
        f"on {metrics['num_images']:,} images, loss {metrics['loss']:.4f}, "
        f"calibration error {metrics['calibration_error']:.4f}"
    )
    if chosen := [f"{name} {metrics[name]:.4f}" for name in METRICS if name in metrics]:
        console.print(", ".join(chosen))
    if abstention := metrics.get("abstention"):
        console.print(describe_coverage(abstention))


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"

"""Write and read `predictions-*.csv`, with the file name of each prediction.

Every reported metric can be recomputed from these files.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvtrain.data.index import Split
from cvtrain.errors import RunError
from cvtrain.evaluation.metrics import log_losses
from cvtrain.system.text import csv_cell, csv_text, escape

_COLUMNS = ["file", "label", "prediction", "confidence", "correct", "loss"]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions for labelled images.

    Attributes:
        files: name of each image, escaped by `text.csv_cell`.
        labels: int32 (n,), positions in the class names.
        probabilities: float32 (n, classes).
    """

    files: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each image, (n,)."""
        return self.probabilities.argmax(axis=1)


def predictions_csv(split: Split, probabilities: np.ndarray, class_names: Sequence[str]) -> str:
    """One line per image: file, label, prediction, confidence, correct, loss, all probabilities.

    Nine digits represent a float32 exactly, so that each reported metric can be recomputed.
    """
    predicted = probabilities.argmax(axis=1)
    losses = log_losses(split.labels, probabilities)
    rows: list[list[Any]] = [[*_COLUMNS, *(f"p({name})" for name in class_names)]]
    for i, path in enumerate(split.paths):
        rows.append(
            [
                path,
                class_names[split.labels[i]],
                class_names[predicted[i]],
                f"{probabilities[i, predicted[i]]:.9g}",
                int(predicted[i] == split.labels[i]),
                f"{losses[i]:.9g}",
                *(f"{p:.9g}" for p in probabilities[i]),
            ]
        )
    return csv_text(rows)


def read_predictions(path: Path, class_names: Sequence[str]) -> Predictions:
    """Read a file that `predictions_csv` wrote.

    Raises:
        RunError: the file is missing, damaged, or of other classes.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        if header != [*_COLUMNS, *(csv_cell(f"p({name})") for name in class_names)]:
            raise ValueError("its columns are not those of this run's classes")
        places = {csv_cell(name): i for i, name in enumerate(class_names)}
        labels = np.array([places[row[1]] for row in rows], np.int32)
        probabilities = np.array([row[len(_COLUMNS) :] for row in rows], np.float32)
        if probabilities.shape != (len(rows), len(class_names)) or not rows:
            raise ValueError("it has no predictions, or lines of another length")
        if not ((probabilities >= 0) & (probabilities <= 1)).all():
            raise ValueError("it has probabilities that are not between 0 and 1")
    except (OSError, ValueError, KeyError, IndexError, csv.Error) as error:
        what = (error.strerror or "").lower() if isinstance(error, OSError) else str(error)
        raise RunError(
            f"{escape(path)}: cannot be used: {what}",
            "Train again, or use another run.",
        ) from error
    return Predictions(tuple(row[0] for row in rows), labels, probabilities)

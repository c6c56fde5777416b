"""Find labels that are likely wrong, by the predictions of a classifier not trained on them.

C. G. Northcutt, L. Jiang and I. L. Chuang (2021), Confident Learning: Estimating Uncertainty in
Dataset Labels, arXiv:1911.00068.
"""

import csv
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from cvtrain.errors import RunError
from cvtrain.system.text import csv_text, escape

MOST_LISTED = 500
"""The largest number of lines in the list."""

LEAST_ODDS = 10
"""The least odds of the suggestion against the label.

With a weak model, the confident joint alone lists a third of all images. On photographs with
swapped labels, this limit doubles the precision of the list and lowers its recall by a tenth
(benchmarks/planted_mislabels.py).
"""


@dataclass(frozen=True)
class LikelyMislabel:
    """An image whose label is likely wrong.

    Attributes:
        file: the name of the file.
        split: the split of the image.
        label: the given class.
        suggestion: the predicted class.
        p_label, p_suggestion: the probabilities of the two classes, in 0..1.
    """

    file: str
    split: str
    label: str
    suggestion: str
    p_label: float
    p_suggestion: float


def likely_mislabels(
    labels: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find images that are confidently predicted as another class than their label.

    A prediction is confident if its class is at least as probable as it is on average for the
    images with that label (equation 2); of several such classes the most probable one counts. These
    images are off the diagonal of the paper's confident joint. In addition, the odds must be high.

    Args:
        labels: (n,) given class indices.
        probabilities: (n, classes) of a classifier that was not trained on these images.

    Returns:
        Positions (k,) of the images, by falling odds of the suggestion against the label, and the
        suggestions, (k,) class indices.
    """
    everyone = np.arange(len(labels))
    own = probabilities[everyone, labels].astype(np.float64)
    num_classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, weights=own, minlength=num_classes)
    # A class without images has no average probability, so it is never suggested.
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    confident = np.where(probabilities >= thresholds, probabilities, 0.0)
    suggestions = confident.argmax(axis=1)
    suggested = confident[everyone, suggestions]
    is_suspect = (suggestions != labels) & (suggested > 0) & (suggested >= LEAST_ODDS * own)
    indices = np.flatnonzero(is_suspect)
    indices = indices[np.argsort(own[indices] / suggested[indices], kind="stable")]
    return indices, suggestions[indices]


def suspects(
    files: Sequence[str],
    splits: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
) -> list[LikelyMislabel]:
    """`likely_mislabels` by name, the likeliest first.

    Args:
        files, splits: name and split of each of the n images.
        labels, probabilities: as `likely_mislabels` takes them.
        class_names: in the order of the labels.
    """
    indices, suggestions = likely_mislabels(labels, probabilities)
    return [
        LikelyMislabel(
            files[i],
            splits[i],
            class_names[labels[i]],
            class_names[suggestion],
            float(probabilities[i, labels[i]]),
            float(probabilities[i, suggestion]),
        )
        for i, suggestion in zip(indices.tolist(), suggestions.tolist(), strict=True)
    ]


def rank(found: Sequence[LikelyMislabel]) -> list[LikelyMislabel]:
    """Suspects from several sources, the likeliest first."""
    return sorted(found, key=lambda suspect: suspect.p_label / suspect.p_suggestion)


def mislabels_csv(found: Sequence[LikelyMislabel]) -> str:
    """The first `MOST_LISTED` as `mislabels.csv`: one line per image, one column per field."""
    columns = [field.name for field in fields(LikelyMislabel)]
    lines = [
        [f"{value:.4g}" if isinstance(value, float) else value for value in astuple(suspect)]
        for suspect in found[:MOST_LISTED]
    ]
    return csv_text([columns, *lines])


def read_mislabels(path: Path) -> list[LikelyMislabel]:
    """Read the file that `mislabels_csv` wrote; names are escaped by `text.csv_cell`.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        if header != [field.name for field in fields(LikelyMislabel)]:
            raise ValueError("its columns are others")
        found = [
            LikelyMislabel(file, split, label, suggestion, float(p), float(q))
            for file, split, label, suggestion, p, q in rows
        ]
        if not all(0 <= one.p_label <= 1 and 0 <= one.p_suggestion <= 1 for one in found):
            raise ValueError("it has probabilities that are not between 0 and 1")
        return found
    except (OSError, ValueError, TypeError, csv.Error) as error:
        what = (error.strerror or "").lower() if isinstance(error, OSError) else str(error)
        raise RunError(
            f"{escape(path)}: cannot be used: {what}", "Train again, or use another run."
        ) from error

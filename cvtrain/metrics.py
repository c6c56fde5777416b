"""Probabilities and true labels -> the numbers that are reported.

Computed once, written to `run.json`, and read from there by whoever shows them. Each can be
recomputed from the predictions CSV with scikit-learn.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

NUM_CALIBRATION_BINS = 15

NUM_MISTAKES = 24
"""So many of the worst are shown."""


def accuracy_interval(num_correct: int, num_images: int) -> tuple[float, float]:
    """Wilson's 95 % confidence interval of an accuracy, both ends in 0..1.

    Wilson (1927), JASA 22, 209-212; it stays inside 0..1 and is fair near 1, where the usual
    plus-minus is not.
    """
    from scipy.stats import binomtest

    interval = binomtest(num_correct, num_images).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def calibration_bins(labels: np.ndarray, probabilities: np.ndarray) -> list[dict[str, float]]:
    """A reliability diagram: images by confidence in the top class, in 15 bins of equal width.

    Args:
        labels: (n,) true class indices.
        probabilities: (n, classes), rows sum to 1.

    Returns:
        For each bin with images, lowest first: `num_images`, `num_correct`, their mean `confidence`
        and `accuracy`, both in 0..1.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    # Bin m holds ((m-1)/M, m/M]; a confidence of exactly 0 cannot occur for a top class.
    bins = np.ceil(confidence * NUM_CALIBRATION_BINS).astype(int)
    return [
        {
            "num_images": int((bins == m).sum()),
            "num_correct": int(correct[bins == m].sum()),
            "confidence": float(confidence[bins == m].mean()),
            "accuracy": float(correct[bins == m].mean()),
        }
        for m in np.unique(bins)
    ]


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error in 0..1 of the top class, over `calibration_bins`.

    Guo et al. (2017), On Calibration of Modern Neural Networks, equation 3.

    Args:
        labels: (n,) true class indices.
        probabilities: (n, classes), rows sum to 1.
    """
    bins = calibration_bins(labels, probabilities)
    gaps = (abs(row["accuracy"] - row["confidence"]) * row["num_images"] for row in bins)
    return sum(gaps) / len(labels)


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> dict[str, Any]:
    """McNemar's exact test of two classifiers on the same images: are they equally accurate?

    Only images that one of them has right and the other wrong can tell; if both are as good, each
    of these is a fair coin. McNemar (1947), Psychometrika 12, 153-157, with the binomial itself in
    place of its approximation.

    Args:
        correct_a, correct_b: (n,) bool, one entry an image, in the same order.

    Returns:
        `only_a` and `only_b`, the images that one alone has right, and `p`, the two-sided
        probability of a difference at least as large by chance; 1.0 where no image differs.
    """
    from scipy.stats import binomtest

    only_a = int(np.count_nonzero(correct_a & ~correct_b))
    only_b = int(np.count_nonzero(correct_b & ~correct_a))
    differ = only_a + only_b
    p = float(binomtest(only_a, differ, 0.5).pvalue) if differ else 1.0
    return {"only_a": only_a, "only_b": only_b, "p": p}


def log_losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Cross-entropy in nats of each image, (n,); probabilities have a floor of 1e-7 as in Keras."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.clip(chosen, 1e-7, 1.0))


def worst_mistakes(labels: np.ndarray, probabilities: np.ndarray) -> list[int]:
    """Positions of the images that are taken for another class, the greatest loss first.

    At most `NUM_MISTAKES` of them.

    Args:
        labels: (n,) true class indices.
        probabilities: (n, classes).
    """
    order = np.argsort(-log_losses(labels, probabilities), kind="stable")
    wrong = order[probabilities.argmax(axis=1)[order] != labels[order]]
    return wrong[:NUM_MISTAKES].tolist()


def summarize(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """The short form for `run.json`: num_images, accuracy, accuracy_interval, loss."""
    num_correct = int((probabilities.argmax(axis=1) == labels).sum())
    return {
        "num_images": len(labels),
        "accuracy": num_correct / len(labels),
        "accuracy_interval": list(accuracy_interval(num_correct, len(labels))),
        "loss": float(log_losses(labels, probabilities).mean()),
    }


def classification_report(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> dict[str, Any]:
    """`summarize` and calibration error, precision, recall and F1 of each class, confusion matrix.

    Args:
        labels: (n,) true class indices.
        probabilities: (n, classes), rows sum to 1, in the order of `class_names`.

    Returns:
        A dict ready for JSON. `confusion_matrix[i][j]` counts images of class i predicted as j. A
        class that is never predicted has precision 0, one without images has recall None.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    classes = np.arange(len(class_names))
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0.0
    )
    matrix = confusion_matrix(labels, predicted, labels=classes)
    per_class = {
        name: {
            "num_images": int(support[i]),
            "precision": float(precision[i]),
            "recall": float(recall[i]) if support[i] else None,
            "f1": float(f1[i]) if support[i] else None,
        }
        for i, name in enumerate(class_names)
    }
    return {
        **summarize(labels, probabilities),
        "calibration_error": calibration_error(labels, probabilities),
        "per_class": per_class,
        "confusion_matrix": matrix.tolist(),
    }

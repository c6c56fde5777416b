"""Metrics of probabilities and true labels.

They are computed once, written to `run.json`, and read from there by every page and table. Each can
be recomputed from the predictions CSV with scikit-learn.
"""

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, TypedDict

import numpy as np

NUM_CALIBRATION_BINS = 15

NUM_MISTAKES = 24
"""The number of worst mistakes that are shown."""

_Z_95 = 1.959963984540054  # standard errors between which 95 % of a normal distribution lie
_CHANCE_ERRORS = 2.0  # standard errors beyond which a difference is not chance
_LEAST_GAIN = 0.05  # share of the loss of guessing; a smaller gain does not count


@dataclass(frozen=True)
class AgainstGuessing:
    """Scores of a model on images that it was not trained on, and those of guessing.

    Attributes:
        num_images: number of images of all classes.
        accuracy, loss: the scores of the model, in 0..1 and in nats; an unknown loss is infinite.
        most_frequent: accuracy of always predicting the most frequent class.
        entropy: entropy of the class frequencies in nats: no constant prediction has a smaller
            cross-entropy (Gibbs' inequality).
        loss_error: standard error of the difference of the two losses; 0 if it is not known.
    """

    num_images: int
    accuracy: float
    loss: float
    most_frequent: float
    entropy: float
    loss_error: float = 0.0

    @property
    def is_better(self) -> bool:
        """Is the model significantly better than guessing, by its accuracy or its loss?

        True if all images are of one class, where this cannot be measured.
        """
        if not self.entropy:
            return True
        error = sqrt(self.most_frequent * (1 - self.most_frequent) / self.num_images)
        is_right = self.accuracy > self.most_frequent + _CHANCE_ERRORS * error
        gain = self.entropy - self.loss
        return is_right or gain > max(_LEAST_GAIN * self.entropy, _CHANCE_ERRORS * self.loss_error)


def against_guessing(labels: np.ndarray, probabilities: np.ndarray) -> AgainstGuessing:
    """Compare a model with guessing on images that it was not trained on.

    Args:
        labels: (n,) true class indices.
        probabilities: (n, classes), rows sum to 1.
    """
    counts = np.bincount(labels)
    losses = log_losses(labels, probabilities)
    differences = losses + np.log(counts[labels] / len(labels))
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    return scores_against_guessing(
        counts.tolist(),
        accuracy,
        float(losses.mean()),
        float(differences.std() / sqrt(len(labels))),
    )


def scores_against_guessing(
    counts: Sequence[int], accuracy: float, loss: float = float("inf"), loss_error: float = 0.0
) -> AgainstGuessing:
    """Compare a model with guessing by its scores alone.

    Args:
        counts: (classes,) images of each class among those that were evaluated.
        accuracy, loss, loss_error: the scores, as in `AgainstGuessing`.
    """
    shares = np.asarray(counts, float) / max(1, np.sum(counts))
    known = shares[shares > 0]
    entropy = float(-(known * np.log(known)).sum())
    most_frequent = float(shares.max())
    return AgainstGuessing(int(np.sum(counts)), accuracy, loss, most_frequent, entropy, loss_error)


def accuracy_interval(num_correct: int, num_images: int) -> tuple[float, float]:
    """Wilson's 95 % confidence interval of an accuracy, both ends in 0..1.

    Wilson (1927), JASA 22, 209-212; it stays inside 0..1 and is accurate near 1,
    where the normal approximation is not.
    """
    # In closed form, because a report would wait a second for scipy.stats.
    share, z = num_correct / num_images, _Z_95
    whole = 2 * (num_images + z**2)
    middle = (2 * num_images * share + z**2) / whole
    half = z / whole * sqrt(4 * num_images * share * (1 - share) + z**2)
    low = 0.0 if num_correct == 0 else middle - half
    high = 1.0 if num_correct == num_images else middle + half
    return low, high


class CalibrationBin(TypedDict):
    """Images of similar confidence; the mean confidence and the accuracy are in 0..1."""

    num_images: int
    num_correct: int
    confidence: float
    accuracy: float


def calibration_bins(labels: np.ndarray, probabilities: np.ndarray) -> list[CalibrationBin]:
    """A reliability diagram: images by confidence in the top class, in 15 bins of equal width.

    Args:
        labels: (n,) true class indices.
        probabilities: (n, classes), rows sum to 1.

    Returns:
        The bins with images, lowest first.
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

    Only images that exactly one of them classifies correctly are counted; under the null hypothesis
    each of the two is equally likely to be the correct one. McNemar (1947), Psychometrika 12,
    153-157, with the binomial distribution in place of its approximation.

    Args:
        correct_a, correct_b: (n,) bool, one entry per image, in the same order.

    Returns:
        `only_a` and `only_b`, the numbers of images that only one of them classifies correctly, and
        the two-sided p-value `p`; 1.0 if there is no such image.
    """
    from scipy.stats import binomtest

    only_a = int(np.count_nonzero(correct_a & ~correct_b))
    only_b = int(np.count_nonzero(correct_b & ~correct_a))
    differ = only_a + only_b
    p = float(binomtest(only_a, differ, 0.5).pvalue) if differ else 1.0
    return {"only_a": only_a, "only_b": only_b, "p": p}


def auc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Area under the ROC curve of each class against all others, mean over the classes.

    The probability that an image of the class is ranked above an image of another class; ties count
    half (Hanley and McNeil 1982, Radiology 143, 29-36). Classes with no images or with all of them
    are left out; 0.5, the value of guessing, if no class is left.
    """
    from scipy.stats import rankdata

    positive = labels[:, None] == np.arange(probabilities.shape[1])
    num_positive = positive.sum(axis=0)
    pairs = num_positive * (len(labels) - num_positive)
    rank_sums = np.sum(rankdata(probabilities, axis=0) * positive, axis=0)
    wins = rank_sums - num_positive * (num_positive + 1) / 2
    known = pairs > 0
    return float(np.mean(wins[known] / pairs[known])) if known.any() else 0.5


def balanced_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean recall of the classes that have images (Brodersen et al. 2010, ICPR, 3121-3124)."""
    correct = probabilities.argmax(axis=1) == labels
    counts = np.bincount(labels)
    recalls = np.bincount(labels, weights=correct)[counts > 0] / counts[counts > 0]
    return float(recalls.mean())


def macro_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean F1 of the classes, each 2 TP / (2 TP + FP + FN), as in `sklearn.metrics.f1_score`.

    Classes without images and predictions are left out.
    """
    predicted, num_classes = probabilities.argmax(axis=1), probabilities.shape[1]
    hits = np.bincount(labels[predicted == labels], minlength=num_classes)
    either = np.bincount(labels, minlength=num_classes) + np.bincount(
        predicted, minlength=num_classes
    )
    return float(np.mean(2 * hits[either > 0] / either[either > 0]))


def top_5(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of the images whose class is among the five most probable; ties by order of classes."""
    own = probabilities[np.arange(len(labels)), labels][:, None]
    is_before = np.arange(probabilities.shape[1]) < labels[:, None]
    ranks = np.sum((probabilities > own) | (probabilities == own) & is_before, axis=1)
    return float(np.mean(ranks < 5))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    function.__name__: function for function in (auc, balanced_accuracy, macro_f1, top_5)
}
"""Metrics that a config can name (`sections.stages.Metric` has their names): true class indices
(n,) and probabilities (n, classes), n > 0 -> a number in 0..1, the higher the better."""


def measured(columns: Container[str]) -> list[str]:
    """The metrics that a history has, by its columns: `loss` in nats, all others in 0..1."""
    return [name for name in ("loss", "accuracy", *METRICS) if f"val_{name}" in columns]


def log_losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Cross-entropy in nats of each image, (n,); probabilities have a floor of 1e-7 as in Keras."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.clip(chosen, 1e-7, 1.0))


def worst_mistakes(labels: np.ndarray, probabilities: np.ndarray) -> list[int]:
    """Positions of the misclassified images, the highest loss first.

    At most `NUM_MISTAKES` of them.

    Args:
        labels: (n,) true class indices.
        probabilities: (n, classes).
    """
    order = np.argsort(-log_losses(labels, probabilities), kind="stable")
    wrong = order[probabilities.argmax(axis=1)[order] != labels[order]]
    return wrong[:NUM_MISTAKES].tolist()


def summarize(
    labels: np.ndarray, probabilities: np.ndarray, metrics: Iterable[str] = ()
) -> dict[str, Any]:
    """The short form for `run.json`: num_images, accuracy, accuracy_interval, loss, and the named
    `METRICS`."""
    num_correct = int((probabilities.argmax(axis=1) == labels).sum())
    return {
        "num_images": len(labels),
        "accuracy": num_correct / len(labels),
        "accuracy_interval": list(accuracy_interval(num_correct, len(labels))),
        "loss": float(log_losses(labels, probabilities).mean()),
        **{name: METRICS[name](labels, probabilities) for name in metrics},
    }


def classification_report(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    metrics: Iterable[str] = (),
) -> dict[str, Any]:
    """`summarize` and calibration error, precision, recall and F1 of each class, confusion matrix.

    Args:
        labels: (n,) true class indices.
        probabilities: (n, classes), rows sum to 1, in the order of `class_names`.
        metrics: names in `METRICS`.

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
        **summarize(labels, probabilities, metrics),
        "calibration_error": calibration_error(labels, probabilities),
        "per_class": per_class,
        "confusion_matrix": matrix.tolist(),
    }

"""How well a linear classifier does on features, and which features to choose by that.

G. Alain and Y. Bengio, Understanding intermediate layers using linear classifier probes,
arXiv:1610.01644; L. Breiman et al. (1984), Classification and Regression Trees.
"""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

Row = dict[str, Any]
"""One block: where it is, what it costs and how well it tells the classes apart, as in run.json."""

_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_MAX_ITERATIONS, _TOLERANCE = 200, 1e-3


def linear_accuracy(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    *,
    folds: int,
    seed: int,
) -> Row:
    """How well logistic regression on standardised features does.

    Each training image is classified by the fit on the folds that it is not in. The L2 penalty is
    the best of a few for all folds together: the right one depends on the number of channels.

    Args:
        train, validation: features (n, channels) float32 and labels (n,).
        folds: parts of the cross-validation, each with its share of every class; the same parts
            for the same labels and seed, so that blocks are compared on equal terms.

    Returns:
        accuracy: by cross-validation, in 0..1.
        standard_error: of that accuracy, sqrt(accuracy * (1 - accuracy) / n); Breiman et al.
            (1984), 3.4.
        validation_accuracy: of a fit on all of `train`.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import StratifiedKFold
    from threadpoolctl import threadpool_limits

    features, labels = train
    folding = StratifiedKFold(folds, shuffle=True, random_state=seed)
    parts = zip(*folding.split(features, labels), strict=True)
    correct = np.zeros((len(_STRENGTHS), len(labels)), bool)

    def classify(fitted: np.ndarray, held_out: np.ndarray) -> None:
        predictions = _predictions(features[fitted], labels[fitted], features[held_out], _STRENGTHS)
        correct[:, held_out] = predictions == labels[held_out]

    # One thread a fold: within products of matrices this small, threads wait more than they work.
    with (
        warnings.catch_warnings(),
        threadpool_limits(1),
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        # The accuracy settles long before the last weights do.
        warnings.simplefilter("ignore", ConvergenceWarning)
        list(pool.map(classify, *parts))
        accuracies = correct.mean(axis=1)
        up_to_best = _STRENGTHS[: int(accuracies.argmax()) + 1]
        predictions = _predictions(features, labels, validation[0], up_to_best)
    accuracy = float(accuracies.max())
    return {
        "accuracy": accuracy,
        "standard_error": float(np.sqrt(accuracy * (1 - accuracy) / len(labels))),
        "validation_accuracy": float((predictions[-1] == validation[1]).mean()),
    }


def _predictions(
    features: np.ndarray, labels: np.ndarray, others: np.ndarray, strengths: Sequence[float]
) -> np.ndarray:
    """Predicted labels (strengths, len(others)), for weaker and weaker penalties.

    Each fit starts from the one before, which makes the path hardly dearer than its last point.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    features, others = scaler.transform(features), scaler.transform(others)
    model = LogisticRegression(max_iter=_MAX_ITERATIONS, tol=_TOLERANCE, warm_start=True)
    predictions = []
    for strength in strengths:
        model.set_params(C=strength).fit(features, labels)
        predictions.append(model.predict(others))
    return np.stack(predictions)


def recommend(rows: Sequence[Row]) -> tuple[Row, Row]:
    """The best block, and the cheapest one that is within one standard error of it.

    Breiman et al. (1984), 3.4.3: what lies within one standard error is as good, so take the
    simplest.
    """
    best = max(rows, key=lambda row: (row["accuracy"], -row["multiply_adds"]))
    as_good = [row for row in rows if row["accuracy"] >= least_accuracy(best)]
    return best, min(as_good, key=lambda row: (row["multiply_adds"], -row["accuracy"]))


def least_accuracy(best: Row) -> float:
    """The accuracy from which on a block counts as good as the best."""
    return best["accuracy"] - best["standard_error"]

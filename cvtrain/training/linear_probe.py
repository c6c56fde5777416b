"""Logistic regression on features: its accuracy, its predictions, and the block that it recommends.

G. Alain and Y. Bengio, Understanding intermediate layers using linear classifier probes,
arXiv:1610.01644; L. Breiman et al. (1984), Classification and Regression Trees.
"""

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from cvtrain.evaluation.metrics import log_losses
from cvtrain.system.machine import num_threads

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

Row = dict[str, Any]
"""One block: its position, its cost and its accuracy, as in run.json."""

_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""The inverse penalties C among which each function here chooses."""
_MAX_ITERATIONS, _TOLERANCE = 200, 1e-3


def linear_accuracy(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    *,
    folds: int,
    seed: int,
    groups: Sequence[bytes | str] | np.ndarray | None = None,
    raise_if_stopped: Callable[[], object] = lambda: None,
) -> Row:
    """The accuracy of logistic regression on standardised features.

    Each training image is classified by the model that was fitted on the other folds. The L2
    penalty is the best of a few for all folds together: it depends on the number of channels.

    Args:
        train, validation: features (n, channels) float32 and labels (n,).
        folds: number of stratified folds; equal for equal labels and seed, so that blocks are
            compared on the same folds.
        groups: (n,); training images of one group, such as copies, share a fold. None: every image
            is a group of its own.
        raise_if_stopped: called before every fit, from any thread; may raise to stop.

    Returns:
        accuracy: by cross-validation, in 0..1.
        standard_error: of that accuracy, sqrt(accuracy * (1 - accuracy) / n), n the number of
            groups; Breiman et al. (1984), 3.4.
        validation_accuracy: of a fit on all of `train`.
    """
    features, labels = train
    correct = np.zeros((len(_STRENGTHS), len(labels)), bool)

    def classify(part: np.ndarray) -> None:
        found = _path(
            features[~part], labels[~part], features[part], raise_if_stopped=raise_if_stopped
        )
        correct[:, part] = [each.argmax(axis=1) == labels[part] for each in found]

    with _fits_side_by_side() as pool:
        list(pool.map(classify, _parts(labels, groups, folds, seed)))
        accuracies = correct.mean(axis=1)
        best = _at(_STRENGTHS[accuracies.argmax()], train, validation[0], raise_if_stopped)
    accuracy = float(accuracies.max())
    number = len(labels) if groups is None else len(set(groups))
    return {
        "accuracy": accuracy,
        "standard_error": float(np.sqrt(accuracy * (1 - accuracy) / number)),
        "validation_accuracy": float((best.argmax(axis=1) == validation[1]).mean()),
    }


def out_of_fold(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    folds: int,
    seed: int,
    groups: Sequence[bytes | str] | np.ndarray | None = None,
    raise_if_stopped: Callable[[], object] = lambda: None,
) -> tuple[np.ndarray, float]:
    """The out-of-fold probabilities of each image by logistic regression on standardised features.

    The L2 penalty is the one of a few with the lowest cross-entropy over all folds. The search
    begins with the strongest penalty and ends when the cross-entropy rises.

    Args:
        features, labels: (n, channels) float32 and (n,).
        folds: number of stratified folds; reduced to the number of groups in the class with the
            most groups, which must be at least two. A class without an image in a fit gets the
            probability 0.
        seed: of the folds.
        groups: (n,); images of one group, such as copies, share a fold. None: every image is a
            group of its own.
        raise_if_stopped: called before every fit, from any thread; may raise to stop.

    Returns:
        Probabilities (n, classes) float32 and the inverse penalty.
    """
    num_classes = int(labels.max()) + 1
    with _fits_side_by_side() as pool:
        # A class may have fewer images than there are folds.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        parts = _parts(labels, groups, folds, seed)
        paths = [
            _path(
                features[~part],
                labels[~part],
                features[part],
                num_classes,
                raise_if_stopped=raise_if_stopped,
            )
            for part in parts
        ]
        best, best_loss, best_strength = None, np.inf, 0.0
        for strength in _STRENGTHS:
            found = np.empty((len(labels), num_classes), np.float32)
            for part, of_part in zip(parts, pool.map(next, paths), strict=True):
                found[part] = of_part
            loss = float(log_losses(labels, found).mean())
            if loss >= best_loss:
                break
            best, best_loss, best_strength = found, loss, strength
    assert best is not None
    return best, best_strength


def held_out(
    train: tuple[np.ndarray, np.ndarray],
    others: np.ndarray,
    *,
    folds: int,
    seed: int,
    groups: Sequence[bytes | str] | np.ndarray | None = None,
    raise_if_stopped: Callable[[], object] = lambda: None,
) -> np.ndarray:
    """Probabilities (n, classes) float32 of other images by logistic regression on `train`.

    Args:
        train: features (m, channels) and labels (m,) with every class among them.
        others: features (n, channels).
        folds, seed, groups: of the cross-validation that finds the penalty, as in `out_of_fold`.
        raise_if_stopped: called before every fit, from any thread; may raise to stop.
    """
    _, strength = out_of_fold(
        *train, folds=folds, seed=seed, groups=groups, raise_if_stopped=raise_if_stopped
    )
    with _fits_side_by_side():
        return _at(strength, train, others, raise_if_stopped)


def _parts(
    labels: np.ndarray, groups: Sequence[bytes | str] | np.ndarray | None, folds: int, seed: int
) -> list[np.ndarray]:
    """The mask (n,) of the held-out images of each fold."""
    from sklearn.model_selection import StratifiedKFold

    first = group = np.arange(len(labels))
    if groups is not None:
        _, first, group = np.unique(np.array(groups), return_index=True, return_inverse=True)
    folds = min(folds, int(np.bincount(labels[first]).max()))
    folding = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return [np.isin(group, held) for _, held in folding.split(first, labels[first])]


@contextlib.contextmanager
def _fits_side_by_side() -> Iterator[ThreadPoolExecutor]:
    """A pool with one thread per fit: parallel products of this size would be slower."""
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with (
        warnings.catch_warnings(),
        threadpool_limits(1),
        ThreadPoolExecutor(num_threads()) as pool,
    ):
        # The accuracy settles long before the last weights do.
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield pool


def _at(
    strength: float,
    train: tuple[np.ndarray, np.ndarray],
    others: np.ndarray,
    raise_if_stopped: Callable[[], object],
) -> np.ndarray:
    """The probabilities of `_path` for one penalty."""
    steps = _STRENGTHS.index(strength)
    return next(
        itertools.islice(_path(*train, others, raise_if_stopped=raise_if_stopped), steps, None)
    )


def _path(
    features: np.ndarray,
    labels: np.ndarray,
    others: np.ndarray,
    num_classes: int | None = None,
    *,
    raise_if_stopped: Callable[[], object],
) -> Iterator[np.ndarray]:
    """Probabilities (len(others), classes) float32 for each penalty, from strong to weak."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    features, others = scaler.transform(features), scaler.transform(others)
    fits = _fits(
        features,
        labels,
        max_iterations=_MAX_ITERATIONS,
        tolerance=_TOLERANCE,
        raise_if_stopped=raise_if_stopped,
    )
    for model in fits:
        found = np.zeros((len(others), num_classes or int(labels.max()) + 1), np.float32)
        found[:, model.classes_] = model.predict_proba(others)
        yield found


def _fits(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    max_iterations: int,
    tolerance: float,
    raise_if_stopped: Callable[[], object],
) -> Iterator["LogisticRegression"]:
    """One model, fitted again for each penalty from strong to weak.

    Each fit starts from the one before, so all of them take little more time than the last.
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=max_iterations, tol=tolerance, warm_start=True)
    for strength in _STRENGTHS:
        raise_if_stopped()
        yield model.set_params(C=strength).fit(features, labels)


def fit_logistic(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    *,
    raise_if_stopped: Callable[[], object] = lambda: None,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Fit logistic regression on standardised features, with the L2 penalty that validates best.

    Args:
        train, validation: features (n, channels) and labels (n,).
        raise_if_stopped: called before every fit; may raise to stop.

    Returns:
        Coefficients (channels, classes) and intercepts (classes,) for unscaled features, and the
        inverse penalty C with the lowest validation loss.
    """
    from sklearn.metrics import log_loss
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train[0])
    features, held_out = scaler.transform(train[0]), scaler.transform(validation[0])
    best_loss, best = np.inf, None
    fits = _fits(
        features,
        train[1],
        max_iterations=1000,
        tolerance=1e-4,
        raise_if_stopped=raise_if_stopped,
    )
    for model in fits:
        loss = log_loss(validation[1], model.predict_proba(held_out), labels=model.classes_)
        if loss < best_loss:
            best_loss, best = loss, (model.coef_.copy(), model.intercept_.copy(), model.C)
    assert best is not None
    coefficients, intercepts, strength = best
    if len(coefficients) == 1:  # of two classes: the log-odds z of the second; softmax of -z/2, z/2
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    coefficients = coefficients / scaler.scale_
    intercepts = intercepts - coefficients @ scaler.mean_
    return coefficients.T.astype(np.float32), intercepts.astype(np.float32), strength


def recommend(rows: Sequence[Row]) -> tuple[Row, Row]:
    """The best block, and the cheapest one within one standard error of it.

    This is the one-standard-error rule of Breiman et al. (1984), 3.4.3.
    """
    best = max(rows, key=lambda row: (row["accuracy"], -row["multiply_adds"]))
    as_good = [row for row in rows if row["accuracy"] >= least_accuracy(best)]
    return best, min(as_good, key=lambda row: (row["multiply_adds"], -row["accuracy"]))


def least_accuracy(best: Row) -> float:
    """The lowest accuracy that counts as equal to that of the best block."""
    return best["accuracy"] - best["standard_error"]

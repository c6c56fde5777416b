"""Calibration of confidences, and thresholds below which a classifier abstains.

A temperature calibrates the confidences; a threshold on them makes the classifier abstain. Both
are chosen on validation images from labels and probabilities alone; the model is not needed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cvtrain.evaluation.metrics import accuracy_interval

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.1, 10.0
CONFIDENCE = 0.95
"""The confidence level of a guaranteed risk."""

COVERAGES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4)
"""The coverages among which a guaranteed risk is searched."""

_SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Abstention:
    """The rule that decides which images are answered.

    Attributes:
        temperature: the temperature with which the probabilities are calibrated first.
        threshold: the lowest confidence that is an answer, in 0..1; 0 answers everything.
    """

    temperature: float
    threshold: float

    def answers(self, probabilities: np.ndarray) -> np.ndarray:
        """(n,) bool: is the image answered? `probabilities` (n, classes) are calibrated."""
        return probabilities.max(axis=1) >= self.threshold


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """Coverage and risk of every threshold, from the strictest to the one that answers all images.

    Attributes:
        thresholds: (k,) the distinct confidences, falling.
        coverage: (k,) share of the images that are answered, in 0..1.
        risk: (k,) error rate among the answered images, in 0..1.
    """

    thresholds: np.ndarray
    coverage: np.ndarray
    risk: np.ndarray

    @property
    def area(self) -> float:
        """Area under risk over coverage, in 0..1, lower is better: the mean, over the images, of
        the risk of all that are at least as confident (Geifman and El-Yaniv, 2017).
        """
        return float(np.average(self.risk, weights=np.diff(self.coverage, prepend=0)))


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature in 0.1..10 that gives `with_temperature` the least mean log loss.

    Guo et al. (2017), On Calibration of Modern Neural Networks, section 4.2. The loss is convex in
    1/T, so its slope has one root. If every image is classified correctly, the loss has no minimum
    and the temperature is 1.

    Args:
        labels: (n,) true class indices of images that the model was not trained on.
        probabilities: (n, classes), rows sum to 1; zeros are allowed.
    """
    from scipy.optimize import brentq

    if (probabilities.argmax(axis=1) == labels).all():
        return 1.0
    logits = _logits(probabilities)
    of_labels = logits[np.arange(len(labels)), labels].mean()

    def slope(inverse: float) -> float:
        expected = (softmax(logits * inverse) * logits).sum(axis=1).mean()
        return float(expected - of_labels)

    if slope(1 / HIGHEST_TEMPERATURE) >= 0:
        return HIGHEST_TEMPERATURE
    if slope(1 / LOWEST_TEMPERATURE) <= 0:
        return LOWEST_TEMPERATURE
    return float(1 / brentq(slope, 1 / HIGHEST_TEMPERATURE, 1 / LOWEST_TEMPERATURE))


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(log p / T), (n, classes) float64; the most probable class stays the same.

    Guo et al. (2017), equation 9: the logarithm of a probability is its logit, up to a constant
    that does not change the softmax.
    """
    return softmax(_logits(probabilities) / temperature)


def risk_coverage(labels: np.ndarray, probabilities: np.ndarray) -> RiskCoverage:
    """Coverage and risk at every threshold of the confidence in the top class.

    Args:
        labels: (n,) true class indices.
        probabilities: (n, classes).
    """
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    falling = confidence[order]
    wrong = (probabilities.argmax(axis=1) != labels)[order]
    # Images of equal confidence are answered together.
    last = np.flatnonzero(np.append(np.diff(falling) != 0, True))
    num_answered = last + 1
    return RiskCoverage(
        thresholds=falling[last],
        coverage=num_answered / len(labels),
        risk=np.cumsum(wrong)[last] / num_answered,
    )


def threshold_for_coverage(probabilities: np.ndarray, coverage: float) -> float:
    """The highest threshold that answers at least the share `coverage` (0..1] of the images.

    It is 0 for a coverage of 1, so that new images with a lower confidence are answered as well.
    """
    if coverage == 1:
        return 0.0
    falling = np.sort(probabilities.max(axis=1))[::-1]
    # 0.07 * 100 is 7.000000000000001, which is not eight images.
    num_answered = max(1, int(np.ceil(coverage * len(falling) - 1e-9)))
    return float(falling[num_answered - 1])


def coverage_to_come(num_answered: int, num_images: int) -> tuple[float, float]:
    """95 % interval of the coverage of a threshold on images other than those it was chosen on.

    Above the k-th highest of n confidences lies a share of all images that is distributed as
    Beta(k, n + 1 - k), for any distribution of the confidences (Wilks, 1941).

    Args:
        num_answered: k, the number of answered images among those it was chosen on.
        num_images: n.

    Returns:
        Both ends in 0..1.
    """
    from scipy.stats import beta

    low, high = beta.interval(CONFIDENCE, num_answered, num_images + 1 - num_answered)
    return float(low), float(high)


def risk_bounds(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds of ten coverages, 100 % to 40 %, and an upper bound of the risk of each.

    With probability 0.95 over the draw of the images *all* ten true risks are below their bounds,
    so the best of them may be picked: each is the binomial tail bound (Clopper and Pearson, 1934)
    with a tenth of the 0.05. After Geifman and El-Yaniv (2017), Selective Classification for Deep
    Neural Networks, algorithm 1. Their bisection makes about as many tests, but its guarantee needs
    a risk that rises with coverage; ten coverages fixed beforehand do not.

    Args:
        labels: (n,) true class indices of images like those to come, none of them trained on.
        probabilities: (n, classes).

    Returns:
        Thresholds, rising, and upper bounds of the risk in 0..1; each (10,).
    """
    from scipy.stats import beta

    thresholds = np.array([threshold_for_coverage(probabilities, c) for c in COVERAGES])
    confidence = probabilities.max(axis=1)
    wrong = probabilities.argmax(axis=1) != labels
    answered = confidence >= thresholds[:, None]
    num_answered, num_wrong = answered.sum(axis=1), (answered & wrong).sum(axis=1)
    num_right = num_answered - num_wrong
    level = 1 - (1 - CONFIDENCE) / len(COVERAGES)
    bounds = beta.ppf(level, num_wrong + 1, np.maximum(num_right, 1))
    return thresholds, np.where(num_right > 0, bounds, 1.0)


def threshold_for_risk(labels: np.ndarray, probabilities: np.ndarray, risk: float) -> float | None:
    """The threshold of highest coverage whose risk is at most `risk`, with a confidence of 0.95.

    None if no threshold of `risk_bounds` guarantees that: the model is not good enough, or there
    are too few images.
    """
    thresholds, bounds = risk_bounds(labels, probabilities)
    shown = np.flatnonzero(bounds <= risk)
    return float(thresholds[shown[0]]) if len(shown) else None


def coverage_and_risk(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float
) -> dict[str, Any]:
    """Coverage and risk of a threshold on these images, ready for JSON.

    Args:
        labels: (n,) true class indices.
        probabilities: (n, classes), calibrated.
        threshold: the lowest confidence that is an answer.

    Returns:
        `num_images`, `num_answered`, `num_wrong` of those, `coverage` and `risk` with Wilson's 95 %
        intervals (`coverage_interval`, `risk_interval`); risks are None if nothing is answered.
    """
    answered = probabilities.max(axis=1) >= threshold
    num_answered = int(answered.sum())
    num_wrong = int((answered & (probabilities.argmax(axis=1) != labels)).sum())
    return {
        "num_images": len(labels),
        "num_answered": num_answered,
        "num_wrong": num_wrong,
        "coverage": num_answered / len(labels),
        "coverage_interval": list(accuracy_interval(num_answered, len(labels))),
        "risk": num_wrong / num_answered if num_answered else None,
        "risk_interval": list(accuracy_interval(num_wrong, num_answered)) if num_answered else None,
    }


def _logits(probabilities: np.ndarray) -> np.ndarray:
    """Logarithms, float64; a probability that underflowed counts as the smallest float32."""
    return np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (n, classes) of logits of that shape."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)

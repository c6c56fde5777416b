"""Fit how errors fall with the number of training images, and extrapolate.

Errors of classifiers follow a power law with a floor, e(n) = a + b n^-c: J. Hestness et al. (2017),
Deep Learning Scaling is Predictable, Empirically, arXiv:1712.00409; C. Cortes et al. (1993),
Learning Curves: Asymptotic Values and Rate of Convergence.
"""

import numpy as np

FARTHEST = 4
"""The largest extrapolation, as a multiple of the largest measured size."""

FEWEST_SIZES = 4
"""The fewest sizes to fit: the law has three parameters, so three points always fit."""

# Ten times the data lowers the error by a tenth (0.05) to a factor of ten (1.0).
_EXPONENTS = np.geomspace(0.05, 1.0, 100)


def resampled_errors(correct: np.ndarray, *, num_draws: int = 1000, seed: int = 0) -> np.ndarray:
    """Bootstrap the errors over training subsets and test images (B. Efron, 1979).

    A draw resamples both with replacement; a subset keeps all its sizes.

    Args:
        correct: (sizes, subsets, images) bool: whether the image was classified correctly after
            training on that subset of that size.

    Returns:
        (draws, sizes), in 0..1.
    """
    generator = np.random.default_rng(seed)
    _, num_subsets, num_images = correct.shape
    wrong = (~correct).astype(np.float32)
    errors = []
    for _ in range(num_draws):
        subsets = np.bincount(
            generator.integers(num_subsets, size=num_subsets), minlength=num_subsets
        )
        images = np.bincount(generator.integers(num_images, size=num_images), minlength=num_images)
        errors.append((wrong @ images.astype(np.float32)) @ subsets / (num_subsets * num_images))
    return np.stack(errors)


def extrapolate(sizes: np.ndarray, errors: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Fit the law to each row of errors, and extrapolate it.

    Least squares are weighted by the size, because the end of the curve matters most
    (R. L. Figueroa et al., 2012, Predicting sample size required for classification performance);
    a >= 0, b >= 0 and c in 0.05..1.

    Args:
        sizes: (k,) numbers of training images, at least `FEWEST_SIZES` different ones.
        errors: (draws, k) in 0..1.
        targets: (m,) numbers of training images, at most `FARTHEST` times the largest size.

    Returns:
        Errors (draws, m) at the targets.

    Raises:
        ValueError: too few sizes, or a target is too far.
    """
    sizes, targets = np.asarray(sizes, np.float64), np.asarray(targets, np.float64)
    if len(np.unique(sizes)) < FEWEST_SIZES:
        raise ValueError(f"the law needs {FEWEST_SIZES} sizes; received {sizes.tolist()}")
    if targets.max() > FARTHEST * sizes.max():
        raise ValueError(f"{targets.max():g} is more than {FARTHEST} times {sizes.max():g}")
    # In shares of the largest size, b is the part of the error there that more data removes.
    floors, scales, misfits = _fits(
        (sizes / sizes.max())[None] ** -_EXPONENTS[:, None], errors, sizes
    )
    best = misfits.argmin(axis=1)
    rows = np.arange(len(errors))
    falls = (targets / sizes.max())[None] ** -_EXPONENTS[best, None]
    return np.clip(floors[rows, best, None] + scales[rows, best, None] * falls, 0.0, 1.0)


def _fits(
    falls: np.ndarray, errors: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Floors a, scales b and weighted squared misfits, each (draws, exponents).

    For a given exponent the law is a line in `falls` (exponents, k), whose least squares under
    a >= 0 and b >= 0 have a closed form: where the free line breaks a bound, the best lies on it.
    """
    weights = weights / weights.sum()
    x, y = falls @ weights, errors @ weights
    xy = (errors * weights) @ falls.T
    xx = (falls**2) @ weights
    scales = np.maximum((xy - y[:, None] * x) / (xx - x**2), 0.0)
    floors = y[:, None] - scales * x
    through_zero = floors < 0
    scales = np.where(through_zero, xy / xx, scales)
    floors = np.where(through_zero, 0.0, floors)
    found = floors[..., None] + scales[..., None] * falls
    misfits = ((found - errors[:, None]) ** 2) @ weights
    return floors, scales, misfits

"""Sanity check by cascading randomisation: does a map depend on what the model has learnt?

The layers are given random weights one after the other, from the scores down, and the maps are
compared with those of the trained model. Maps that stay the same do not come from the model: they
show edges or the middle of the image, however convincing they look. Adebayo et al. (2018), Sanity
Checks for Saliency Maps, section 3.1; compared by rank correlation, which knows no scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from cvtrain.backend import keras
from cvtrain.explain.explanation import Classes, Explain, Explanation, explanation, resolve_classes
from cvtrain.explain.flat_model import FlatModel

MAX_STAGES = 10
PASSES_BELOW = 0.5
FAILS_FROM = 0.9


@dataclass(frozen=True)
class Cascade:
    """How the maps of one method changed, stage by stage.

    Attributes:
        stages: the layer down to which the weights were random, from the scores down.
        correlations: (stages, n) float64, Spearman's rank correlation in -1..1 of each map with
            that of the trained model; NaN where one of the two is constant and has no ranks.
    """

    stages: tuple[str, ...]
    correlations: np.ndarray

    @property
    def means(self) -> list[float | None]:
        """The mean over the images at each stage; None where no map can be ranked."""
        return [_mean(row) for row in self.correlations]

    @property
    def num_unranked(self) -> list[int]:
        """At each stage, images whose maps cannot be compared."""
        return [int(np.isnan(row).sum()) for row in self.correlations]

    @property
    def verdict(self) -> str:
        """`passes`, `is doubtful`, `fails` or `cannot be ranked`.

        By the mean rank correlation of a wholly random model's maps with those of the trained one:
        below 0.5 they have little in common, from 0.9 on they are the same. Between, the image and
        the kind of network make much of them. So it is with saliency, which is unsigned.
        """
        last = self.means[-1] if self.stages else None
        if last is None:
            return "cannot be ranked"
        if last < PASSES_BELOW:
            return "passes"
        return "fails" if last >= FAILS_FROM else "is doubtful"


def randomise(
    opened: FlatModel,
    explain: Explain,
    images: np.ndarray,
    classes: np.ndarray,
    *,
    seed: int = 0,
) -> Cascade:
    """Explain images while the weights of the model are randomized layer by layer.

    A layer is randomized by putting the values of each of its weights into random order: they keep
    their range, so that a network of any layers still computes finite numbers. A network of more
    than 10 layers with weights is randomized in 10 stages of several layers. The weights are
    restored afterwards, also when `explain` fails.

    Args:
        opened: the private copy whose weights are changed; `explain` has to read them anew.
        explain: one method on `opened`, or a control like `ignore_the_model`.
        images: (n, height, width, channels) float32.
        classes: (n,) the class to explain in each image.
        seed: of the random orders.
    """
    classes = np.asarray(classes)[:, None]
    trained = explain(images, classes).maps[:, 0]
    stages, correlations = [], []
    weights = [np.array(weight) for weight in opened.network.weights]
    try:
        for stage in _forgetting(opened.network, np.random.default_rng(seed)):
            maps = explain(images, classes).maps[:, 0]
            stages.append(stage)
            correlations.append(list(map(rank_correlation, trained, maps)))
    finally:
        opened.network.set_weights(weights)
    table = np.array(correlations, np.float64).reshape(len(stages), len(images))
    return Cascade(tuple(stages), table)


def ignore_the_model(images: np.ndarray, classes: Classes) -> Explanation:
    """The control that has to fail: a spot in the middle of every image, for every class."""
    height, width = images.shape[1:3]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    spot = np.exp(-2 * (y**2 + x**2)).astype(np.float32)
    scores = np.zeros((len(images), 0))
    requested = resolve_classes(classes, scores)
    maps = np.broadcast_to(spot, (*requested.shape, height, width))
    return explanation(maps, requested, scores)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two maps in -1..1; NaN where one of them is constant."""
    ranks = [rankdata(values) - (values.size + 1) / 2 for values in (a, b)]
    norm = float(np.prod([np.linalg.norm(rank) for rank in ranks]))
    return float(ranks[0] @ ranks[1]) / norm if norm else float("nan")


def _forgetting(network: keras.Model, generator: np.random.Generator) -> Iterator[str]:
    """Put random weights into the layers from the last down; yields the lowest layer each stage."""
    learnt = [layer for layer in reversed(network.layers) if layer.weights]
    for layers in np.array_split(np.array(learnt, object), min(MAX_STAGES, len(learnt)) or 1):
        if not len(layers):
            return
        for layer in layers:
            layer.set_weights([_shuffled(w, generator) for w in layer.get_weights()])
        yield layers[-1].name


def _shuffled(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return generator.permutation(values.ravel()).reshape(values.shape)


def _mean(correlations: np.ndarray) -> float | None:
    ranked = correlations[~np.isnan(correlations)]
    return float(ranked.mean()) if len(ranked) else None

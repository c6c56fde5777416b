"""Two runs image by image: are they equally accurate, and do they say the same?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cvtrain.evaluation.metrics import mcnemar
from cvtrain.runs.predictions import Predictions

Answers = Mapping[str, tuple[str, str]]
"""File -> (true class, predicted class)."""


@dataclass(frozen=True)
class Pair:
    """Two runs on the same test images.

    Attributes:
        only_first, only_second: images that one alone has right.
        p: McNemar's exact test, two-sided.
        agreement: share of the images that both take for the same class, right or wrong.
    """

    only_first: int
    only_second: int
    p: float
    agreement: float


def answers(predictions: Predictions, class_names: Sequence[str]) -> Answers:
    """What was said of each image, by name: runs may have their classes in another order."""
    pairs = zip(predictions.labels, predictions.predicted, strict=True)
    return {
        file: (class_names[true], class_names[predicted])
        for file, (true, predicted) in zip(predictions.files, pairs, strict=True)
    }


def paired(first: Answers, second: Answers) -> Pair | None:
    """Compare two runs; None where their test images or labels differ."""
    if {file: true for file, (true, _) in first.items()} != {
        file: true for file, (true, _) in second.items()
    }:
        return None
    both = [(first[file], second[file]) for file in first]
    test = mcnemar(
        np.array([true == said for (true, said), _ in both]),
        np.array([true == said for _, (true, said) in both]),
    )
    same = sum(one == other for (_, one), (_, other) in both)
    return Pair(test["only_a"], test["only_b"], test["p"], same / len(both))

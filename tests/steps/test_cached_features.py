"""Which images a frozen backbone is evaluated on, and when its features are constant."""

from types import SimpleNamespace

import numpy as np

from cvtrain.data.index import Split
from cvtrain.steps.cached_features import MOST_TRAIN_IMAGES, are_constant, evaluation_parts


class _Rows:
    def __init__(self, values):
        self._values = values

    def __len__(self):
        return len(self._values)

    def take(self, indices):
        return self._values[indices]


def test_features_are_constant_only_if_every_row_is_the_same():
    values = np.ones((130, 2, 2, 3), np.float32)
    assert are_constant(_Rows(values))
    values[129, 0, 0, 0] = 2.0
    assert not are_constant(_Rows(values))
    assert not are_constant(_Rows(values[:1]))


def test_evaluation_takes_a_thousand_training_images_in_the_shares_of_the_classes():
    labels = np.repeat([0, 1, 2], [3000, 1500, 500])
    train = Split(tuple(f"{i}.png" for i in range(len(labels))), labels)
    test = Split(("t.png",), np.array([0]))
    dataset = SimpleNamespace(index=SimpleNamespace(splits={"train": train, "test": test}))
    parts = evaluation_parts(dataset)
    assert parts["test"] is test
    assert len(set(parts["train"].paths)) == MOST_TRAIN_IMAGES
    np.testing.assert_allclose(np.bincount(parts["train"].labels), [600, 300, 100], atol=1)
    numbers = [int(path.removesuffix(".png")) for path in parts["train"].paths]
    np.testing.assert_array_equal(parts["train"].labels, labels[numbers])
    assert len(dataset.index.splits["train"].paths) == 5000

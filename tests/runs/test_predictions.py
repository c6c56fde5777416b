"""What is written of predictions reads back as it was."""

import numpy as np
import pytest

from cvtrain.data.index import Split
from cvtrain.errors import RunError
from cvtrain.runs.predictions import predictions_csv, read_predictions

NAMES = ["cat", "=dog()", "a,b"]
FILES = ("cat/1.jpg", "=dog()/\x1b[31m.jpg", "a,b/caf\udce9.jpg", "cat/2.jpg")


@pytest.fixture
def written(tmp_path):
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], 4).astype(np.float32)
    split = Split(FILES, np.array([0, 1, 2, 0], np.int32))
    path = tmp_path / "predictions.csv"
    path.write_text(predictions_csv(split, probabilities, NAMES), encoding="utf-8")
    return path, split, probabilities


def test_labels_and_every_bit_of_the_probabilities_come_back(written):
    path, split, probabilities = written
    predictions = read_predictions(path, NAMES)
    np.testing.assert_array_equal(predictions.probabilities, probabilities)
    assert predictions.probabilities.dtype == np.float32
    np.testing.assert_array_equal(predictions.labels, split.labels)
    np.testing.assert_array_equal(predictions.predicted, probabilities.argmax(axis=1))
    assert predictions.files[0] == "cat/1.jpg"
    assert "\x1b" not in predictions.files[1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:0],
        lambda text: text.splitlines(keepends=True)[0],
        lambda text: text.replace("p(cat)", "p(cow)"),
        lambda text: text.replace("cat/1.jpg,cat,", "cat/1.jpg,cow,"),
        lambda text: text[:-5] + "\n" + "x",
        lambda text: text.rpartition(",")[0],
        lambda text: text.rpartition(",")[0] + ",nan\n",
    ],
)
def test_a_damaged_file_is_named(written, damage):
    path = written[0]
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(RunError, match=r"predictions\.csv: cannot be used"):
        read_predictions(path, NAMES)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RunError, match="no such file"):
        read_predictions(tmp_path / "none.csv", NAMES)

"""Metrics as a person sees them are those that were computed."""

import csv

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from cvtrain.evaluation.metrics import classification_report
from cvtrain.steps.scores import show_metrics, write_confusion_matrix
from cvtrain.system.console import Console

NAMES = ("cat", "dog", "owl")
GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 3, 60)
PROBABILITIES = GENERATOR.dirichlet((1, 1, 1), 60).astype(np.float32)
PREDICTED = PROBABILITIES.argmax(axis=1)


def test_the_table_and_the_headline_are_scikit_learns(capsys):
    show_metrics(classification_report(LABELS, PROBABILITIES, NAMES), Console())
    said = capsys.readouterr().out
    shares = precision_recall_fscore_support(LABELS, PREDICTED)
    for name, precision, recall, f1, count in zip(NAMES, *shares, strict=True):
        (row,) = [line.split() for line in said.splitlines() if line.strip().startswith(name)]
        assert row == [name, str(count), f"{precision:.3f}", f"{recall:.3f}", f"{f1:.3f}"]
    assert f"accuracy {accuracy_score(LABELS, PREDICTED):.4f} (95 % interval " in said
    assert "on 60 images" in said


def test_rows_of_the_confusion_matrix_are_true_classes(tmp_path):
    matrix = confusion_matrix(LABELS, PREDICTED)
    (tmp_path / "figures").mkdir()
    write_confusion_matrix(tmp_path, matrix.tolist(), NAMES)
    with (tmp_path / "confusion_matrix.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["true class", *NAMES]
    assert [row[0] for row in rows] == list(NAMES)
    np.testing.assert_array_equal([[int(n) for n in row[1:]] for row in rows], matrix)
    assert (tmp_path / "figures" / "confusion_matrix.png").stat().st_size > 1000

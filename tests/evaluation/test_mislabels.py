"""Confident learning finds planted mislabels, and nothing where there is nothing."""

import csv

import numpy as np
import pytest

from cvtrain.errors import RunError
from cvtrain.evaluation.mislabels import (
    MOST_LISTED,
    LikelyMislabel,
    likely_mislabels,
    mislabels_csv,
    rank,
    read_mislabels,
    suspects,
)
from cvtrain.training.linear_probe import out_of_fold

NAMES = ("cat", "dog", "eel")


def by_the_definition(labels, probabilities):
    """Off the diagonal of the confident joint, as equations 1 and 2 of the paper say it.

    Of those, the ones whose suggestion is ten times as probable as the label.
    """
    n, num_classes = probabilities.shape
    thresholds = {
        j: np.mean([probabilities[x, j] for x in range(n) if labels[x] == j])
        for j in set(labels.tolist())
    }
    found = []
    for x in range(n):
        confident = [
            j
            for j in range(num_classes)
            if j in thresholds and probabilities[x, j] >= thresholds[j]
        ]
        if not confident:
            continue
        best = max(confident, key=lambda j: probabilities[x, j])
        odds = probabilities[x, best] / probabilities[x, labels[x]]
        if best != labels[x] and odds >= 10:
            found.append((1 / odds, x, best))
    return [(x, best) for _, x, best in sorted(found)]


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_definition(seed):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, 60)
    probabilities = generator.dirichlet(np.full(4, 0.4), 60)
    places, suggestions = likely_mislabels(labels, probabilities)
    expected = by_the_definition(labels, probabilities)
    assert expected
    assert list(zip(places.tolist(), suggestions.tolist(), strict=True)) == expected


def test_each_class_says_what_is_confident():
    # Dogs are told with 0.9 and cats with 0.6: a cat with 0.7 for dog is no dog, with 0.95 it is.
    probabilities = np.array(
        [[0.6, 0.4], [0.95, 0.05], [0.3, 0.7], [0.05, 0.95], [0.1, 0.9], [0.1, 0.9]]
    )
    labels = np.array([0, 0, 0, 0, 1, 1])
    places, suggestions = likely_mislabels(labels, probabilities)
    assert (places.tolist(), suggestions.tolist()) == ([3], [1])


def test_what_is_merely_more_probable_is_no_accusation():
    # Both images of dogs are said to be cats; of the second it is 9 times as probable.
    probabilities = np.array([[0.6, 0.4], [0.08, 0.92], [0.1, 0.9], [0.2, 0.8]])
    places, _ = likely_mislabels(np.array([0, 0, 0, 1]), probabilities)
    assert places.tolist() == [1]


def test_no_probability_at_all_is_no_accusation():
    # A fit that has not seen the class of an image gives that class 0, and here nobody is sure.
    probabilities = np.array([[0.5, 0.5, 0.0], [0.9, 0.1, 0.0], [0.1, 0.9, 0.0]])
    places, _ = likely_mislabels(np.array([2, 0, 1]), probabilities)
    assert not len(places)


def test_nobody_is_accused_whose_own_label_is_the_most_probable():
    # The second class is content with 0.4, and the first image has 0.45 for it.
    probabilities = np.array([[0.55, 0.45], [0.9, 0.1], [0.6, 0.4]])
    places, _ = likely_mislabels(np.array([0, 0, 1]), probabilities)
    assert 0 not in places


def test_a_class_without_images_is_not_suggested():
    probabilities = np.array([[0.1, 0.1, 0.8], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1]])
    places, suggestions = likely_mislabels(np.array([0, 1, 1]), probabilities)
    assert 2 not in suggestions
    assert not len(places)


def planted(num_images, num_classes, share, seed, spread=2.5):
    """Gaussian classes in twelve dimensions, and labels of which a share is swapped."""
    generator = np.random.default_rng(seed)
    centres = spread * generator.normal(size=(num_classes, 12))
    truth = generator.integers(0, num_classes, num_images)
    features = (centres[truth] + generator.normal(size=(num_images, 12))).astype(np.float32)
    swapped = generator.choice(num_images, round(share * num_images), replace=False)
    labels = truth.copy()
    shifts = generator.integers(1, num_classes, len(swapped))
    labels[swapped] = (truth[swapped] + shifts) % num_classes
    return features, labels, swapped


def test_planted_swaps_are_found():
    features, labels, swapped = planted(600, 5, 0.05, seed=1)
    probabilities, _ = out_of_fold(features, labels, folds=5, seed=0)
    places, _ = likely_mislabels(labels, probabilities)
    hits = np.isin(places, swapped)
    # A random list has a precision of 0.05.
    assert hits.mean() > 0.9
    assert hits.sum() / len(swapped) > 0.7
    # The order is worth something: the first ones are nearly all right.
    assert hits[:15].mean() >= 0.9


def test_clean_labels_of_separate_classes_raise_no_suspicion():
    features, labels, _ = planted(400, 4, 0.0, seed=2, spread=6)
    probabilities, _ = out_of_fold(features, labels, folds=5, seed=0)
    assert not len(likely_mislabels(labels, probabilities)[0])


def test_suspects_have_names():
    probabilities = np.array(
        [[0.05, 0.85, 0.1], [0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0]]
    )
    found = suspects(
        ["a.jpg", "b.jpg", "c.jpg", "d.jpg"],
        ["train", "train", "test", "test"],
        np.array([0, 0, 1, 2]),
        probabilities,
        NAMES,
    )
    assert found == [LikelyMislabel("a.jpg", "train", "cat", "dog", 0.05, 0.85)]


def test_several_sources_make_one_list():
    sure = LikelyMislabel("a", "train", "cat", "dog", 0.01, 0.98)
    less = LikelyMislabel("b", "test", "dog", "cat", 0.2, 0.7)
    assert rank([less, sure]) == [sure, less]


def test_the_file_reads_back(tmp_path):
    found = [
        LikelyMislabel("cat/=HYPERLINK(1).jpg", "train", "cat", "dog", 0.0123, 0.9),
        LikelyMislabel("dog/a,\x1b[31m.jpg", "test", "dog", "eel", 0.2, 0.75),
    ]
    path = tmp_path / "mislabels.csv"
    path.write_text(mislabels_csv(found), encoding="utf-8")
    assert "\x1b" not in path.read_text(encoding="utf-8")
    again = read_mislabels(path)
    assert [suspect.suggestion for suspect in again] == ["dog", "eel"]
    assert [suspect.p_label for suspect in again] == [0.0123, 0.2]
    # What was read can be written once more, and stays what it is.
    assert mislabels_csv(again) == path.read_text(encoding="utf-8")


def test_the_list_is_bounded():
    found = [
        LikelyMislabel(f"{i}", "train", "cat", "dog", 0.1, 0.9) for i in range(MOST_LISTED + 7)
    ]
    rows = list(csv.reader(mislabels_csv(found).splitlines()))
    assert len(rows) == 1 + MOST_LISTED


@pytest.mark.parametrize(
    "text", [None, "", "file,label\n", "file,split,label,suggestion,p_label,p_suggestion\na,b\n"]
)
def test_a_damaged_file_is_told(tmp_path, text):
    path = tmp_path / "mislabels.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RunError, match=r"mislabels\.csv: cannot be used"):
        read_mislabels(path)

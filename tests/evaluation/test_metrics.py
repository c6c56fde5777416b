"""Reported numbers against scikit-learn and hand-worked examples."""

import math
from typing import get_args

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.dummy import DummyClassifier

from cvtrain.evaluation.metrics import (
    METRICS,
    accuracy_interval,
    against_guessing,
    calibration_error,
    classification_report,
    log_losses,
    mcnemar,
    scores_against_guessing,
    summarize,
)
from cvtrain.sections.stages import Metric

NAMES = ("a", "b", "c")


@pytest.fixture
def predictions():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 200)
    probabilities = generator.dirichlet([1, 1, 1], 200)
    probabilities[np.arange(200), labels] += 0.4
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return labels, probabilities.astype(np.float32)


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (9, 10), (10, 10), (330, 372), (1, 1)])
def test_interval_is_wilsons_closed_form(correct, total):
    z = 1.959963984540054
    p = correct / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / (4 * total**2))
    low, high = accuracy_interval(correct, total)
    assert low == pytest.approx(middle - half, abs=1e-12)
    assert high == pytest.approx(middle + half, abs=1e-12)


def _top_5(labels, probabilities):
    classes = range(probabilities.shape[1])
    return sk.top_k_accuracy_score(labels, probabilities, k=5, labels=classes)


def _auc(labels, probabilities):
    classes = np.unique(labels)  # scikit-learn's own average needs images of every class
    return np.mean([sk.roc_auc_score(labels == c, probabilities[:, c]) for c in classes])


SCIKIT_LEARN = {
    "auc": _auc,
    "balanced_accuracy": lambda labels, p: sk.balanced_accuracy_score(labels, p.argmax(axis=1)),
    "macro_f1": lambda labels, p: sk.f1_score(labels, p.argmax(axis=1), average="macro"),
    "top_5": _top_5,
}


@pytest.mark.parametrize("absent", [(), (0, 3), (7,)])
@pytest.mark.parametrize("name", METRICS)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_metrics_are_scikit_learns(name, absent):
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 8, 300)
    labels = labels[~np.isin(labels, absent)]
    probabilities = generator.dirichlet([0.5] * 8, len(labels))
    probabilities[np.arange(len(labels)), labels] += generator.uniform(0, 0.6, len(labels))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    found = METRICS[name](labels, probabilities)
    assert type(found) is float
    assert found == pytest.approx(SCIKIT_LEARN[name](labels, probabilities), abs=1e-12)
    assert 0.2 < found < 1


def test_every_metric_of_a_config_has_a_function():
    assert set(get_args(Metric)) == set(METRICS)


def test_auc_of_two_classes_is_that_of_either(predictions):
    labels, probabilities = predictions
    binary, share = labels > 0, probabilities[:, 1:].sum(axis=1).round(1)  # with ties
    found = METRICS["auc"](binary.astype(int), np.stack([1 - share, share], axis=1))
    assert found == pytest.approx(sk.roc_auc_score(binary, share), abs=1e-6)


def test_what_knows_nothing_gets_no_more_than_guessing():
    labels, alike = np.arange(10).repeat(3), np.full((30, 10), 0.1)
    found = {name: METRICS[name](labels, alike) for name in METRICS}
    guessing = {"auc": 0.5, "balanced_accuracy": 0.1, "macro_f1": 2 * 0.1 / 1.1 / 10, "top_5": 0.5}
    assert found == pytest.approx(guessing)
    assert METRICS["auc"](np.zeros(3, int), alike[:3]) == 0.5


def test_the_summary_has_the_metrics_that_are_asked_for(predictions):
    plain, more = summarize(*predictions), summarize(*predictions, ["top_5", "macro_f1"])
    assert [*more] == [*plain, "top_5", "macro_f1"]
    report = classification_report(*predictions, NAMES, ["macro_f1"])
    assert report["macro_f1"] == more["macro_f1"]
    assert report["macro_f1"] == pytest.approx(
        np.mean([row["f1"] for row in report["per_class"].values()])
    )


def test_calibration_error_by_hand():
    # Two images at 0.9 of which one is right, two at 0.6, both right.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    labels = np.array([0, 1, 1, 1])
    assert calibration_error(labels, probabilities) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)


def test_a_calibrated_model_has_no_calibration_error():
    confidence = 0.75
    probabilities = np.tile([confidence, 1 - confidence], (400, 1))
    labels = np.array([0] * 300 + [1] * 100)
    assert calibration_error(labels, probabilities) == pytest.approx(0.0, abs=1e-12)


def answers(both, only_a, only_b, neither):
    a = [True] * both + [True] * only_a + [False] * only_b + [False] * neither
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return np.array(a), np.array(b)


@pytest.mark.parametrize(("only_a", "only_b"), [(1, 9), (9, 1), (12, 5), (40, 71), (0, 6)])
def test_mcnemar_sums_the_tails_of_the_fair_coin(only_a, only_b):
    differ = only_a + only_b
    tail = sum(math.comb(differ, k) for k in range(min(only_a, only_b) + 1)) / 2**differ
    assert mcnemar(*answers(80, only_a, only_b, 7)) == {
        "only_a": only_a,
        "only_b": only_b,
        "p": pytest.approx(2 * tail),
    }


@pytest.mark.parametrize("each", [0, 1, 8])
def test_mcnemar_finds_nothing_where_both_win_as_often(each):
    assert mcnemar(*answers(3, each, each, 2))["p"] == pytest.approx(1.0)


def test_losses_are_cross_entropy_with_keras_floor():
    probabilities = np.array([[1.0, 0.0], [1.0, 0.0]])
    losses = log_losses(np.array([0, 1]), probabilities)
    assert losses[0] == 0.0
    assert losses[1] == pytest.approx(-math.log(1e-7))


def test_report_agrees_with_scikit_learn(predictions):
    labels, probabilities = predictions
    report = classification_report(labels, probabilities, NAMES)
    predicted = probabilities.argmax(axis=1)
    assert report["accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    exact = probabilities.astype(np.float64)
    expected_loss = sk.log_loss(labels, exact / exact.sum(axis=1, keepdims=True))
    assert report["loss"] == pytest.approx(expected_loss, rel=1e-5)
    assert report["confusion_matrix"] == sk.confusion_matrix(labels, predicted).tolist()
    expected = sk.classification_report(labels, predicted, target_names=NAMES, output_dict=True)
    for name in NAMES:
        assert report["per_class"][name] == {
            "num_images": expected[name]["support"],
            "precision": pytest.approx(expected[name]["precision"]),
            "recall": pytest.approx(expected[name]["recall"]),
            "f1": pytest.approx(expected[name]["f1-score"]),
        }


def test_classes_without_images_or_predictions():
    labels = np.array([0, 0, 1])
    probabilities = np.array([[0.9, 0.1, 0.0], [0.8, 0.1, 0.1], [0.7, 0.2, 0.1]])
    per_class = classification_report(labels, probabilities, NAMES)["per_class"]
    assert per_class["b"] == {"num_images": 1, "precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert per_class["c"] == {"num_images": 0, "precision": 0.0, "recall": None, "f1": None}


def test_summary_is_a_part_of_the_report(predictions):
    report = classification_report(*predictions, NAMES)
    short = summarize(*predictions)
    assert short == {key: report[key] for key in short}


@pytest.mark.parametrize("counts", [[50, 50], [90, 10], [3, 0, 7], [40, 30, 20, 10]])
def test_guessing_is_the_best_answer_that_is_the_same_for_all_images(counts):
    """scikit-learn's dummy classifier with the same images to learn from and to answer."""
    labels = np.repeat(np.arange(len(counts)), counts)
    dummy = DummyClassifier(strategy="prior").fit(labels[:, None], labels)
    answers = np.zeros((len(labels), len(counts)))
    answers[:, dummy.classes_] = dummy.predict_proba(labels[:, None])
    found = against_guessing(labels, answers)
    assert found.most_frequent == dummy.score(labels[:, None], labels)
    loss = sk.log_loss(labels, answers, labels=range(len(counts)))
    assert found.entropy == pytest.approx(loss)
    assert found.loss == pytest.approx(loss)
    assert found.num_images == len(labels)
    assert not found.is_better


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.9, 0.1], [0.4, 0.3, 0.2, 0.1]])
@pytest.mark.parametrize("num_images", [30, 200])
def test_random_answers_are_seldom_better_than_guessing(shares, num_images):
    generator = np.random.default_rng(0)
    found = []
    for _ in range(400):
        labels = generator.choice(len(shares), num_images, p=shares)
        answers = generator.dirichlet(np.multiply(shares, 5), num_images)
        if len(np.unique(labels)) > 1:
            found.append(against_guessing(labels, answers).is_better)
    assert np.mean(found) <= 0.02


def test_right_answers_and_small_losses_are_better_than_guessing():
    assert scores_against_guessing([50, 50], 0.65, 5.0).is_better
    assert scores_against_guessing([90, 10], 0.9, 0.2).is_better
    assert not scores_against_guessing([90, 10], 0.9, 0.2, loss_error=0.1).is_better
    assert not scores_against_guessing([50, 50], 0.55, 0.68).is_better


def test_of_images_of_one_class_nobody_can_tell():
    assert scores_against_guessing([20, 0], 0.0, 9.0).is_better
    assert scores_against_guessing([0, 0], 0.0, 9.0).is_better

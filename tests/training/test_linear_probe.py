"""Linear probes against scikit-learn, chance and closed forms; the one-standard-error rule."""

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cvtrain.training.linear_probe import held_out, linear_accuracy, out_of_fold, recommend


def blobs(num_images, *, channels=6, spread=1.0, seed=0):
    """Three classes of features around three means."""
    generator = np.random.default_rng(seed)
    labels = np.arange(num_images) % 3
    means = np.random.default_rng(9).normal(size=(3, channels))
    features = means[labels] + spread * generator.normal(size=(num_images, channels))
    return features.astype(np.float32), labels


def test_accuracy_is_that_of_scikit_learns_cross_validation():
    features, labels = blobs(240, spread=1.5)
    row = linear_accuracy((features, labels), blobs(90, spread=1.5, seed=1), folds=4, seed=5)
    folds = StratifiedKFold(4, shuffle=True, random_state=5)
    by_strength = [
        cross_val_score(
            make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000)),
            features,
            labels,
            cv=folds,
        ).mean()
        for strength in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    ]
    assert 0.5 < row["accuracy"] < 0.95
    assert row["accuracy"] == pytest.approx(max(by_strength), abs=2 / 240)
    assert row["validation_accuracy"] == pytest.approx(row["accuracy"], abs=0.15)


def test_the_standard_error_is_that_of_a_share():
    row = linear_accuracy(blobs(150, spread=2), blobs(30, spread=2, seed=1), folds=3, seed=0)
    wrong = 1 - row["accuracy"]
    assert row["standard_error"] == pytest.approx(math.sqrt(row["accuracy"] * wrong / 150))


def test_features_of_far_blobs_are_told_apart_without_error():
    row = linear_accuracy(blobs(60, spread=0.05), blobs(30, spread=0.05, seed=1), folds=3, seed=0)
    assert row == {"accuracy": 1.0, "standard_error": 0.0, "validation_accuracy": 1.0}


def test_features_that_say_nothing_are_no_better_than_chance():
    features = np.random.default_rng(0).normal(size=(600, 40)).astype(np.float32)
    labels = np.arange(600) % 3
    row = linear_accuracy((features, labels), (features[:60], labels[:60]), folds=5, seed=0)
    assert row["accuracy"] == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / 600))


def test_a_constant_channel_harms_nothing():
    features, labels = blobs(60, spread=0.05)
    constant = np.concatenate([features, np.full((60, 2), 7, np.float32)], axis=1)
    row = linear_accuracy((constant, labels), (constant, labels), folds=3, seed=0)
    assert row["accuracy"] == 1.0


STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def regression(strength):
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))


def test_out_of_fold_is_scikit_learns_with_the_penalty_of_least_loss():
    features, labels = blobs(150, spread=1.5)
    probabilities, strength = out_of_fold(features, labels, folds=4, seed=5)
    folds = StratifiedKFold(4, shuffle=True, random_state=5)
    expected = {
        each: cross_val_predict(
            regression(each), features, labels, cv=folds, method="predict_proba"
        )
        for each in STRENGTHS
    }
    losses = {each: log_loss(labels, found) for each, found in expected.items()}
    assert strength == min(losses, key=losses.__getitem__)
    np.testing.assert_allclose(probabilities, expected[strength], atol=0.01)


def test_a_copy_does_not_tell_the_label_of_the_other():
    # Noise, in which only a copy can be told; every image is there twice.
    features = np.random.default_rng(0).normal(size=(60, 200)).astype(np.float32)
    labels = np.arange(60) % 3
    twice, names = np.concatenate([features, features]), [f"{i}".encode() for i in range(60)] * 2
    apart, _ = out_of_fold(twice, np.tile(labels, 2), folds=5, seed=0)
    together, _ = out_of_fold(twice, np.tile(labels, 2), folds=5, seed=0, groups=names)
    # Nearly four fifths of the copies are in another fold than the image.
    assert (apart.argmax(axis=1) == np.tile(labels, 2)).mean() > 0.7
    assert (together.argmax(axis=1) == np.tile(labels, 2)).mean() < 0.55
    np.testing.assert_allclose(together[:60], together[60:], atol=1e-6)


def test_copies_do_not_flatter_the_accuracy_of_a_probe():
    features = np.random.default_rng(0).normal(size=(60, 200)).astype(np.float32)
    labels = np.arange(60) % 3
    twice = np.concatenate([features, features]), np.tile(labels, 2)
    names = [f"{i}" for i in range(60)] * 2
    apart = linear_accuracy(twice, (features, labels), folds=5, seed=0)
    together = linear_accuracy(twice, (features, labels), folds=5, seed=0, groups=names)
    assert apart["accuracy"] > 0.7
    assert together["accuracy"] < 0.55
    spread = together["accuracy"] * (1 - together["accuracy"])
    assert together["standard_error"] == pytest.approx(math.sqrt(spread / 60))


def test_a_class_that_a_fit_has_not_seen_gets_no_probability():
    features, labels = blobs(40, spread=0.5)
    labels[0] = 3
    probabilities, _ = out_of_fold(features, labels, folds=4, seed=0)
    assert probabilities.shape == (40, 4)
    assert probabilities[0, 3] == 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_others_are_classified_as_scikit_learn_does():
    train, (others, _) = blobs(90, spread=1.5), blobs(30, spread=1.5, seed=1)
    _, strength = out_of_fold(*train, folds=3, seed=0)
    expected = regression(strength).fit(*train).predict_proba(others)
    np.testing.assert_allclose(held_out(train, others, folds=3, seed=0), expected, atol=0.01)


def row(block, multiply_adds, accuracy, standard_error=0.01):
    return {
        "block": block,
        "multiply_adds": multiply_adds,
        "accuracy": accuracy,
        "standard_error": standard_error,
    }


def test_the_cheapest_within_one_standard_error_is_recommended():
    rows = [row("a", 1, 0.70), row("b", 2, 0.891), row("c", 3, 0.889), row("d", 4, 0.90)]
    best, cut = recommend(rows)
    assert (best["block"], cut["block"]) == ("d", "b")


def test_the_best_is_recommended_where_nothing_comes_near():
    best, cut = recommend([row("a", 1, 0.70), row("b", 2, 0.90), row("c", 3, 0.88)])
    assert best == cut == row("b", 2, 0.90)


def test_of_two_best_the_cheaper_one_counts():
    best, _ = recommend([row("a", 5, 0.9), row("b", 2, 0.9)])
    assert best["block"] == "b"

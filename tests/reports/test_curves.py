"""Curves of known kind are told apart, and curves of no kind are not talked about."""

from math import log

import numpy as np
import pytest
import yaml

from cvtrain.config import load_config
from cvtrain.config.project import Config
from cvtrain.reports.curves import Stage, read_curves

SEEDS = range(40)


def stage(name="fit", *, is_augmented=True, has_augment=None, num_classes=10, num_validation=500):
    settings = Config(
        data={"source": "photos"}, fit={"epochs": 20}, finetune={"epochs": 20}
    ).model_dump(mode="json")
    has_augment = is_augmented if has_augment is None else has_augment
    return Stage(name, settings[name], has_augment, is_augmented, num_classes, num_validation)


def seen(seed, loss, val_loss, accuracy=None, val_accuracy=None, number=500):
    """A history around these true curves.

    Validation loss is off by one error for all epochs, as the images are the same in all, and by a
    smaller one for each; accuracies are drawn as counts.
    """
    generator = np.random.default_rng(seed)
    loss, val_loss = np.asarray(loss, float), np.asarray(val_loss, float)
    accuracy = np.exp(-loss) if accuracy is None else accuracy
    val_accuracy = np.exp(-val_loss) if val_accuracy is None else val_accuracy
    common = generator.normal(0, val_loss.mean() / number**0.5)
    own = generator.normal(0, 0.4 * val_loss / number**0.5)
    return {
        "loss": loss * (1 + generator.normal(0, 0.01, len(loss))),
        "val_loss": val_loss + common + own,
        "accuracy": generator.binomial(5000, np.broadcast_to(accuracy, loss.shape)) / 5000,
        "val_accuracy": generator.binomial(number, np.broadcast_to(val_accuracy, loss.shape))
        / number,
    }


def findings(history, of):
    return [reading.finding for reading in read_curves(history, of)]


T = np.arange(20)
LEVEL = 0.5 + 1.5 * np.exp(-T / 2)  # falls, then stays
FALLING = 2.0 - 0.05 * T
FITTED = 0.02 + 2 * np.exp(-T / 3)
OVER_FITTED = np.where(T < 7, 2.0 - 0.15 * T, 1.1 + 0.06 * (T - 6))

KINDS = {
    "over-fitting": (FITTED, OVER_FITTED, {}),
    "still-improving": (FALLING, FALLING + 0.1, {}),
    "under-fitting": (LEVEL, LEVEL, {}),
    "no-better-than-chance": (np.full(20, log(10)), np.full(20, log(10)), {}),
    "learning-rate-too-high": (1.0 + 0.5 * (T % 3 == 0), 1.2 + 0.3 * (T % 3 == 0), {}),
    "learning-rate-too-low": (log(10) - 0.01 * T, log(10) - 0.01 * T, {"accuracy": 0.3}),
    "training-below-validation": (LEVEL, LEVEL, {"accuracy": 0.6, "val_accuracy": 0.8}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_kind_is_found(kind):
    loss, val_loss, accuracies = KINDS[kind]
    accuracies = {"val_accuracy": 0.3} | accuracies if kind.startswith("learning") else accuracies
    found = [findings(seen(seed, loss, val_loss, **accuracies), stage()) for seed in SEEDS]
    assert np.mean([kind in each for each in found]) >= 0.95


@pytest.mark.parametrize("kind", ["over-fitting", "still-improving", "learning-rate-too-high"])
def test_of_curves_that_level_off_little_is_said(kind):
    """Well fitted, close together, at rest: at most one time in ten is chance taken for a trend."""
    loss = 0.05 + 2 * np.exp(-T / 1.5)
    found = [findings(seen(seed, loss, loss + 0.05), stage()) for seed in range(200)]
    assert np.mean([kind in each for each in found]) <= 0.1


def test_the_epoch_from_which_it_over_fits_is_the_lowest_of_validation():
    for seed in SEEDS:
        (reading, *_) = read_curves(seen(seed, FITTED, OVER_FITTED), stage())
        epoch = int(reading.detail.partition("epoch ")[2].partition(":")[0])
        assert abs(epoch - 7) <= 2


def test_the_books_scratch_net_over_fits_and_is_told_to_augment():
    """2,000 cats and dogs: validation loss is least at epoch 5, training loss goes on to zero."""
    t = np.arange(30)
    val_loss = np.where(t < 5, 0.69 - 0.03 * t, 0.57 + 0.02 * (t - 4))
    history = seen(
        0, 0.69 - 0.022 * t, val_loss, 0.5 + 0.016 * t, np.minimum(0.72, 0.55 + 0.04 * t)
    )
    book = stage(is_augmented=False, num_classes=2, num_validation=1000)
    (reading, *_) = read_curves(history, book)
    assert reading.finding == "over-fitting"
    assert yaml.safe_load(reading.proposal)["augment"]["rotate"] == 20
    assert "flip: horizontal, where" in reading.proposal


def test_an_augment_section_that_is_there_is_not_written_anew():
    """One view of each image: the section has no effect until there are more."""
    loss, val_loss, accuracies = KINDS["over-fitting"]
    history = seen(0, loss, val_loss, **accuracies)
    one_view = stage("extract_features", has_augment=True, is_augmented=False)
    proposals = {r.finding: r.proposal for r in read_curves(history, one_view)}
    assert yaml.safe_load(proposals["over-fitting"]) == {"extract_features": {"views": 4}}


def test_the_books_augmented_net_does_not_over_fit():
    """With augmentation training follows validation, and both still improve."""
    t = np.arange(30)
    curve = 0.69 - 0.009 * t
    history = seen(0, curve, curve + 0.01, 0.55 + 0.008 * t, 0.55 + 0.009 * t, number=1000)
    book = stage(num_classes=2, num_validation=1000)
    assert "over-fitting" not in findings(history, book)
    assert "still-improving" in findings(history, book)


def test_few_validation_images_are_told():
    history = seen(0, LEVEL, LEVEL, number=40)
    readings = {r.finding: r for r in read_curves(history, stage(num_validation=40))}
    # 1.96 sqrt(0.6 * 0.4 / 40) is 15 points.
    assert "40 validation images" in readings["validation-too-small"].detail
    assert "+-1" in readings["validation-too-small"].detail
    assert "validation-too-small" not in findings(seen(0, LEVEL, LEVEL), stage(num_validation=5000))


@pytest.mark.parametrize("num_epochs", [1, 2, 3])
def test_from_few_epochs_nothing_is_told(num_epochs):
    history = {key: values[:num_epochs] for key, values in seen(0, FALLING, FALLING).items()}
    assert read_curves(history, stage()) == []


@pytest.mark.parametrize("name", ["fit", "extract_features", "finetune"])
@pytest.mark.parametrize("is_augmented", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_proposal_is_a_config(kind, name, is_augmented, tmp_path):
    loss, val_loss, accuracies = KINDS[kind]
    history = seen(0, loss, val_loss, **accuracies)
    base = yaml.safe_dump({"data": {"source": "photos"}})
    for reading in read_curves(history, stage(name, is_augmented=is_augmented)):
        assert reading.detail.endswith(".") or reading.detail.endswith(").")
        text = base + reading.proposal
        if "views" in text or is_augmented:
            text += "" if "augment:" in text else "augment: {flip: horizontal}\n"
        path = tmp_path / "config.yaml"
        path.write_text(text)
        load_config(path)

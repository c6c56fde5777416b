"""Curves of known kind are told apart, and curves of no kind are not talked about."""

from dataclasses import replace
from math import log
from typing import get_args

import numpy as np
import pytest
import yaml

from cvtrain.config import load_config
from cvtrain.config.project import Config
from cvtrain.evaluation.curve_diagnosis import read_curves
from cvtrain.evaluation.metrics import scores_against_guessing
from cvtrain.evaluation.remedies import Stage, Start, held_out_of, usual_rate
from cvtrain.sections import Optimizer
from cvtrain.training.optimizers import build_optimizer

SEEDS = range(40)


AUGMENT = {"flip": "horizontal"}


def stage(
    name="fit", *, augment=AUGMENT, num_classes=10, num_validation=500, found=None, **settings
):
    """A stage with unlimited views where there is an `augment`; `settings` are those of it, and
    `found` is what is known of its saved model.
    """
    defaults = {"epochs": 20}
    if augment is not None and name != "fit":
        defaults["views"] = "unlimited"
    config = {"data": {"source": "photos"}, "augment": augment, "finetune": {}}
    config |= {name: defaults | settings}
    counts = {"train": 500, "validation": num_validation // num_classes}
    by_class = {split: [count] * num_classes for split, count in counts.items()}
    return Stage(name, Config(**config).model_dump(mode="json"), by_class, **(found or {}))


def unlearnt(num_classes=10, accuracy=None, loss=None):
    """A saved model of a stage that answers the same class for all of 1,000 images."""
    counts = [1000 // num_classes] * num_classes
    accuracy = 1 / num_classes if accuracy is None else accuracy
    loss = log(num_classes) if loss is None else loss
    return {"held_out": scores_against_guessing(counts, accuracy, loss)}


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


def proposed(history, of, finding):
    (proposal,) = (r.proposal for r in read_curves(history, of) if r.finding == finding)
    return yaml.safe_load(proposal)


T = np.arange(20)
LEVEL = 0.5 + 1.5 * np.exp(-T / 2)  # falls, then stays
FALLING = 2.0 - 0.05 * T
FITTED = 0.02 + 2 * np.exp(-T / 3)
COLLAPSED = np.where(T < 14, 2.2 * np.exp(-T / 8), log(10))
OVER_FITTED = np.where(T < 7, 2.0 - 0.15 * T, 1.1 + 0.06 * (T - 6))

KINDS = {
    "over-fitting": (FITTED, OVER_FITTED, {}),
    "still-improving": (FALLING, FALLING + 0.1, {}),
    "under-fitting": (LEVEL, LEVEL, {}),
    "never-learnt": (np.full(20, log(10)), np.full(20, log(10)), {}),
    "collapsed": (COLLAPSED, COLLAPSED, {}),
    "learning-rate-too-high": (1.0 + 0.5 * (T % 3 == 0), 1.2 + 0.3 * (T % 3 == 0), {}),
    "learning-rate-too-low": (log(10) - 0.01 * T, log(10) - 0.01 * T, {"accuracy": 0.3}),
    "training-below-validation": (LEVEL, LEVEL, {"accuracy": 0.6, "val_accuracy": 0.8}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_kind_is_found(kind):
    loss, val_loss, accuracies = KINDS[kind]
    accuracies = {"val_accuracy": 0.3} | accuracies if kind.startswith("learning") else accuracies
    of = stage(found=unlearnt() if kind == "never-learnt" else None)
    found = [findings(seen(seed, loss, val_loss, **accuracies), of) for seed in SEEDS]
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
    book = stage(augment=None, num_classes=2, num_validation=1000)
    (reading, *_) = read_curves(history, book)
    assert reading.finding == "over-fitting"
    assert yaml.safe_load(reading.proposal)["augment"]["rotate"] == 20
    assert "flip: horizontal, if" in reading.proposal


def test_an_augment_section_that_is_there_is_not_written_anew():
    """One view of each image: the section has no effect until there are more."""
    loss, val_loss, accuracies = KINDS["over-fitting"]
    history = seen(0, loss, val_loss, **accuracies)
    one_view = stage("extract_features", views=1)
    assert proposed(history, one_view, "over-fitting") == {"extract_features": {"views": 4}}
    mixed = stage("extract_features", augment={"mixup": 0.2}, views=1)
    assert proposed(history, mixed, "over-fitting") == {"extract_features": {"views": "unlimited"}}


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
@pytest.mark.parametrize("augment", [None, AUGMENT, {"mixup": 0.2}])
@pytest.mark.parametrize("kind", KINDS)
def test_every_proposal_is_a_config(kind, name, augment, tmp_path):
    loss, val_loss, accuracies = KINDS[kind]
    history = seen(0, loss, val_loss, **accuracies)
    base = yaml.safe_dump({"data": {"source": "photos"}})
    found = unlearnt() if kind == "never-learnt" else None
    for reading in read_curves(history, stage(name, augment=augment, found=found)):
        assert reading.detail.endswith(".") or reading.detail.endswith(").")
        text = base + reading.proposal
        if augment is not None:
            text += yaml.safe_dump({"augment": augment})
        path = tmp_path / "config.yaml"
        path.write_text(text)
        load_config(path)


def known(loss, accuracy, val_loss=None, val_accuracy=None):
    """A history of these very values."""
    loss, accuracy = np.asarray(loss, float), np.asarray(accuracy, float)
    return {
        "loss": loss,
        "accuracy": accuracy,
        "val_loss": loss if val_loss is None else np.broadcast_to(val_loss, loss.shape),
        "val_accuracy": accuracy
        if val_accuracy is None
        else np.broadcast_to(val_accuracy, loss.shape),
    }


@pytest.mark.parametrize(
    ("accuracy", "val_accuracy"),
    [
        ([0.50, 0.55, 0.61, 0.69], 0.89),
        ([0.50, 0.55, 0.61, 0.69], None),
        ([0.11, 0.22, 0.35, 0.41], 0.72),
        ([0.60, 0.61, 0.60, 0.61], None),  # level, perhaps: four epochs do not know
    ],
)
def test_of_few_epochs_no_level_is_claimed(accuracy, val_accuracy):
    history = known(-np.log(accuracy), accuracy, val_accuracy=val_accuracy)
    assert "under-fitting" not in findings(history, stage())


@pytest.mark.parametrize("num_epochs", [4, 6, 9, 12, 20, 30])
def test_a_training_loss_that_falls_is_at_no_level(num_epochs):
    loss = 1.5 - 0.012 * np.arange(num_epochs) * 20 / num_epochs
    found = [findings(seen(seed, loss, np.full(num_epochs, 1.4)), stage()) for seed in range(200)]
    assert np.mean(["under-fitting" in each for each in found]) <= 0.1


@pytest.mark.parametrize(
    "of",
    [
        stage(augment={"mixup": 0.2}),
        stage(augment={"cutmix": 1.0}),
        stage(augment={"erase": 0.25}),
        stage(model={"dropout": 0.5}),
        stage("extract_features"),  # whose head drops half of the values, and finetune's as well
        stage("finetune"),
    ],
)
def test_accuracy_of_less_than_whole_images_is_no_measure_of_fitting(of):
    assert "under-fitting" not in findings(seen(0, LEVEL, LEVEL), of)


def test_training_clearly_below_validation_is_no_under_fitting():
    loss, val_loss, accuracies = KINDS["training-below-validation"]
    for seed in SEEDS:
        history = seen(seed, loss, val_loss, **accuracies)
        assert "under-fitting" not in findings(history, stage())


def test_what_is_not_fitted_is_not_said_to_improve_besides():
    history = seen(0, LEVEL, 1.2 - 0.03 * T, accuracy=0.6, val_accuracy=0.6)
    assert "under-fitting" not in findings(history, stage())
    assert "still-improving" in findings(history, stage())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_collapse_is_told_with_its_epoch_and_nothing_else(seed):
    (reading,) = read_curves(seen(seed, COLLAPSED, COLLAPSED), stage())
    assert reading.finding == "collapsed"
    assert reading.detail.startswith("Training collapsed at epoch 15: its loss was ")
    assert yaml.safe_load(reading.proposal)["fit"]["optimizer"]["learning_rate"] < 0.001


def test_training_that_got_worse_is_at_no_level():
    """Guessing has less loss where classes are uneven: no collapse that could be told."""
    loss = np.where(T < 14, 0.5 + np.exp(-T), 1.5)
    history = seen(0, loss, loss, accuracy=0.6, val_accuracy=0.6)
    assert "under-fitting" not in findings(history, stage())


def test_a_spike_at_the_end_is_no_collapse():
    loss = np.append(FITTED[:-1], log(10))
    assert "collapsed" not in findings(seen(0, loss, FITTED), stage())


def test_losses_that_are_told_are_those_that_were_compared():
    t = np.arange(100)
    loss = np.append(0.02 + 0.4 * np.exp(-t[:-1] / 20), 1.5)
    val_loss = np.where(t < 5, 1.0 - 0.05 * t, 0.8 + 0.02 * (t - 4))
    (reading, *_) = read_curves(known(loss, np.exp(-loss), val_loss, 0.6), stage())
    assert reading.finding == "over-fitting"
    assert f"falls from 0.35 to {loss[-20:].mean():.2f}." in reading.detail


@pytest.mark.parametrize(("monitor", "is_advised"), [("val_loss", True), ("val_accuracy", False)])
def test_what_is_monitored_already_is_not_advised(monitor, is_advised):
    history = seen(0, FITTED, OVER_FITTED, val_accuracy=0.4 + 0.02 * T)
    (reading, *_) = read_curves(history, stage(monitor=monitor))
    assert "Accuracy still rose, so only the calibration became worse" in reading.detail
    assert ("monitor" in reading.detail) is is_advised


@pytest.mark.parametrize(
    ("dropout", "proposal"),
    [
        (0.0, {"dropout": 0.5}),
        (0.4, {"dropout": 0.5}),
        (0.5, {"dropout": 0.7}),
        (0.7, {"filters": [16, 32, 64, 64]}),
        (0.8, {"filters": [16, 32, 64, 64]}),
    ],
)
def test_dropout_is_never_proposed_as_it_is_or_lower(dropout, proposal):
    history, of = seen(0, FITTED, OVER_FITTED), stage(model={"dropout": dropout})
    assert proposed(history, of, "over-fitting") == {"fit": {"model": proposal}}


def test_a_head_without_more_to_drop_gets_narrower():
    history = seen(0, FITTED, OVER_FITTED)
    of = stage("extract_features", head={"dropout": 0.8})
    narrower = {"extract_features": {"head": {"dense": [128]}}}
    assert proposed(history, of, "over-fitting") == narrower
    of = stage("extract_features", head={"dropout": 0.8, "dense": ()})
    assert proposed(history, of, "over-fitting") is None


def test_where_training_was_stopped_early_patience_is_what_grows():
    history = seen(0, FALLING, FALLING + 0.1)
    of = stage(epochs=50, early_stopping=3, monitor="val_accuracy")
    assert proposed(history, of, "still-improving") == {"fit": {"early_stopping": 6}}


def test_fine_tuning_that_the_config_has_is_not_proposed():
    history, head = seen(0, LEVEL, LEVEL), {"dropout": 0.0}
    of = stage("extract_features", head=head)
    assert proposed(history, of, "under-fitting") is None
    of = replace(of, config={**of.config, "finetune": None})
    assert proposed(history, of, "under-fitting") == {"finetune": {"unfreeze_blocks": 2}}


def rate_of(proposal, name="fit"):
    return yaml.safe_load(proposal)[name]["optimizer"]["learning_rate"]


@pytest.mark.parametrize("name", get_args(Optimizer.model_fields["name"].annotation))
def test_the_usual_rates_are_kerass_defaults(name):
    default = type(build_optimizer(Optimizer(name=name)))().learning_rate
    assert usual_rate(name, "fit") == usual_rate(name, "extract_features")
    assert usual_rate(name, "fit") == pytest.approx(float(default))
    assert usual_rate(name, "finetune") == pytest.approx(float(default) / 100)


@pytest.mark.parametrize("kind", ["never-learnt", "collapsed", "learning-rate-too-high"])
@pytest.mark.parametrize(
    ("optimizer", "rate", "most"),
    [("adam", 1e30, 1e-3), ("adam", 100, 1e-3), ("sgd", 100, 1e-2), ("rmsprop", 5e-4, 2e-4)],
)
def test_from_an_absurd_rate_one_that_trains_is_proposed(kind, optimizer, rate, most):
    """Not a third of it, which is as absurd; and from a modest one a lower one."""
    loss, val_loss, accuracies = KINDS[kind]
    found = unlearnt() if kind == "never-learnt" else None
    of = stage(found=found, optimizer={"name": optimizer, "learning_rate": rate})
    (reading,) = read_curves(seen(0, loss, val_loss, **accuracies), of)
    assert reading.finding == kind
    assert 0 < rate_of(reading.proposal) <= most


@pytest.mark.parametrize("rate", [1e-30, 1e-9, 1e-5])
def test_from_a_rate_that_moves_nothing_a_usual_one_is_proposed(rate):
    of = {"optimizer": {"name": "adam", "learning_rate": rate}}
    flat = known(np.full(20, log(10)), np.full(20, 0.1))
    (reading,) = read_curves(flat, stage(found=unlearnt(), **of))
    assert "is far too low for adam. `cvtrain fit --find-lr` measures" in reading.detail
    assert rate_of(reading.proposal) == 1e-3
    (reading,) = read_curves(known(log(10) - 0.01 * T, np.full(20, 0.3)), stage(**of))
    assert reading.finding == "learning-rate-too-low"
    assert rate_of(reading.proposal) == 1e-3


@pytest.mark.parametrize("num_epochs", [1, 2, 3, 20])
def test_a_loss_far_above_guessing_for_all_epochs_is_never_learnt(num_epochs):
    """Whether it jumps or falls on the way, and of few epochs, too."""
    for seed in range(10):
        loss = np.random.default_rng(seed).uniform(5, 50, num_epochs)
        history = known(loss, np.full(num_epochs, 1 / 3))
        of = stage(
            num_classes=3,
            found=unlearnt(3, accuracy=0.34, loss=7.0),
            optimizer={"name": "adam", "learning_rate": 100},
        )
        (reading,) = read_curves(history, of)
        assert reading.finding == "never-learnt"
        assert (
            "Its accuracy is 34% (always guessing the most frequent class: 33%)" in reading.detail
        )
        assert "its loss is 7.00 (guessing by class frequency: 1.10)" in reading.detail
        assert "A learning rate of 100 is far too high for adam" in reading.detail
        assert rate_of(reading.proposal) == 1e-3


def test_losses_that_were_never_good_have_not_collapsed():
    loss = np.array([42.77, 22.26, 28.05, 14.69, 32.99, 14.69])
    assert "collapsed" not in findings(known(loss, np.full(6, 0.33)), stage(num_classes=3))


def test_right_answers_of_an_absurd_rate_do_not_hide_it():
    of = stage(num_classes=3, optimizer={"name": "adam", "learning_rate": 100})
    history = known([40.0, 9.0, 8.0], [0.6, 0.7, 0.7], [4.5, 4.2, 4.1], 0.67)
    (reading,) = read_curves(history, of)
    assert reading.finding == "learning-rate-too-high"
    assert rate_of(reading.proposal) == 1e-3
    assert read_curves(history, stage(num_classes=3)) == []


def test_one_answer_for_all_images_of_uneven_classes_is_never_learnt():
    """90 of 100 right, and a loss of 0.325: both are what the shares of the classes give."""
    model = scores_against_guessing([90, 10], 0.9, 0.33)
    assert not model.is_better
    loss = np.full(20, 0.33)
    of = replace(stage(num_classes=2), counts={"train": [900, 100], "validation": [90, 10]})
    (reading,) = read_curves(known(loss, np.full(20, 0.9)), replace(of, held_out=model))
    assert reading.finding == "never-learnt"
    assert "ends at 0.33 (guessing: 0.33)" in reading.detail


def test_images_learnt_by_heart_are_no_matter_of_the_rate():
    of = stage(augment=None, found=unlearnt(loss=5.0))
    (reading,) = read_curves(known(FITTED, np.exp(-FITTED), 5.0, 0.1), of)
    assert "does not generalize to other images" in reading.detail
    assert "rotate" in yaml.safe_load(reading.proposal)["augment"]


def test_features_that_are_the_same_for_all_images_are_the_reason():
    of = stage("extract_features", found=unlearnt() | {"constant": ["pool5"]})
    (reading,) = read_curves(known(np.full(20, log(10)), np.full(20, 0.1)), of)
    assert "at pool5 is the same for all images" in reading.detail
    assert reading.proposal == ""
    (reading,) = read_curves({}, stage("extract_features", found=unlearnt()))
    assert "features do not separate the classes" in reading.detail


def test_a_saved_model_is_held_against_guessing_on_all_that_it_has_not_learnt():
    counts = {"train": [9, 9], "validation": [10, 10], "test": [5, 15]}
    metrics = {
        "validation": {"accuracy": 0.5, "loss": 1.0},
        "test": {"accuracy": 0.7, "loss": 0.4},
    }
    held_out = held_out_of(counts, metrics)
    assert (held_out.num_images, held_out.most_frequent) == (40, 25 / 40)
    assert held_out.accuracy == pytest.approx(0.6)
    assert held_out.loss == pytest.approx(0.7)


def start(val_loss=0.5, val_accuracy=0.64, test_accuracy=0.64, now=0.64, p=1.0):
    return {"start": Start(val_loss, val_accuracy, test_accuracy, now, p)}


@pytest.mark.parametrize("then", [(), ({"unfreeze_blocks": 2},)])
def test_fine_tuning_that_no_epoch_of_was_better_says_so(then):
    history = known([0.4, 0.9, 2.3], [0.6, 0.3, 0.1], [0.7, 1.5, 2.4], [0.5, 0.3, 0.13])
    found = start() | {"best_epoch": 0}
    optimizer = {"name": "rmsprop", "learning_rate": 1e-2}
    (reading,) = read_curves(
        history, stage("finetune", found=found, optimizer=optimizer, then=then)
    )
    assert reading.finding == "fine-tuning-lost"
    assert "its validation loss was 0.50 and its accuracy 64%" in reading.detail.lower()
    assert "fine-tuning ended at 2.40 and 13%" in reading.detail
    assert rate_of(reading.proposal, "finetune") == 1e-5
    found = start() | {"best_epoch": 1}
    of = stage("finetune", found=found, optimizer=optimizer, then=then)
    assert "fine-tuning-lost" not in findings(history, of)


def test_fine_tuning_too_slow_to_change_anything_is_to_go_faster():
    history = known([0.5, 0.5, 0.5], [0.6, 0.6, 0.6], 0.5, 0.64)
    optimizer = {"name": "adam", "learning_rate": 1e-12}
    of = stage("finetune", found=start() | {"best_epoch": 0}, optimizer=optimizer)
    (reading,) = read_curves(history, of)
    assert "a learning rate of 1e-12 is too low" in reading.detail
    assert rate_of(reading.proposal, "finetune") == 1e-5


def test_fine_tuning_that_is_surer_and_righter_is_to_be_kept_by_its_accuracy():
    history = known([0.4, 0.3, 0.2], [0.8, 0.9, 0.9], [0.6, 0.7, 0.8], [0.7, 0.75, 0.8])
    of = stage("finetune", found=start() | {"best_epoch": 0})
    (reading,) = read_curves(history, of)
    assert "Accuracy rose to 80%" in reading.detail
    assert yaml.safe_load(reading.proposal) == {"finetune": {"monitor": "val_accuracy"}}


@pytest.mark.parametrize(
    ("now", "p", "is_told"), [(0.13, 1e-6, True), (0.60, 0.2, False), (0.9, 1e-6, False)]
)
def test_a_drop_on_the_test_images_is_told_where_it_is_more_than_chance(now, p, is_told):
    found = start(now=now, p=p) | {"best_epoch": 2}
    of = stage("finetune", found=found, optimizer={"learning_rate": 1e-6})
    readings = read_curves(known([0.5, 0.4], [0.6, 0.7]), of)
    assert [r.finding for r in readings] == ["fine-tuning-lost"] * is_told
    for reading in readings:
        assert "accuracy fell from 64% to 13%" in reading.detail
        assert rate_of(reading.proposal, "finetune") == pytest.approx(1e-7)


def test_a_loss_that_has_begun_to_fall_needs_time_and_no_other_rate():
    history = known(log(10) - 0.004 * T, np.full(20, 0.1), log(10) - 0.003 * T)
    (reading,) = read_curves(history, stage(found=unlearnt(loss=2.27)))
    assert reading.finding == "never-learnt"
    assert "was still falling: train longer" in reading.detail
    assert yaml.safe_load(reading.proposal) == {"fit": {"epochs": 40}}


def test_a_loss_that_a_tiny_rate_does_not_move_is_told_whatever_the_accuracy():
    """Random features may tell classes apart from the start."""
    history = known(1.1 + 0.01 * np.sin(T), np.full(20, 0.6))
    of = stage(num_classes=3, optimizer={"name": "adam", "learning_rate": 1e-300})
    (reading,) = read_curves(history, of)
    assert reading.finding == "learning-rate-too-low"
    assert reading.detail.startswith("The training loss barely changes: from 1.10 to ")
    assert rate_of(reading.proposal) == 1e-3

"""The average follows its formula; a training that has one validates it and keeps it."""

import numpy as np
import pytest
from test_loop import EPOCHS, STEPS, joined, small_model, train_small, validation

from cvtrain.models.transfer import in_precision, set_trainable
from cvtrain.training import loop
from cvtrain.training.ema import WeightAverage

DECAY = 0.6


pytestmark = pytest.mark.usefixtures("seeded_engine")


def averages_of(history, start):
    """The recursion in float64, step by step; the decay that is wanted is reached in step 13."""
    average = [weight.astype(np.float64) for weight in start]
    for t, weights in enumerate(history, 1):
        decay = min(DECAY, (1 + t) / (10 + t))
        average = [decay * a + (1 - decay) * w for a, w in zip(average, weights, strict=True)]
        yield average


@pytest.fixture
def trained(monkeypatch):
    """A model after training with an average, how it went, and its weights after each step."""
    monkeypatch.setattr(loop, "_REPORT_SECONDS", 0.0)
    model = small_model()
    weights = [model.get_weights()]
    result = train_small(
        model, ema=DECAY, epochs=5, on_step=lambda _: weights.append(model.get_weights())
    )
    return model, result, weights


def test_the_best_model_is_the_average_of_its_epoch(trained):
    model, result, weights = trained
    averages = list(averages_of(weights[1:], weights[0]))
    expected = averages[result.best_epoch * STEPS - 1]
    for mine, theirs in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    moved = [np.abs(a - w).max() for a, w in zip(expected, weights[-1], strict=True)]
    assert min(moved) > 1e-4  # statistics of batch normalisation are averaged, too


def test_validation_is_of_the_average(trained):
    _, result, weights = trained
    plain = small_model()
    plain.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    images, labels = joined(validation())
    averages = list(averages_of(weights[1:], weights[0]))
    for row in result.history:
        plain.set_weights(averages[row["epoch"] * STEPS - 1])
        loss, accuracy = plain.evaluate(images, labels, verbose=0)
        assert (row["val_loss"], row["val_accuracy"]) == pytest.approx((loss, accuracy), rel=1e-4)


def test_training_itself_goes_on_from_the_weights_not_from_their_average():
    rows = [train_small(small_model(), ema=ema).history for ema in (None, DECAY)]
    assert len(rows[0]) == EPOCHS
    for plain, averaged in zip(*rows, strict=True):
        assert plain["loss"] == averaged["loss"]
        assert plain["val_loss"] != averaged["val_loss"]


def test_layers_that_are_not_trained_take_no_part():
    model = small_model()
    set_trainable(model, ["dense1", "logits"])
    copy = in_precision(model, "float32")
    average = WeightAverage(copy, DECAY)
    assert [v.shape for v in average.variables] == [(64, 6), (6,), (6, 3), (3,)]
    before = model.get_layer("conv1").get_weights()
    train_small(copy, ema=DECAY, epochs=1)
    for mine, theirs in zip(copy.get_layer("conv1").get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_what_does_not_move_stays_to_the_last_bit():
    model = small_model()
    average = WeightAverage(model, 0.9)
    for step in range(1, 50):
        average.update(step)
    for mine, weight in zip(average.variables, model.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), weight.numpy())


def test_the_models_own_weights_come_back_also_after_an_error():
    model = small_model()
    average = WeightAverage(model, DECAY)
    start = model.get_weights()
    model.set_weights([weight + 1 for weight in start])
    seen = []

    def look():
        with average.applied():
            seen.extend(model.get_weights())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        look()
    for mine, weight in zip(seen, start, strict=True):
        np.testing.assert_array_equal(mine, weight)
    for mine, weight in zip(model.get_weights(), start, strict=True):
        np.testing.assert_array_equal(mine, weight + 1)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_the_average_is_float32_in_every_precision(precision):
    model = small_model(precision=precision)
    average = WeightAverage(model, DECAY)
    assert {variable.dtype for variable in average.variables} == {"float32"}
    trained = train_small(model, ema=DECAY, epochs=2)
    assert trained.best_epoch

import numpy as np
import pytest

from cvtrain.backend import keras
from cvtrain.sections import Optimizer, Schedule
from cvtrain.training.optimizers import build_optimizer
from cvtrain.training.schedules import PlateauState, build_schedule, update_plateau

RATE = 0.3
STEPS = 4


@pytest.mark.parametrize(
    ("name", "options", "reference"),
    [
        (
            "cosine",
            {},
            keras.optimizers.schedules.CosineDecay(RATE, 40),
        ),
        (
            "exponential",
            {"factor": 0.5},
            keras.optimizers.schedules.ExponentialDecay(RATE, STEPS, 0.5),
        ),
        (
            "step",
            {"every": 2, "factor": 0.5},
            keras.optimizers.schedules.ExponentialDecay(RATE, 2 * STEPS, 0.5, staircase=True),
        ),
        ("constant", {}, lambda _: RATE),
        ("plateau", {"factor": 0.5}, lambda _: RATE),
    ],
)
@pytest.mark.parametrize("warmup", [0, 1])
def test_schedules_are_those_of_keras_after_the_warmup(name, options, reference, warmup):
    schedule = build_schedule(
        Schedule(name=name, warmup_epochs=warmup, **options),
        learning_rate=RATE,
        epochs=10 + warmup,
        steps_per_epoch=STEPS,
    )
    for step in range(50):
        assert schedule(step + STEPS * warmup) == pytest.approx(
            float(reference(step)), rel=1e-5, abs=1e-7
        )


def test_the_warmup_rises_linearly_to_the_base_rate():
    cosine = Schedule(name="cosine", warmup_epochs=1.3)
    schedule = build_schedule(cosine, learning_rate=1.0, epochs=3, steps_per_epoch=3)
    assert [schedule(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize(("monitor", "higher"), [("val_loss", False), ("val_accuracy", True)])
def test_plateau_is_kerass_reduce_lr_on_plateau(monitor, higher):
    values = np.random.default_rng(0).normal(size=60).cumsum() * 0.1
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    callback = keras.callbacks.ReduceLROnPlateau(
        monitor, factor=0.5, patience=3, mode="max" if higher else "min"
    )
    callback.set_model(model)
    callback.on_train_begin()
    plateau = Schedule(name="plateau", factor=0.5, patience=3)
    state = PlateauState()
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {monitor: value})
        state = update_plateau(state, plateau, value, higher=higher)
        assert state.scale == pytest.approx(float(model.optimizer.learning_rate.numpy()))
    assert state.scale < 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sgd", {"momentum": 0.9}),
        ("rmsprop", {"momentum": 0.5}),
        ("adam", {"clip_norm": 1.0}),
        ("adamw", {"weight_decay": 0.1}),
    ],
)
def test_optimizers_are_stock_keras(name, options):
    optimizer = build_optimizer(Optimizer(name=name, learning_rate=0.25, **options))
    assert type(optimizer).__name__.lower() == name
    assert type(optimizer).__module__.startswith("keras.")
    config = optimizer.get_config() | {"clip_norm": optimizer.global_clipnorm}
    assert {key: config[key] for key in options} == options
    assert float(optimizer.learning_rate.numpy()) == 0.25


def test_float16_gets_loss_scaling():
    optimizer = build_optimizer(Optimizer(name="sgd"), precision="float16")
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

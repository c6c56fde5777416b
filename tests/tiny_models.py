"""Tiny models with the same weights, put together in all the ways that users do."""

import numpy as np

from cvtrain.backend import keras

SHAPE = (12, 10, 3)
NUM_CLASSES = 3

layers = keras.layers


def images(n: int = 5, *, shape=SHAPE, seed: int = 0) -> np.ndarray:
    return np.float32(np.random.default_rng(seed).uniform(0, 255, (n, *shape)))


def seeded(seed: int):
    return {
        "kernel_initializer": keras.initializers.GlorotUniform(seed),
        "bias_initializer": keras.initializers.RandomUniform(-0.1, 0.1, seed),
    }


def early(name="early"):
    return layers.Conv2D(4, 3, activation="relu", name=name, **seeded(1))


def late(name="late", **kwargs):
    return layers.Conv2D(6, 3, activation="relu", name=name, **seeded(2), **kwargs)


def top(units=NUM_CLASSES, activation="softmax", **kwargs):
    return layers.Dense(units, activation=activation, name="top", **seeded(3), **kwargs)


def flat():
    inputs = keras.Input(SHAPE)
    x = layers.Rescaling(1 / 255)(inputs)
    x = late()(early()(x))
    return keras.Model(inputs, top()(layers.GlobalAveragePooling2D()(x)))


def nested_functional():
    x = inside = keras.Input((10, 8, 4))
    base = keras.Model(inside, late()(x), name="base")
    inputs = keras.Input(SHAPE)
    x = base(early()(layers.Rescaling(1 / 255)(inputs)))
    return keras.Model(inputs, top()(layers.GlobalAveragePooling2D()(x)))


def nested_sequential():
    base = keras.Sequential([layers.Rescaling(1 / 255), early(), late()], name="base")
    head = keras.Sequential([layers.GlobalAveragePooling2D(), top()], name="head")
    return keras.Sequential([keras.Input(SHAPE), base, head])


def doubly_nested():
    inner = keras.Sequential([early()], name="inner")
    inside = keras.Input(SHAPE)
    outer = keras.Model(inside, late()(inner(inside)), name="outer")
    inputs = keras.Input(SHAPE)
    x = outer(layers.Rescaling(1 / 255)(inputs), training=True)
    return keras.Model(inputs, top()(layers.GlobalAveragePooling2D()(x)))


def augmenting():
    """Random layers, of which some draw numbers at inference too, dropout and normalisation."""
    augmentation = keras.Sequential(
        [layers.RandomFlip(seed=1), layers.RandomHue(0.2, seed=2), layers.RandomZoom(0.3, seed=3)],
        name="augmentation",
    )
    inputs = keras.Input(SHAPE)
    x = layers.Rescaling(1 / 255)(augmentation(inputs))
    x = layers.BatchNormalization(epsilon=0)(early()(x))
    x = layers.Dropout(0.5, seed=4)(late()(x), training=True)
    return keras.Model(inputs, top()(layers.GlobalAveragePooling2D()(x)))


def named_alike():
    """Two layers of one name in two models, and a third around them."""
    first = keras.Sequential([layers.Rescaling(1 / 255), early("conv")], name="first")
    second = keras.Sequential([late("conv")], name="second")
    inputs = keras.Input(SHAPE)
    x = layers.Activation("relu", name="conv")(second(first(inputs)))
    return keras.Model(inputs, top()(layers.GlobalAveragePooling2D()(x)))


def with_operations():
    inputs = keras.Input(SHAPE)
    x = keras.ops.relu(late()(early()(inputs / 255)))
    return keras.Model(inputs, keras.ops.softmax(top(activation=None)(keras.ops.mean(x, (1, 2)))))


class _Unrestorable(layers.Conv2D):
    """Somebody's own layer: nothing can be made of its config, and each call changes it."""

    def build(self, shape):
        super().build(shape)
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign(self.calls + 1)
        return super().call(x)

    def get_config(self):
        raise NotImplementedError


def borrowing():
    """As `flat`, with a layer that cannot be copied."""
    inputs = keras.Input(SHAPE)
    x = early()(layers.Rescaling(1 / 255)(inputs))
    x = _Unrestorable(6, 3, activation="relu", name="late", **seeded(2))(x)
    return keras.Model(inputs, top()(layers.GlobalAveragePooling2D()(x)))


def _in_half_floats(policy):
    def build():
        with_policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            return nested_functional()
        finally:
            keras.config.set_dtype_policy(with_policy)

    return build


# Each computes what `flat` does, in inference.
VARIANTS = {
    "flat": flat,
    "nested functional": nested_functional,
    "nested sequential": nested_sequential,
    "doubly nested": doubly_nested,
    "augmenting": augmenting,
    "named alike": named_alike,
    "with operations": with_operations,
    "mixed_bfloat16": _in_half_floats("mixed_bfloat16"),
    "mixed_float16": _in_half_floats("mixed_float16"),
}


def state(model) -> list[bytes]:
    """Every variable of a model, the states of random generators too."""
    return [variable.numpy().tobytes() for variable in model.variables]

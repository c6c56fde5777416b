"""Heads on the features of a backbone: dense layers to train, or logistic regression.

Each head ends in the layers `logits` and `probabilities`, like the model of every run, and consists
of built-in Keras layers and operations.
"""

from __future__ import annotations

import numpy as np

from cvtrain.backend import keras
from cvtrain.errors import ConfigError
from cvtrain.models.blocks import blocks
from cvtrain.models.convnet import initializer_of, seed_of
from cvtrain.sections import Head

FEATURES = "features"
"""Name of the pooling layer, with which every head begins."""

_GATHER = {
    "average": "GlobalAveragePooling2D",
    "max": "GlobalMaxPooling2D",
    "flatten": "Flatten",
}


def attach_dense(
    backbone: keras.Model, cut: str, head: Head, *, num_classes: int, seed: int = 0
) -> keras.Model:
    """The backbone up to a layer and dense layers on it, as one flat model.

    Args:
        backbone: flat, from RGB pixels 0..255.
        cut: name of the layer whose output, a map (n, height, width, channels), is the feature.
        head: the section `extract_features.head`. The dropout follows each of its dense layers;
            without dense layers it follows the pooling.
        num_classes: length of the output.
        seed: of the new layers' initial weights and of the dropout.

    Raises:
        ConfigError: the output of `cut` is not a feature map.
    """
    layers, rate = keras.layers, head.dropout

    def drop(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        return layers.Dropout(rate, seed=seed_of(seed, name), name=name)(x) if rate else x

    x = _gather(backbone, cut, head.pooling)
    if not head.dense:
        x = drop(x, "dropout")
    for i, units in enumerate(head.dense, 1):
        initializer = initializer_of(seed, f"dense{i}")
        x = layers.Dense(
            units, activation="relu", kernel_initializer=initializer, name=f"dense{i}"
        )(x)
        x = drop(x, f"dropout{i}")
    initializer = initializer_of(seed, "logits")
    logits = layers.Dense(num_classes, kernel_initializer=initializer, name="logits")(x)
    return _classifier(backbone, logits)


def attach_logistic(
    backbone: keras.Model,
    cut: str,
    head: Head,
    *,
    coefficients: np.ndarray,
    intercepts: np.ndarray,
) -> keras.Model:
    """The backbone up to a layer and a logistic regression on it.

    Args:
        head: its pooling alone counts.
        coefficients: (channels, classes).
        intercepts: (classes,).

    Other arguments and errors as in `attach_dense`.
    """
    linear = Head(pooling=head.pooling, dense=(), dropout=0.0)
    model = attach_dense(backbone, cut, linear, num_classes=len(intercepts))
    model.get_layer("logits").set_weights([coefficients, intercepts])
    return model


def pool(maps: np.ndarray, pooling: str) -> np.ndarray:
    """Maps (n, height, width, channels) as vectors (n, size) float32, as the layers do it."""
    maps = maps.astype(np.float32)
    if pooling == "flatten":
        return maps.reshape(len(maps), -1)
    return maps.mean(axis=(1, 2)) if pooling == "average" else maps.max(axis=(1, 2))


def _gather(backbone: keras.Model, cut: str, pooling: str) -> keras.KerasTensor:
    output = backbone.get_layer(cut).output
    if len(output.shape) != 4:
        raise ConfigError(
            f"backbone.cut: {cut} gives a shape of {tuple(output.shape[1:])}, not a map of "
            "height, width and channels",
            f"Cut at a block: {', '.join(block.name for block in blocks(backbone))}.",
        )
    return getattr(keras.layers, _GATHER[pooling])(name=FEATURES)(output)


def _classifier(backbone: keras.Model, logits: keras.KerasTensor) -> keras.Model:
    probabilities = keras.layers.Activation("softmax", dtype="float32", name="probabilities")
    return keras.Model(backbone.input, probabilities(logits), name=backbone.name)

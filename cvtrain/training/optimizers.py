"""Keras optimizers by their names in a config."""

from __future__ import annotations

from cvtrain.backend import keras
from cvtrain.sections import Optimizer

_OPTIMIZERS = {
    "sgd": "SGD",
    "rmsprop": "RMSprop",
    "adam": "Adam",
    "adamw": "AdamW",
}


def build_optimizer(
    optimizer: Optimizer, *, precision: str = "float32"
) -> keras.optimizers.Optimizer:
    """Build an optimizer; settings that are None keep the defaults of Keras.

    Args:
        optimizer: the section of the config; a schedule overrides its learning rate in every
            step. Weight decay is decoupled (Loshchilov & Hutter, arXiv:1711.05101).
        precision: `float16` adds dynamic loss scaling, without which small gradients vanish.
    """
    options = {
        "momentum": optimizer.momentum,
        "weight_decay": optimizer.weight_decay,
        "global_clipnorm": optimizer.clip_norm,
    }
    given = {key: value for key, value in options.items() if value is not None}
    build = getattr(keras.optimizers, _OPTIMIZERS[optimizer.name])
    built = build(learning_rate=optimizer.learning_rate, **given)
    return keras.optimizers.LossScaleOptimizer(built) if precision == "float16" else built

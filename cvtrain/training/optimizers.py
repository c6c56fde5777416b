"""Stock Keras optimizers from plain values."""

from __future__ import annotations

from cvtrain.backend import keras

_OPTIMIZERS = {
    "sgd": "SGD",
    "rmsprop": "RMSprop",
    "adam": "Adam",
    "adamw": "AdamW",
}


def build_optimizer(
    name: str,
    *,
    learning_rate: float,
    momentum: float | None = None,
    weight_decay: float | None = None,
    clip_norm: float | None = None,
    precision: str = "float32",
) -> keras.optimizers.Optimizer:
    """Build an optimizer; what is None stays as Keras has it.

    Args:
        name: `sgd`, `rmsprop`, `adam` or `adamw`.
        learning_rate: the base rate; a schedule overrides it step by step.
        momentum: of `sgd` and `rmsprop`.
        weight_decay: decoupled from the gradient (Loshchilov & Hutter, arXiv:1711.05101).
        clip_norm: largest L2 norm of all gradients together.
        precision: `float16` adds dynamic loss scaling, without which small gradients vanish.
    """
    options = {
        "momentum": momentum,
        "weight_decay": weight_decay,
        "global_clipnorm": clip_norm,
    }
    given = {key: value for key, value in options.items() if value is not None}
    optimizer = getattr(keras.optimizers, _OPTIMIZERS[name])(learning_rate=learning_rate, **given)
    if precision == "float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer

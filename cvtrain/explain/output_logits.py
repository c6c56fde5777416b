"""The scores of a classifier before its last activation, a layer or an operation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cvtrain.backend import keras
from cvtrain.explain.graphs import node_of, operation_of


def scores_of(output: keras.KerasTensor, expected: np.ndarray) -> tuple[keras.KerasTensor, str]:
    """The scores that an output is computed from, and what it ends in: see FlatModel.output.

    Args:
        output: of the copy, whose last layer may be changed.
        expected: values of it, of the original, (n, classes).
    """
    scores, kind = _without_activation(output)
    if kind == "linear" and _are_probabilities(expected, operation_of(output)):
        return _as_layer(_log_probabilities, output), "log-probability"
    return scores, kind


def of_every_class(scores: keras.KerasTensor) -> keras.KerasTensor:
    """The scores of both classes, where they are one logit."""
    if scores.shape[-1] > 1:
        return scores
    return _as_layer(_both_classes, scores)


def _without_activation(output: keras.KerasTensor) -> tuple[keras.KerasTensor, str]:
    """What a last softmax or sigmoid is computed from, and which of them it is, or `linear`."""
    node = node_of(output)
    operation = node.operation
    for kind in ("softmax", "sigmoid"):
        # Both the layer and the operation of keras.ops have this name.
        if type(operation).__name__.lower() == kind and _is_stock(operation):
            return node.input_tensors[0], kind
        if (
            type(operation) in (keras.layers.Dense, keras.layers.Activation)
            and operation.activation is getattr(keras.activations, kind)
            and len(operation._inbound_nodes) == 1  # Else it is not ours alone, or not only last.
        ):
            operation.activation = keras.activations.linear
            return output, kind
    return output, "linear"


def _are_probabilities(values: np.ndarray, operation: keras.Operation) -> bool:
    if values.shape[-1] > 1:
        return bool(values.min() >= 0 and np.allclose(values.sum(axis=-1), 1, atol=1e-2))
    # A single number between 0 and 1 may also be a logit; the last layer of most models is Dense.
    return bool(
        not isinstance(operation, keras.layers.Dense) and values.min() >= 0 and values.max() <= 1
    )


def _is_stock(operation: keras.Operation) -> bool:
    return type(operation).__module__.startswith("keras.")


def _both_classes(z: keras.KerasTensor) -> keras.KerasTensor:
    """The logit z of the second of two classes, (n, 1) -> the scores -z, z of both."""
    return keras.ops.concatenate([-z, z], axis=-1)


def _log_probabilities(p: keras.KerasTensor) -> keras.KerasTensor:
    """Probabilities -> their logarithms; a single one is that of the second of two classes."""
    if p.shape[-1] == 1:
        p = keras.ops.concatenate([1 - p, p], axis=-1)
    return keras.ops.log(keras.ops.maximum(p, 1e-30))


def _as_layer(
    function: Callable[[keras.KerasTensor], keras.KerasTensor], output: keras.KerasTensor
) -> keras.KerasTensor:
    """Apply `function` in float32 as a layer with its name."""
    name = function.__name__.strip("_")
    return keras.layers.Lambda(function, name=name, dtype="float32")(output)

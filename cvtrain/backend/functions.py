"""Models as compiled functions: predictions, gradients and shapes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cvtrain.backend.engine import engine_name, keras, tf

_Function = Callable[..., Any]
"""Tensors (x, *others) -> a tensor of one value for each row of x."""
_Gradient = Callable[..., tuple[Any, Any]]
"""Arrays (x, *others) -> the values and their gradient, as tensors of the engine."""


def inference(
    model: keras.Model, *, dtype: str = "float32"
) -> Callable[[np.ndarray | list[np.ndarray]], Any]:
    """Compile `model` for inference: a batch of any size -> its output, or a list of its outputs.

    A last, smaller batch costs at most one more compilation for the whole life of the function.

    Args:
        model: with one input or a list of them, one output or a list of them.
        dtype: the dtype of the output arrays: `float32` or `bfloat16`.
    """
    convert = keras.tree.map_structure
    if engine_name() != "tensorflow":
        return lambda batch: convert(
            lambda output: np.asarray(output).astype(dtype), model.predict_on_batch(batch)
        )

    @tf.function(jit_compile=False, reduce_retracing=True, autograph=False)
    def run(batch: tf.Tensor) -> Any:
        return convert(lambda output: tf.cast(output, dtype), model(batch, training=False))

    return lambda batch: convert(lambda output: output.numpy(), run(batch))


def value_and_gradient(
    function: _Function, model: keras.Model
) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Compile one value for each row of a batch, and its gradient by the batch.

    The function is compiled once for each shape, so callers pad a last, smaller batch. The current
    variables of `model` are used in every call.

    Args:
        function: (x, *others) -> values (n,), one for each row of x, in operations of `keras.ops`
            and calls of `model` with `training=False`. Rows do not depend on each other.
        model: the model whose variables the function reads.

    Returns:
        A function of float32 x and arrays of anything else -> values (n,) and their gradient, the
        derivative of each value by its row of x, both float32; zeros where x has no effect.
    """
    compiled = {"tensorflow": _tensorflow_gradient, "jax": _jax_gradient, "torch": _torch_gradient}
    run = compiled[engine_name()](function, model)

    def call(x: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        results = run(np.asarray(x, np.float32), *others)
        values, gradient = map(keras.ops.convert_to_numpy, results)
        return values.astype(np.float32), gradient.astype(np.float32)

    return call


def _tensorflow_gradient(function: _Function, _model: keras.Model) -> _Gradient:
    @tf.function(jit_compile=False, reduce_retracing=True, autograph=False)
    def run(x: tf.Tensor, *others: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            values = function(x, *others)
        return values, tape.gradient(values, x, unconnected_gradients="zero")

    return run


def _jax_gradient(function: _Function, model: keras.Model) -> _Gradient:
    import jax

    def total(
        x: jax.Array, others: tuple[jax.Array, ...], variables: list[jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        with keras.StatelessScope(zip(model.variables, variables, strict=True)):
            values = function(x, *others)
        return values.sum(), values

    @jax.jit
    def compiled(
        x: jax.Array, others: tuple[jax.Array, ...], variables: list[jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        (_, values), gradient = jax.value_and_grad(total, has_aux=True)(x, others, variables)
        return values, gradient

    return lambda x, *others: compiled(x, others, [each.value for each in model.variables])


def _torch_gradient(function: _Function, _model: keras.Model) -> _Gradient:
    import torch

    def run(x: np.ndarray, *others: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        # A copy, and of its own: an array may be read-only, a leaf must not be another's.
        leaf = keras.ops.convert_to_tensor(x.copy()).requires_grad_()
        values = function(leaf, *map(keras.ops.convert_to_tensor, others))
        # Zero times x, because torch refuses what does not depend on it.
        (gradient,) = torch.autograd.grad(values.sum() + 0 * leaf.sum(), leaf)
        return values, gradient

    return run


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Inside the block, models are built with shapes only, without memory for weights."""
    graph = tf.Graph().as_default() if engine_name() == "tensorflow" else contextlib.nullcontext()
    with keras.StatelessScope(initialize_variables=False), graph:
        yield

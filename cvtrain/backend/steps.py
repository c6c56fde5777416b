"""Training steps, compiled for the engine.

TensorFlow, Keras' default engine, gets steps compiled to graphs of its own, with XLA for the
optimizer alone: on processors its convolutions are half as fast. Any other engine runs Keras'
`train_on_batch`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from cvtrain.backend.engine import engine_name, keras, tf

NO_TOTALS = {"loss": 0.0, "accuracy": 0.0, "images": 0.0}
"""The sums before the first step."""


class TrainStep(Protocol):
    """One optimizer step on a batch, with running sums.

    Attributes:
        totals: sums over the images since `totals` was last set: of their `loss` (weighted by class
            if weights were given) and `accuracy` (those classified correctly), and `images`, their
            number. Reading it waits for the device. Set it to `NO_TOTALS` to start anew.
    """

    totals: dict[str, float]

    def run(self, images: np.ndarray, labels: np.ndarray, learning_rate: np.float32, /) -> None:
        """Update the weights by the batch.

        The loss is the mean over images of class weight times cross-entropy, as in Keras. The
        weight of a mixed image is the mean of its classes' by their shares; it is classified
        correctly as the class with the largest share.

        Args:
            images: as the model takes them.
            labels: (n,) integers or, of mixed images, (n, classes) shares that sum to 1.
            learning_rate: a NumPy scalar, because TensorFlow compiles a graph for each value of a
                plain number.
        """


def train_step(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    *,
    class_weights: np.ndarray | None = None,
    label_smoothing: float = 0.0,
    rates: Sequence[float] | None = None,
) -> TrainStep:
    """Compile the training step of `model`, which returns logits, for the engine.

    Args:
        model: a model from a batch of images to logits (n, classes).
        optimizer: the optimizer of `model.trainable_variables`; built here if it is not yet.
        class_weights: (classes,) factors of the loss; None for ones.
        label_smoothing: share of each label, in [0, 1), that is spread evenly over all classes
            (Szegedy et al. 2016, arXiv:1512.00567, section 7).
        rates: factor of the learning rate of each of `model.trainable_variables`; None for ones.
            Every optimizer here moves a variable in proportion to its rate, so the factor is
            applied to the movement.
    """
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    step = _TensorFlowStep if engine_name() == "tensorflow" else _KerasStep
    rates = rates or [1.0] * len(model.trainable_variables)
    return step(model, optimizer, class_weights, label_smoothing, rates)


def moving_average(
    averages: Sequence[keras.Variable], variables: Sequence[keras.Variable]
) -> Callable[[float], None]:
    """Compile one update of exponential moving averages.

    Returns:
        A function of the decay d in 0..1: it sets each average a to a + (1 - d) (v - a), with its
        variable v. If the two are equal, a does not change by a single bit.
    """

    def update(share: Any) -> None:
        for average, variable in zip(averages, variables, strict=True):
            average.assign(average.value + share * (variable.value - average.value))

    if engine_name() != "tensorflow":
        return lambda decay: update(1 - decay)
    # As in the optimizer, XLA makes one pass over the memory out of several.
    on_cpu = not tf.config.get_visible_devices("GPU")
    compiled = tf.function(update, jit_compile=on_cpu, autograph=False)
    return lambda decay: compiled(np.asarray(1 - decay, np.float32))


def not_finite(variables: Sequence[keras.Variable]) -> list[keras.Variable]:
    """The variables with non-finite values; the check waits for the device only once."""
    ops = keras.ops
    known = [each for each in variables if keras.backend.is_float_dtype(each.dtype)]
    if not known:
        return []
    flags = ops.stack([ops.all(ops.isfinite(each.value)) for each in known])
    pairs = zip(known, ops.convert_to_numpy(flags), strict=True)
    return [variable for variable, is_finite in pairs if not is_finite]


def _slowed(model: keras.Model, rates: Sequence[float]) -> list[tuple[keras.Variable, float]]:
    """The trainable variables whose learning rate has a factor, with it."""
    pairs = zip(model.trainable_variables, rates, strict=True)
    return [(variable, rate) for variable, rate in pairs if rate != 1.0]


class _TensorFlowStep:
    run: Callable[[np.ndarray, np.ndarray, np.float32], None]

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        class_weights: np.ndarray | None,
        label_smoothing: float,
        rates: Sequence[float],
    ):
        self._sums = tf.Variable([*NO_TOTALS.values()], dtype=tf.float64)
        num_classes = model.output_shape[-1]
        weights = None if class_weights is None else tf.constant(class_weights, tf.float32)
        slowed = _slowed(model, rates)
        # An optimizer is many small operations on large arrays: XLA fuses them, on processors too.
        on_cpu = not tf.config.get_visible_devices("GPU")

        compiled = partial(tf.function, jit_compile=on_cpu, autograph=False)
        apply = compiled(optimizer.apply)

        @compiled
        def slow_down(before: list[tf.Tensor]) -> None:
            for (variable, rate), old in zip(slowed, before, strict=True):
                variable.assign(old + rate * (variable.value - old))

        @tf.function(jit_compile=False, reduce_retracing=True, autograph=False)
        def run(images: tf.Tensor, labels: tf.Tensor, learning_rate: tf.Tensor) -> None:
            optimizer.learning_rate.assign(learning_rate)
            is_mixed = labels.shape.rank == 2
            rows = tf.cast(labels, tf.float32) if is_mixed else tf.one_hot(labels, num_classes)
            with tf.GradientTape() as tape:
                logits = tf.cast(model(images, training=True), tf.float32)
                targets = (1.0 - label_smoothing) * rows + label_smoothing / num_classes
                losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
                if weights is not None:
                    losses *= tf.linalg.matvec(rows, weights)
                scaled = optimizer.scale_loss(tf.reduce_mean(losses))
            gradients = tape.gradient(scaled, model.trainable_variables)
            before = [tf.identity(variable.value) for variable, _ in slowed]
            apply(gradients)
            if slowed:
                slow_down(before)
            hits = tf.argmax(logits, axis=1) == tf.argmax(rows, axis=1)
            sums = {
                "loss": tf.reduce_sum(losses),
                "accuracy": tf.math.count_nonzero(hits),
                "images": tf.size(hits),
            }
            self._sums.assign_add(tf.stack([tf.cast(sums[name], tf.float64) for name in NO_TOTALS]))

        self.run = run

    @property
    def totals(self) -> dict[str, float]:
        return dict(zip(NO_TOTALS, self._sums.numpy().tolist(), strict=True))

    @totals.setter
    def totals(self, values: dict[str, float]) -> None:
        self._sums.assign(np.array([values[name] for name in NO_TOTALS]))


class _KerasStep:
    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        class_weights: np.ndarray | None,
        label_smoothing: float,
        rates: Sequence[float],
    ):
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=label_smoothing
        )
        model.compile(optimizer, loss, metrics=["categorical_accuracy"])
        self._model = model
        self._class_weights = class_weights
        self._slowed = _slowed(model, rates)
        self.totals = NO_TOTALS

    def run(self, images: np.ndarray, labels: np.ndarray, learning_rate: np.float32, /) -> None:
        self._model.optimizer.learning_rate = learning_rate
        rows = labels
        if labels.ndim == 1:
            rows = np.eye(self._model.output_shape[-1], dtype=np.float32)[labels]
        weights = None if self._class_weights is None else rows @ self._class_weights
        # Keras' metrics run on from batch to batch and cannot be set: read each batch's own.
        self._model.reset_metrics()
        before = [np.array(variable) for variable, _ in self._slowed]
        batch = self._model.train_on_batch(images, rows, weights, return_dict=True)
        for (variable, rate), old in zip(self._slowed, before, strict=True):
            variable.assign(old + rate * (np.array(variable) - old))
        means = {"loss": batch["loss"], "accuracy": batch["categorical_accuracy"], "images": 1.0}
        self.totals = {
            name: total + len(labels) * float(means[name]) for name, total in self.totals.items()
        }

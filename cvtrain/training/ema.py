"""An exponential moving average of the weights, which is validated and saved in their place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from cvtrain import backend
from cvtrain.backend import keras


class WeightAverage:
    """The moving average of the weights of those layers of a model that are trained.

    After step t, counted from 1, each average a becomes d a + (1 - d) w with the weight w and
    d = min(`decay`, (1 + t) / (10 + t)), as in TensorFlow's ExponentialMovingAverage, so that the
    initial weights do not dominate a short training. The moving statistics of batch normalisation
    are averaged like weights (Tan and Le, arXiv:1905.11946, and timm's ModelEmaV3 do the same), so
    that they need not be recomputed from the images. Layers that are not trained are left out.

    Keras' optimizers have an average of their own (`use_ema`). It has no warm-up, leaves the moving
    statistics out, and does not support learning rates per layer.

    Attributes:
        variables: the averages, to be stored in checkpoints.
    """

    def __init__(self, model: keras.Model, decay: float):
        """Start from the weights of the model; `decay` per step, in 0..1."""
        trained = [layer for layer in model.layers if layer.trainable]
        self._decay = decay
        self._weights = [weight for layer in trained for weight in layer.weights]
        self.variables = [
            keras.Variable(weight.numpy(), dtype=weight.dtype, trainable=False)
            for weight in self._weights
        ]
        self._move = backend.moving_average(self.variables, self._weights)

    def update(self, step: int) -> None:
        """Update the averages with the weights after `step` steps in total."""
        self._move(min(self._decay, (1 + step) / (10 + step)))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Swap the averages into the model while the block runs."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        # One by one, because memory may not suffice for a second copy of the model.
        for weight, average in zip(self._weights, self.variables, strict=True):
            values = np.array(weight.numpy())
            weight.assign(average)
            average.assign(values)

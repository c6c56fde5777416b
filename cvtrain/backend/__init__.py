"""All that knows which engine Keras runs on: devices, compiled steps, memory errors.

Whoever needs Keras takes it from here (`from cvtrain.backend import keras`), so that the engine's
start-up chatter is silenced before it loads.
"""

from cvtrain.backend.devices import (
    has_gpu_build,
    is_out_of_memory,
    memory_errors,
    set_up,
    versions,
)
from cvtrain.backend.engine import ENGINE, keras
from cvtrain.backend.functions import drawing, inference, value_and_gradient
from cvtrain.backend.steps import TrainStep, moving_average, not_finite, train_step

__all__ = [
    "ENGINE",
    "TrainStep",
    "drawing",
    "has_gpu_build",
    "inference",
    "is_out_of_memory",
    "keras",
    "memory_errors",
    "moving_average",
    "not_finite",
    "set_up",
    "train_step",
    "value_and_gradient",
    "versions",
]

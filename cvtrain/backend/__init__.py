"""Everything that depends on the engine of Keras: devices, compiled steps, memory errors.

Every other module imports Keras from here (`from cvtrain.backend import keras`): it is loaded at
its first use, without the log messages of its engine.
"""

from cvtrain.backend.devices import (
    has_gpu_build,
    is_out_of_memory,
    memory_errors,
    set_up,
    versions,
)
from cvtrain.backend.engine import engine_name, keras, load
from cvtrain.backend.functions import drawing, inference, value_and_gradient
from cvtrain.backend.steps import NO_TOTALS, TrainStep, moving_average, not_finite, train_step

__all__ = [
    "NO_TOTALS",
    "TrainStep",
    "drawing",
    "engine_name",
    "has_gpu_build",
    "inference",
    "is_out_of_memory",
    "keras",
    "load",
    "memory_errors",
    "moving_average",
    "not_finite",
    "set_up",
    "train_step",
    "value_and_gradient",
    "versions",
]

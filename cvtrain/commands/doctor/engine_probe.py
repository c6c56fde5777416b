"""Measure the Keras backend on this machine.

This module runs in another process, because a backend may be broken or missing. It prints one JSON
object per line.
"""

import json
from collections.abc import Iterator
from typing import Any

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.training.precision import images_per_second, remembered_choices

_BATCH_SIZE = 32
_SIDE, _CHANNELS, _LAYERS = 56, 64, 4


def main() -> None:
    """`python -m cvtrain.commands.doctor.engine_probe`."""
    for facts in measure_engine():
        print(json.dumps(facts), flush=True)


def measure_engine() -> Iterator[dict[str, Any]]:
    """Yield each result as soon as it is known.

    `engine`, `versions`, `has_gpu_build` and `device` are those of `backend`. `chosen` contains the
    precision that `auto` chose for each model on this machine. `float32` and `bfloat16` are the
    GFLOP/s of 3x3 convolutions (a multiply-add is two operations).
    """
    yield {
        "engine": backend.engine_name(),
        "versions": backend.versions(),
        "has_gpu_build": backend.has_gpu_build(),
    }
    device = backend.set_up(seed=0)
    yield {"device": device}

    yield {"chosen": [choice.precision for choice in remembered_choices()]}
    for precision in ("float32", "bfloat16"):
        speed = images_per_second(
            precision, build=_convolutions, batch_size=_BATCH_SIZE, device=device, training=False
        )
        yield {precision: 2 * _LAYERS * _SIDE**2 * 9 * _CHANNELS**2 * speed / 1e9}


def _convolutions(precision: str) -> Any:
    policy = "float32" if precision == "float32" else f"mixed_{precision}"
    images = keras.Input((_SIDE, _SIDE, _CHANNELS))
    maps = images
    for _ in range(_LAYERS):
        maps = keras.layers.Conv2D(_CHANNELS, 3, padding="same", dtype=policy)(maps)
    return keras.Model(images, maps)


if __name__ == "__main__":
    main()

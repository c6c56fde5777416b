"""Choose the precision in which a model is fastest on this machine; measured once and remembered.

bfloat16 is 1.5 to 1.9 times as fast as float32 on processors with AMX or avx512_bf16 and slower on
others, and slower everywhere for some networks, so it is measured.
"""

from __future__ import annotations

import contextlib
import json
import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.errors import ResourceError
from cvtrain.models.saved_model import logits_model
from cvtrain.sections import Optimizer
from cvtrain.system import files
from cvtrain.training.optimizers import build_optimizer

_SECONDS = 2.0
_ROUNDS = 20
_LEAST_GAIN = 1.05


@dataclass(frozen=True)
class Choice:
    """A precision and the reason for it.

    Attributes:
        precision: `float32`, `bfloat16` or `float16`.
        reason: the reason as one line of text.
        images_per_second: the measured speed by precision; empty if nothing was measured.
    """

    precision: str
    reason: str
    images_per_second: dict[str, float]


@backend.memory_errors()
def choose_precision(
    requested: str,
    *,
    build: Callable[[str], keras.Model],
    batch_size: int,
    device: str,
    training: bool = True,
    raise_if_stopped: Callable[[], object] = lambda: None,
) -> Choice:
    """Return the requested precision; for `auto`, the fastest if it gains more than 5 %.

    A few steps of each candidate are measured, for about two seconds each. The choice is remembered
    in `files.cache_dir()` for this machine, these versions, this model and batch size.

    Args:
        requested: `auto`, `float32`, `bfloat16` or `float16`.
        build: precision -> a new model; for training it ends in `logits` and `probabilities`.
        batch_size: images in a batch.
        device: the device as returned by `backend.set_up`; float16 is a candidate on GPUs only.
        training: whether to measure training steps, or else the forward pass.
        raise_if_stopped: called before every step that is measured; may raise to stop.

    Raises:
        ResourceError: the memory does not suffice.
    """
    if requested != "auto":
        return Choice(requested, "as given", {})
    store = files.cache_dir() / "precision.json"
    remembered = _read(store)
    key = _key(build("float32"), batch_size, device, training)
    if key in remembered:
        return Choice(**remembered[key])
    on_gpu = device.startswith("gpu")
    candidates = ["float32", "bfloat16", "float16"] if on_gpu else ["float32", "bfloat16"]
    choice = _choose(_measure(build, candidates, batch_size, training, raise_if_stopped))
    # The store is optional: without it, the next command measures again.
    with contextlib.suppress(ResourceError):
        files.commit_json(store, _read(store) | {key: asdict(choice)})
    return choice


def images_per_second(
    requested: str,
    *,
    build: Callable[[str], keras.Model],
    batch_size: int,
    device: str,
    training: bool = True,
    raise_if_stopped: Callable[[], object] = lambda: None,
) -> float:
    """The speed in the precision that `choose_precision` takes; arguments and errors as there."""
    choice = choose_precision(
        requested,
        build=build,
        batch_size=batch_size,
        device=device,
        training=training,
        raise_if_stopped=raise_if_stopped,
    )
    speeds = choice.images_per_second or _measure(
        build, [choice.precision], batch_size, training, raise_if_stopped
    )
    return speeds[choice.precision]


def remembered_choices() -> list[Choice]:
    """The remembered choices of this machine, one for each model, batch size and kind of step."""
    remembered = _read(files.cache_dir() / "precision.json")
    here = platform.node()
    return [Choice(**choice) for key, choice in remembered.items() if json.loads(key)[0] == here]


def _choose(images_per_second: dict[str, float]) -> Choice:
    base = images_per_second["float32"]
    fastest = max(images_per_second, key=lambda precision: images_per_second[precision])
    chosen = fastest if images_per_second[fastest] > _LEAST_GAIN * base else "float32"
    found = ", ".join(f"{name} {speed:.0f}" for name, speed in images_per_second.items())
    return Choice(chosen, f"measured images/s: {found}", images_per_second)


def _measure(
    build: Callable[[str], keras.Model],
    candidates: Sequence[str],
    batch_size: int,
    training: bool,
    raise_if_stopped: Callable[[], object],
) -> dict[str, float]:
    """Images per second of the fastest step in each precision."""
    steps = {
        precision: _step(build(precision), batch_size, precision, training)
        for precision in candidates
    }
    for step in steps.values():
        raise_if_stopped()
        step()  # compiles
    best = dict.fromkeys(candidates, float("inf"))
    # In turns, so that other load of the machine affects all of them. The fastest counts, because
    # noise only makes steps slower.
    ends = time.perf_counter() + _SECONDS * len(candidates)
    for _ in range(_ROUNDS):
        for precision, step in steps.items():
            raise_if_stopped()
            started = time.perf_counter()
            step()
            best[precision] = min(best[precision], time.perf_counter() - started)
        if time.perf_counter() > ends:
            break
    return {precision: batch_size / best[precision] for precision in candidates}


def _step(
    model: keras.Model, batch_size: int, precision: str, training: bool
) -> Callable[[], object]:
    """A function that runs one step on random values and waits for the device."""
    shape = (batch_size, *model.input_shape[1:])
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    if not training:
        predict = backend.inference(model)
        return lambda: predict(images)
    labels = np.zeros(batch_size, np.int32)
    optimizer = build_optimizer(Optimizer(name="sgd"), precision=precision)
    step = backend.train_step(logits_model(model), optimizer)

    def train() -> dict[str, float]:
        step.run(images, labels, np.float32(0.0))
        return step.totals  # reading waits for the device

    return train


def _key(model: keras.Model, batch_size: int, device: str, training: bool) -> str:
    # Speed does not depend on the seeds of initial weights and dropout, nor on names: those that
    # Keras makes up for a model and its inputs count what the process built before.
    architecture = re.sub(r'"seed": \d+|keras_tensor_\d+', "", model.to_json())
    architecture = architecture.replace(json.dumps(model.name), "", 1)
    digest = files.sha256_bytes(architecture.encode())
    versions = backend.versions()
    what = [platform.node(), device, versions, digest, batch_size, training]
    return json.dumps(what, sort_keys=True)


def _read(store: Path) -> dict[str, dict]:
    """The remembered choices; none if the file is missing or damaged."""
    try:
        remembered = json.loads(store.read_text(encoding="utf-8"))
        return {
            key: asdict(Choice(value["precision"], value["reason"], value["images_per_second"]))
            for key, value in remembered.items()
            if isinstance(json.loads(key)[0], str)
        }
    except (OSError, ValueError, AttributeError, LookupError, TypeError):
        return {}

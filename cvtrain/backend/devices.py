"""The device of the engine, its versions, and its memory errors."""

import contextlib
import platform
import sys
from collections.abc import Iterator

import numpy as np

from cvtrain.backend.engine import engine_name, keras, quiet, tf
from cvtrain.errors import ResourceError
from cvtrain.system import machine
from cvtrain.system.text import reason_of
from cvtrain.version import __version__


def set_up(*, seed: int, device: str = "auto") -> str:
    """Choose the device, seed every generator and make operations deterministic.

    Call it before any model is built: an engine cannot change its device later.

    Args:
        seed: seeds Python's, NumPy's and the engine's generators.
        device: `auto` (a GPU if there is one), `cpu` or `gpu`.

    Returns:
        The device as text: `cpu: AMD EPYC 7B13, 8 threads` or `gpu: NVIDIA H200`.

    Raises:
        ResourceError: a GPU was requested and there is none, or the device cannot be changed.
    """
    keras.utils.set_random_seed(seed)
    with quiet():
        gpus = _gpus()
        if device == "gpu" and not gpus:
            raise ResourceError(
                f"device: gpu was requested, but {engine_name()} finds none on this machine",
                f"Install a build of {engine_name()} for your GPU, or set device to auto or cpu.",
            )
        if gpus and device == "cpu":
            _hide_gpus()
            gpus = []
        if engine_name() == "tensorflow":
            for gpu in tf.config.get_visible_devices("GPU"):
                # Otherwise TensorFlow reserves the whole memory of the GPU.
                if not tf.config.experimental.get_memory_growth(gpu):
                    tf.config.experimental.set_memory_growth(gpu, True)
            tf.config.experimental.enable_op_determinism()
    if gpus:
        return f"gpu: {', '.join(gpus)}"
    return f"cpu: {machine.processor()}, {machine.num_threads()} threads"


def versions() -> dict[str, str]:
    """The versions that a result depends on: Python, cvtrain, Keras, NumPy and the engine."""
    return {
        "python": platform.python_version(),
        "cvtrain": __version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        engine_name(): str(sys.modules[engine_name()].__version__),
    }


def has_gpu_build() -> bool:
    """Can this build of the engine use a GPU? True if it does not report that."""
    if engine_name() == "tensorflow":
        return bool(tf.test.is_built_with_gpu_support())
    return True


def is_out_of_memory(error: BaseException) -> bool:
    """Is `error`, from any engine or from NumPy, an out-of-memory error?"""
    words = f"{type(error).__name__} {error}".lower().replace("_", "")
    marks = ("resourceexhausted", "outofmemory", "out of memory", "oom when allocating")
    return isinstance(error, MemoryError) or any(mark in words for mark in marks)


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turn an out-of-memory error of the engine inside the block into a ResourceError."""
    try:
        yield
    except Exception as error:  # Engines have no class in common for this; any other goes on.
        if not is_out_of_memory(error):
            raise
        reason = reason_of(error)
        raise ResourceError(
            f"the memory does not suffice: {reason}",
            "Lower batch_size first; then data.image_size, or the model's filters or dense.",
        ) from error


def _gpus() -> list[str]:
    if engine_name() == "tensorflow":
        gpus = tf.config.list_physical_devices("GPU")
        details = tf.config.experimental.get_device_details
        return [str(details(gpu).get("device_name", gpu.name)) for gpu in gpus]
    if engine_name() == "jax":
        import jax

        return [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _hide_gpus() -> None:
    try:
        if engine_name() == "tensorflow":
            tf.config.set_visible_devices([], "GPU")
        elif engine_name() == "jax":
            import jax

            jax.config.update("jax_default_device", jax.devices("cpu")[0])
        else:
            raise RuntimeError("Keras' torch engine chooses when it loads")
    except RuntimeError as error:
        raise ResourceError(
            f"device: cannot change to cpu any more ({error})",
            "Start a new process with CUDA_VISIBLE_DEVICES='' in its environment.",
        ) from error

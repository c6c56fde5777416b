"""Keras and its engine, loaded at their first use and without their log messages.

Every module imports `keras` at its head; the import costs seconds, and only a command that computes
pays for them. `TF_CPP_MIN_LOG_LEVEL=0` brings the log messages back.
"""

import contextlib
import functools
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cvtrain.errors import ConfigError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard what the engine's C++ writes to stderr before it obeys any log level."""
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0":
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@functools.cache
def load() -> ModuleType:
    """Import Keras and its engine, once.

    Raises:
        ConfigError: the environment or `~/.keras/keras.json` names an engine that is not there.
    """
    with quiet():
        try:
            keras = importlib.import_module("keras")
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"Keras cannot be loaded: {error}",
                "Look at KERAS_... in the environment and at ~/.keras/keras.json: the backend must "
                "be an engine that is installed (tensorflow, jax, torch), a limit a whole number.",
            ) from error
        # What a person has put into ~/.keras/keras.json for other work must not change what a run
        # is.
        keras.config.set_floatx("float32")
        keras.config.set_epsilon(1e-7)
        keras.config.set_image_data_format("channels_last")
        if keras.backend.backend() == "tensorflow" and os.environ["TF_CPP_MIN_LOG_LEVEL"] != "0":
            # A command compiles several models, which TensorFlow takes for one compiled too often.
            importlib.import_module("tensorflow").get_logger().setLevel("ERROR")
    return keras


def engine_name() -> str:
    """Name of the engine that Keras runs on: `tensorflow`, `jax` or `torch`."""
    return str(load().backend.backend())


class _LazyModule(ModuleType):
    """A module that is imported when the first of its attributes is read, after Keras."""

    def __getattr__(self, name: str) -> Any:
        keras = load()
        return getattr(keras if self.__name__ == "keras" else sys.modules[self.__name__], name)


if TYPE_CHECKING:
    import keras
    import tensorflow as tf
else:
    keras = _LazyModule("keras")
    tf = _LazyModule("tensorflow")

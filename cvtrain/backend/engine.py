"""Keras and its engine, loaded without their chatter.

`TF_CPP_MIN_LOG_LEVEL=0` brings the chatter back.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

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


with quiet():
    try:
        import keras
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"Keras cannot be loaded: {error}",
            "Look at KERAS_... in the environment and at ~/.keras/keras.json: the backend must be "
            "an engine that is installed (tensorflow, jax, torch), a limit a whole number.",
        ) from error

    # What a person has put into ~/.keras/keras.json for other work must not change what a run is.
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    ENGINE: str = keras.backend.backend()
    if ENGINE == "tensorflow":
        import tensorflow as tf

        if os.environ["TF_CPP_MIN_LOG_LEVEL"] != "0":
            # A command compiles several models, which TensorFlow takes for one compiled too often.
            tf.get_logger().setLevel("ERROR")

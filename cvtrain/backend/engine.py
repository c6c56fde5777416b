"""Keras and its engine, loaded without their chatter.

`TF_CPP_MIN_LOG_LEVEL=0` brings the chatter back.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

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
    import keras

    ENGINE: str = keras.backend.backend()
    if ENGINE == "tensorflow":
        import tensorflow as tf

        if os.environ["TF_CPP_MIN_LOG_LEVEL"] != "0":
            # A command compiles several models, which TensorFlow takes for one compiled too often.
            tf.get_logger().setLevel("ERROR")

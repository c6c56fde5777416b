"""What every model of a run keeps, whatever it is made of, in memory and on disk.

It takes RGB pixels 0..255 of shape (batch, height, width, 3), float32 or uint8, ends in a layer
`logits` followed by a softmax named `probabilities`, is made of stock Keras layers alone in one
flat graph, and is saved computing in float32. Plain `keras.saving.load_model` opens it without
cvtrain.
"""

import hashlib
import re
from pathlib import Path

import numpy as np

from cvtrain.backend import keras
from cvtrain.errors import RunError
from cvtrain.files import committed, printable


def logits_model(model: keras.Model) -> keras.Model:
    """The model without its softmax; layers and weights are shared."""
    return keras.Model(model.input, model.get_layer("probabilities").input, name=model.name)


def weights_digest(model: keras.Model) -> str:
    """Identity of a model: SHA-256 over path, dtype, shape and bytes of every weight.

    The states of random generators (dropout) are no weights: they take no part.
    """
    digest = hashlib.sha256()
    for weight in model.weights:
        values = np.ascontiguousarray(weight.numpy())
        # Keras counts weights without a name, ConvNeXt's scales, through the process.
        path = re.sub(r"/variable(_\d+)?$", "/variable", weight.path)
        digest.update(f"{path} {values.dtype.str} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Carry the weights of the source's layers over to the target's layers of the same names."""
    for layer in source.layers:
        if layer.weights:
            target.get_layer(layer.name).set_weights(layer.get_weights())


def save_model(model: keras.Model, path: Path) -> None:
    """Commit `model` to `path`. Raises ResourceError when the disk refuses."""
    with committed(path) as temporary:
        model.save(temporary)


def load_model(path: Path, *, image_size: tuple[int, int], num_classes: int) -> keras.Model:
    """Open a saved model and check that it keeps the invariant.

    Only the `.keras` format, in Keras' safe mode: no code from the file runs.

    Raises:
        RunError: the file is missing, damaged, or takes or returns something else.
    """
    model = open_keras_file(path)
    expected = [(None, *image_size, 3)], [(None, num_classes)]
    received = [tuple(t.shape) for t in model.inputs], [tuple(t.shape) for t in model.outputs]
    if received != expected:
        raise RunError(
            f"{printable(path)}: takes {received[0]} and returns {received[1]}, "
            f"and its run.json says {expected[0]} and {expected[1]}",
            "Use the model.keras that the run wrote.",
        )
    return model


def open_keras_file(path: Path) -> keras.Model:
    """Open any saved model, only in the `.keras` format and in Keras' safe mode: no code runs.

    Raises:
        RunError: the file is missing, damaged, or needs layers that are not Keras' own.
    """
    shown = printable(path)
    if not path.is_file():
        raise RunError(
            f"{shown}: there is no such file",
            "Name a run, or a model that Keras has saved as a .keras file.",
        )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises nearly anything for a damaged or hostile file.
        reason = printable(str(error).strip().split("\n")[0])[:200]
        raise RunError(
            f"{shown}: cannot be opened: {reason}",
            "The file is damaged, or not a model of stock Keras layers.",
        ) from error

"""The invariant of every model of a run, in memory and on disk.

The model takes RGB pixels 0..255 of shape (batch, height, width, 3), float32 or uint8. It ends in a
layer `logits` and a softmax named `probabilities`, consists of built-in Keras layers in one flat
graph, and computes in float32. Plain `keras.saving.load_model` opens it without cvtrain.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import warnings
import zipfile
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.errors import RunError, TrainingError
from cvtrain.models.keras_file import KerasFile, check_keras_file, unusable
from cvtrain.system.files import committed
from cvtrain.system.text import escape
from cvtrain.version import __version__

METADATA = "metadata.json"
"""Member of a `.keras` file with the date of Keras and the class names of cvtrain."""

_ANY_SIDE = 224  # pixels; of models that take images of any size
_LARGEST_OUTPUT = 2**28  # values of one layer for one image: 1 GiB
# Keras' words where weights are not in a file, and ours.
_LACKING = re.compile("objects could not be loaded|Skipping nested container")
_IS_LACKING = (
    "weights of its layers are missing or of other shapes; "
    "of a layer that two models in it share, Keras loses them in saving it"
)


def logits_model(model: keras.Model) -> keras.Model:
    """The model without its softmax; layers and weights are shared."""
    return keras.Model(model.input, model.get_layer("probabilities").input, name=model.name)


def weights_digest(model: keras.Model) -> str:
    """Identity of a model: SHA-256 over path, dtype, shape and bytes of every weight.

    The states of random generators (dropout) are not weights and are left out.
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
    """Copy the weights of the source to the layers of the same names in the target."""
    for layer in source.layers:
        if layer.weights:
            target.get_layer(layer.name).set_weights(layer.get_weights())


def is_finite(model: keras.Model) -> bool:
    """Whether all weights, including moving statistics, are finite."""
    return all(np.isfinite(weights).all() for weights in model.get_weights())


def save_model(model: keras.Model, path: Path, *, about: Mapping[str, Any] | None = None) -> None:
    """Commit `model` to `path`.

    Args:
        about: JSON values that are stored, with cvtrain's version, under the key `cvtrain` of the
            archive's metadata.json; Keras ignores them.

    Raises:
        TrainingError: the model has weights that are not finite.
        ResourceError: the file cannot be written.
    """
    if not is_finite(model):
        raise TrainingError(
            f"{escape(path)}: is not written, because the model has weights that are not finite",
            "Lower the learning rate, and train again.",
        )
    with committed(path) as temporary:
        model.save(temporary)
        if about is not None:
            _describe(temporary, {"version": __version__, **about})


def _describe(path: Path, about: Mapping[str, Any]) -> None:
    with (
        committed(path) as temporary,
        zipfile.ZipFile(path) as before,
        zipfile.ZipFile(temporary, "w") as after,
    ):
        for member in before.infolist():
            if member.filename == METADATA:
                described = json.loads(before.read(member)) | {"cvtrain": about}
                after.writestr(METADATA, json.dumps(described))
            else:
                with before.open(member) as source, after.open(copy(member), "w") as target:
                    shutil.copyfileobj(source, target)


def load_model(path: Path, *, image_size: tuple[int, int], num_classes: int) -> keras.Model:
    """Open a saved model and check that it keeps the invariant.

    Only the `.keras` format, and only what `keras_file` lets pass: no code from the file runs.

    Raises:
        RunError: the file is missing, damaged, or takes or returns something else.
    """
    model = open_keras_file(path)
    expected = [(None, *image_size, 3)], [(None, num_classes)]
    received = [tuple(t.shape) for t in model.inputs], [tuple(t.shape) for t in model.outputs]
    if received != expected:
        raise RunError(
            f"{escape(path)}: takes {received[0]} and returns {received[1]}, "
            f"and its run.json says {expected[0]} and {expected[1]}",
            "Use the model.keras that the run wrote.",
        )
    if not is_finite(model):
        raise RunError(
            f"{escape(path)}: has weights that are not finite",
            "No training of cvtrain ends so. Use the model.keras that the run wrote.",
        )
    return model


def open_keras_file(path: Path) -> keras.Model:
    """Open any saved model of Keras' own layers for images, in the `.keras` format alone.

    Raises:
        RunError: the file is missing or damaged, does not pass `keras_file`, lacks weights (as do
            all that Keras saves of models in which two models share a layer), or would take far
            more memory than the file has weights.
    """
    file = check_keras_file(path)
    try:
        _check_size(file)
        with warnings.catch_warnings():
            # Keras may leave layers as they are whose weights it does not find; it warns of no
            # model whose weights are all there.
            warnings.filterwarnings("error", "Skipping nested container")
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises nearly anything for a damaged or hostile file.
        lacking = _LACKING.search(str(error))
        raise unusable(path, ValueError(_IS_LACKING) if lacking else error) from error


def _check_size(file: KerasFile) -> None:
    """Refuse a model whose weights are not all in its file, or whose outputs are enormous.

    For that its graph is drawn once without weights, which takes no memory.
    """
    with backend.drawing():
        model = keras.saving.deserialize_keras_object(file.config, safe_mode=True)
        num_values = sum(math.prod(variable.shape) for variable in model.variables)
        shapes = [tensor.shape for call in _calls(model) for tensor in call.outputs]
    # Twice, because layers that two models share are drawn as two.
    if num_values > 2 * file.num_values + 1000:
        raise ValueError(f"it needs {num_values:,} weights and has {file.num_values:,}")
    for shape in shapes:
        if math.prod(side or _ANY_SIDE for side in shape[1:]) > _LARGEST_OUTPUT:
            raise ValueError(f"one of its layers returns {shape}")


def _calls(model: keras.Model) -> list[Any]:
    """Every call of a layer or operation in the graphs of a model and of those inside it."""
    operations = [
        operation
        for layer in model._flatten_layers()
        for operation in (layer, *getattr(layer, "operations", ()))
    ]
    return [call for operation in operations for call in operation._inbound_nodes]

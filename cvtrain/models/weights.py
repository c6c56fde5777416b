"""Read the weights of a pretrained network from an untrusted file.

Files are HDF5, in one of two layouts. Only plain arrays of the expected shapes are read: no links,
no data in other files, nothing compressed.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cvtrain.backend import keras
from cvtrain.errors import RunError
from cvtrain.models import foreign_models as formats
from cvtrain.models.hdf5 import check_array, child, is_hdf5, opened
from cvtrain.system.text import escape, reason_of

if TYPE_CHECKING:
    import h5py

_MOST_TOP_LAYERS = 3
"""Number of layers with weights in a classifier of `keras.applications`: fc1, fc2, predictions."""
_MOST_NAMES = 10_000
_OF_TENSORFLOW = {formats.MODELS[suffix] for suffix in (".pb", ".ckpt")}
_MOST_OF_LAYER = 8
"""Maximum number of weights of one layer, reached by attention."""


def load_weights(network: keras.Model, path: Path, *, name: str) -> None:
    """Read the weights of `network` from a file of `keras.applications`.

    Args:
        network: as `keras.applications` builds it without its classifier.
        path: `.h5` as older Keras wrote it, or `.weights.h5`; with or without the classifier.
        name: of the network, for errors.

    Raises:
        RunError: the file is missing or damaged, or belongs to another network; the weights of
            `network` are undefined then.
    """
    require_weights(path, name=name)
    shown = escape(path)
    try:
        with opened(path) as file:
            layout = _keras3_layers if file.id.links.exists(b"layers") else _h5_layers
            for layer, group, names, variables in layout(file, network):
                if len(names) != len(variables):
                    raise ValueError(
                        f"layer {layer} has {len(names)} weights and should have {len(variables)}"
                    )
                for weight, variable in zip(names, variables, strict=True):
                    variable.assign(_read(group, weight, tuple(variable.shape), layer))
    except Exception as error:  # HDF5 raises nearly anything for a damaged or hostile file.
        reason = reason_of(error)
        raise RunError(
            f"{shown}: not usable as the weights of {name}: {reason}",
            _advice_for(path),
        ) from error


def require_weights(path: Path, *, name: str) -> None:
    """Raise RunError, with advice, unless `path` is an HDF5 file."""
    if is_hdf5(path):
        return
    what, shown = formats.what_is(path), escape(path)
    raise RunError(
        f"{shown}: {what}; expected the weights of {name} in HDF5", _advice_for_other(path)
    )


def _advice_for_other(path: Path) -> str:
    """Advice for a file that is not HDF5."""
    kinds = "backbone.weights: is imagenet, none, a file of Keras' weights or a finished run."
    if (path.parent / "run.json").is_file():
        return f"Name its run, and leave out backbone.name: backbone.weights: {path.parent}"
    if formats.is_keras_archive(path):
        if formats.is_of_cvtrain(path):
            return f"It is the model of a run: name the folder of that run. {kinds}"
        return formats.how_to_save_weights(path)
    if (path / "saved_model.pb").is_file() or formats.model_at(path) in _OF_TENSORFLOW:
        return (
            f"Save its weights, where it was made: model.save_weights('NAME.weights.h5'). {kinds}"
        )
    if unpacking := formats.how_to_unpack(path):
        return unpacking
    is_of_others = not path.is_file() or formats.is_of_others(path)
    return kinds if is_of_others else formats.how_to_restore(path)


def _advice_for(path: Path) -> str:
    """Advice for an HDF5 file that does not fit the network."""
    if formats.nested_backbone(path):
        return f"Its layers lie in a model inside it. {formats.how_to_save_weights(path)}"
    if name := _nested_weights(path):
        return (
            f"Its layers lie in a model inside it. Save that alone, where it was made: "
            f"model.get_layer({name}).save_weights('NAME.weights.h5')"
        )
    return "Use a file that Keras wrote for this network and this alpha, or weights: imagenet."


_Layer = tuple[str, "h5py.Group", Sequence[str], Sequence["keras.Variable"]]
"""Name of the layer, group of its arrays, their names, and the variables in the same order."""


def _h5_layers(file: h5py.File, network: keras.Model) -> Iterator[_Layer]:
    """The layout of Keras 2: layers in the order of computation; their names do not matter."""
    root = file if _has_names(file) else child(file, "model_weights")  # of a whole model
    stored = []
    for name in _names(root, "layer_names"):
        group = child(root, name)
        if names := _names(group, "weight_names"):
            stored.append((group, names))
    layers = [layer for layer in network.layers if layer.weights]
    _check_count(len(stored), len(layers))
    for (group, names), layer in zip(stored, layers, strict=False):  # then come those of the top
        yield layer.name, group, names, layer.trainable_weights + layer.non_trainable_weights


def _keras3_layers(file: h5py.File, network: keras.Model) -> Iterator[_Layer]:
    """Keras 3's layout: layers by class, numbered in the order of computation."""
    stored = set()
    root = child(file, "layers")
    root.visit(lambda path: stored.add(path.rpartition("/vars/")[0]))
    stored = {path for path in stored if path and not path.endswith("seed_generator")}
    layers = list(_keras3_paths(network.layers))
    _check_count(len(stored), len(layers))
    for path, layer in layers:
        if path not in stored:
            raise ValueError(f"it has nothing at layers/{path}, which should be layer {layer.name}")
        group = child(root, f"{path}/vars")
        yield layer.name, group, sorted(group, key=int), layer.weights


def _keras3_paths(
    layers: Sequence[keras.Layer], root: str = ""
) -> Iterator[tuple[str, keras.Layer]]:
    numbers: Counter[str] = Counter()
    for layer in layers:
        kind = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
        kind = re.sub(r"([a-z])([A-Z])", r"\1_\2", kind).lower()
        path = f"{root}{kind}_{numbers[kind]}" if numbers[kind] else f"{root}{kind}"
        numbers[kind] += 1
        if hasattr(layer, "layers"):
            yield from _keras3_paths(layer.layers, f"{path}/layers/")
        elif layer.weights:
            yield path, layer


def _check_count(received: int, expected: int) -> None:
    if not expected <= received <= expected + _MOST_TOP_LAYERS:
        raise ValueError(
            f"it has {received} layers with weights and should have {expected}, "
            f"or up to {_MOST_TOP_LAYERS} more with a classifier"
        )


def _has_names(group: h5py.Group) -> bool:
    return "layer_names" in group.attrs or "layer_names0" in group.attrs


def _names(group: h5py.Group, key: str) -> list[str]:
    """A list of names; an attribute holds 64 KiB, longer lists are spread over key0, key1, ..."""
    import h5py

    keys = [key] if key in group.attrs else (f"{key}{i}" for i in itertools.count())
    names = []
    for each in itertools.takewhile(group.attrs.__contains__, keys):
        attribute = group.attrs.get_id(each)
        size = math.prod(attribute.shape)
        if size:  # a list of none has no type
            if size > _MOST_NAMES or not h5py.check_string_dtype(attribute.dtype):
                raise ValueError(f"{each} is not a list of names")
            found = group.attrs[each]
            names += [name.decode() if isinstance(name, bytes) else name for name in found]
    return names


def _read(group: h5py.Group, path: str, shape: tuple[int, ...], layer: str) -> np.ndarray:
    import h5py

    array = child(group, path)
    if not isinstance(array, h5py.Dataset) or array.dtype.kind not in "fiu":
        raise ValueError(f"{path} of layer {layer} is not an array of numbers")
    if array.shape != shape:
        raise ValueError(f"layer {layer}: {path} is {array.shape} and should be {shape}")
    check_array(array)
    values = array[()]
    if not np.isfinite(values).all():
        raise ValueError(f"layer {layer}: {path} is not finite")
    return values


def _nested_weights(path: Path) -> str:
    """The layer, as code, that is a model with most of the weights of a file; empty if none is."""
    counts: Counter[str] = Counter()
    with contextlib.suppress(Exception), opened(path) as file:
        if _has_names(file):
            for layer in _names(file, "layer_names"):
                counts[repr(escape(layer))] = len(_names(child(file, layer), "weight_names"))
        else:
            paths: list[str] = []
            file.visit(paths.append)
            of_model = re.compile(r"layers/[^/]+/layers/.+")
            for each in paths:
                is_nested = of_model.fullmatch(each)
                counts["NAME" if is_nested else ""] += "/vars/" in each
    name, most = max(counts.items(), key=lambda each: each[1], default=("", 0))
    return name if most > max(_MOST_OF_LAYER, counts.total() / 2) else ""

"""Digests that identify features: equal keys mean equal features.

A feature is a function of an image's pixels and of a model up to one of its outputs. Each of the
two has a key, which covers everything that could change the feature. It does not cover names,
seeds, files and layers after the output.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from typing import Any

import cv2

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.images.augment import AUGMENT_VERSION
from cvtrain.models.transfer import layer_digest
from cvtrain.sections import Augment

# Settings of a layer that cannot change its output: the digest of the weights covers the weights.
_WITHOUT_EFFECT = {"name", "trainable", "seed", "momentum"}
_WITHOUT_EFFECT_ENDINGS = ("_initializer", "_regularizer", "_constraint")


def model_keys(model: keras.Model, *, dtype: str) -> list[str]:
    """The key of each output of a functional model, in hexadecimal digits.

    It covers every layer that the output is computed from, with its weights, precision and
    connections, the versions of Keras and of the backend, and the type of the stored values.

    Args:
        model: A flat model.
        dtype: Type of the stored values, `bfloat16` or `float32`.
    """
    config = model.get_config()
    layers = {layer.name: layer for layer in model.layers}
    calls: dict[tuple[str, int], str] = {}

    def tensor(name: str, call: int, position: int) -> list:
        return [calls[name, call], position]

    def wired(value: Any) -> Any:
        """Replace each tensor in the arguments of a call by the key of the call that returns it."""
        if isinstance(value, dict):
            if value.get("class_name") == "__keras_tensor__":
                return tensor(*value["config"]["keras_history"])
            return {key: wired(each) for key, each in value.items()}
        return [wired(each) for each in value] if isinstance(value, list | tuple) else value

    for layer in config["layers"]:  # in the order of computation
        settings = {
            key: value
            for key, value in layer["config"].items()
            if key not in _WITHOUT_EFFECT and not key.endswith(_WITHOUT_EFFECT_ENDINGS)
        }
        name = layer["name"]
        weights = layer_digest(layers[name]) if name in layers else None
        what = [layer["module"], layer["class_name"], settings, weights]
        for number, arguments in enumerate(layer["inbound_nodes"] or [None]):
            calls[name, number] = _digest([what, wired(arguments)])

    outputs = config["output_layers"]
    if isinstance(outputs[0], str):  # a single output is not in a list
        outputs = [outputs]
    versions = backend.versions()
    engine = {name: versions[name] for name in ("keras", backend.engine_name())}
    return [_digest([tensor(*output), dtype, engine]) for output in outputs]


def image_keys(
    pixels: Sequence[bytes],
    augmentation: Augment | None = None,
    *,
    seed: int = 0,
    num_views: int = 1,
) -> list[bytes]:
    """The keys of the views of some samples: 32 bytes each, view by view.

    Args:
        pixels: SHA-256 of the decoded pixels of each sample, from `PixelCache.digests`.
        augmentation: Augmentation of the views; None: every view is the image itself.
        seed: Random seed of the augmentation.
        num_views: Number of views; view v is the image as `images.augment.augment` changes it in
            epoch v.

    Returns:
        The keys, that of view v of sample i at index v * len(pixels) + i.
    """
    # Only settings that have an effect, so that new settings in later versions do not change keys.
    settings = augmentation.image_changes if augmentation else {}
    if not settings:
        return [hashlib.sha256(digest).digest() for digest in pixels] * num_views
    change = _digest([AUGMENT_VERSION, cv2.__version__, settings, seed])
    base = hashlib.sha256(change.encode())
    keys = []
    for view in range(num_views):
        for sample, digest in enumerate(pixels):
            key = base.copy()
            key.update(digest + struct.pack("<QQ", view, sample))
            keys.append(key.digest())
    return keys


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

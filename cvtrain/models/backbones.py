"""The networks of `keras.applications` as flat models of RGB pixels."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cvtrain.backend import keras
from cvtrain.errors import ConfigError, ResourceError
from cvtrain.models.blocks import graph_nodes
from cvtrain.models.convnet import seed_of
from cvtrain.models.weights import load_weights
from cvtrain.sections.architectures import ARCHITECTURES, Architecture
from cvtrain.system.text import escape

_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])  # of RGB in 0..1, as are the deviations
_IMAGENET_STD = np.array([0.229, 0.224, 0.225])
_PREPROCESSING: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "caffe": (np.eye(3)[::-1], -np.array([103.939, 116.779, 123.68])),
    "tf": (np.eye(3) / 127.5, np.full(3, -1.0)),
    "torch": (np.diag(1 / (255 * _IMAGENET_STD)), -_IMAGENET_MEAN / _IMAGENET_STD),
}
"""Matrix (in, out) and offset of each mode: they are all affine maps of the RGB values."""


def build_backbone(
    name: str,
    *,
    image_size: Sequence[int],
    weights: Path | Literal["imagenet"] | None,
    alpha: float | None = None,
    seed: int = 0,
) -> keras.Model:
    """Build a network without its classifier: RGB pixels 0..255 in, the last feature map out.

    The graph is flat and in float32: `images` (height, width, 3), float32 or uint8; `preprocess`,
    a frozen 1x1 convolution, unless the network begins with a preprocessing of its own; its
    layers. Names and initial weights do not depend on what the process has built before.

    Args:
        name: a key of `ARCHITECTURES`.
        image_size: height, width in pixels.
        weights: `imagenet`, which Keras downloads once and checks by its digest; a file, as
            `load_weights` takes it; None: random, scaled so that the output of every layer has
            about size 1.
        alpha: width of a MobileNet relative to the full one; None is 1.
        seed: the random weights depend on it and on the architecture alone.

    Raises:
        ConfigError: there is no such network, or not with this size or alpha.
        ResourceError: the weights cannot be downloaded; the message names the file.
        RunError: the file is not readable or not of this network.
    """
    backbone = _checked(name, image_size, alpha)
    what = name if alpha is None else f"{name} with alpha {alpha}"
    width = {} if alpha is None else {"alpha": alpha}
    constructor = getattr(keras.applications, backbone.constructor)
    download = "imagenet" if weights == "imagenet" else None
    try:
        # Keras' progress goes where ours goes: stdout is for results.
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            # MobileNets have weights for some sizes alone; those of 224 pixels do for the others.
            warnings.filterwarnings("ignore", "`input_shape` is undefined")
            network = constructor(
                include_top=False, weights=download, input_shape=(*image_size, 3), **width
            )
    except ValueError as error:
        raise ConfigError(
            f"backbone: {what} cannot be built at {image_size[0]}x{image_size[1]}: "
            f"{str(error).strip().splitlines()[0]}",
            "Use larger images (data.image_size), another alpha or other weights.",
        ) from error
    except Exception as error:
        # A failed download is an OSError or Exception itself; any other kind is a defect.
        if download is None or not (isinstance(error, OSError) or type(error) is Exception):
            raise
        raise ResourceError(
            f"backbone.weights: cannot get the ImageNet weights of {what}: "
            f"{escape(str(error).strip().splitlines()[0])}",
            "Without a network: download that file elsewhere and say where it is with "
            "backbone.weights: FILE; or use weights: none.",
        ) from error
    if isinstance(weights, Path):
        load_weights(network, weights, name=what)
        if name.startswith("efficientnet_b"):
            _correct_normalization(network)
    flat = _flat(network, backbone, name=name, seed=seed, keep_weights=weights is not None)
    if weights is None:
        _scale_layers(flat, seed)
    return flat


def _checked(name: str, image_size: Sequence[int], alpha: float | None) -> Architecture:
    backbone = ARCHITECTURES.get(name)
    if backbone is None:
        raise ConfigError(
            f"backbone.name: there is no {name}", f"Use one of {', '.join(ARCHITECTURES)}."
        )
    if min(image_size) < backbone.smallest_side:
        raise ConfigError(
            f"data.image_size: {image_size[0]}x{image_size[1]} is too small for {name}",
            f"It needs {backbone.smallest_side} pixels on each side.",
        )
    if alpha is not None and not backbone.has_alpha:
        having = ", ".join(key for key, each in ARCHITECTURES.items() if each.has_alpha)
        raise ConfigError(
            f"backbone.alpha: {name} has no alpha, and {alpha} was given",
            f"Leave it out, or use one of {having}.",
        )
    return backbone


def _correct_normalization(network: keras.Model) -> None:
    # The ImageNet files of the first EfficientNets hold the deviations where the layer takes the
    # variances; Keras makes up for it in a layer that it adds for `weights="imagenet"` alone
    # (github.com/tensorflow/tensorflow/issues/49930).
    kind = keras.layers.Normalization
    mean, variance, _ = next(each for each in network.layers if isinstance(each, kind)).weights
    if np.allclose(mean.numpy(), _IMAGENET_MEAN, atol=1e-3):
        variance.assign(variance.numpy() * _IMAGENET_STD)


def _scale_layers(model: keras.Model, seed: int) -> None:
    """Let every batch normalisation of a random network return values of about size 1.

    Its statistics begin as mean 0 and variance 1, which normalises nothing before it is trained:
    the features of a random MobileNet would be 1e-21, and no step could change a weight. Here the
    variance is the mean square of what it gets of noise, one number for all channels, layer by
    layer: Mishkin and Matas (2016), All you need is a good init, algorithm 1. It is rounded to a
    power of two, so that it does not depend on the last bits of a machine's sums.
    """
    ops = keras.ops
    noise = np.random.default_rng(seed).uniform(0, 255, (2, *model.input_shape[1:]))
    values = {id(model.input): ops.convert_to_tensor(noise, "float32")}
    for node in graph_nodes(model):
        args, kwargs = node.arguments.fill_in(values)
        if isinstance(node.operation, keras.layers.BatchNormalization):
            mean_square = ops.mean(ops.square(args[0]))
            variance = node.operation.moving_variance
            variance.assign(ops.full(variance.shape, ops.exp2(ops.round(ops.log2(mean_square)))))
        outputs = node.operation(*args, **kwargs)
        values |= zip(map(id, node.outputs), keras.tree.flatten(outputs), strict=True)


def _flat(
    network: keras.Model, backbone: Architecture, *, name: str, seed: int, keep_weights: bool
) -> keras.Model:
    """Copy `network` onto an input of RGB pixels, layer by layer, under reproducible names."""
    images = keras.Input((*network.input.shape[1:],), name="images")
    pixels = _preprocess(images, backbone.preprocessing)
    new_names = _numbered_anew(network)
    copied: list[tuple[keras.Layer, keras.Layer]] = []

    def copy(operation: keras.Operation) -> keras.Operation:
        layer = _copy(operation, new_names.get(operation.name, operation.name), seed)
        if isinstance(operation, keras.Layer):
            copied.append((operation, layer))
        return layer

    def copy_flat(operation: keras.Operation) -> list[keras.Operation]:
        inner = operation.layers if isinstance(operation, keras.Sequential) else [operation]
        return [copy(each) for each in inner]

    def call(copies: list[keras.Operation], *args: Any, **kwargs: Any) -> Any:
        if len(copies) > 1:
            return functools.reduce(lambda x, layer: layer(x), copies, args[0])
        inputs = [pixels if argument is images else argument for argument in args]
        if isinstance(copies[0], keras.layers.Add) and len(inputs) == 2:
            return copies[0](inputs, **kwargs)
        return copies[0](*inputs, **kwargs)

    flat = keras.models.clone_model(
        network, input_tensors=images, clone_function=copy_flat, call_function=call
    )
    if keep_weights:
        for old, new in copied:
            if new.weights:
                new.set_weights(old.get_weights())
    return keras.Model(images, flat.output, name=name)


def _preprocess(images: keras.KerasTensor, mode: str) -> keras.KerasTensor:
    if mode == "inside":
        return images
    matrix, offset = _PREPROCESSING[mode]
    return keras.layers.Conv2D(
        3,
        1,
        kernel_initializer=keras.initializers.Constant(matrix[None, None].tolist()),
        bias_initializer=keras.initializers.Constant(offset.tolist()),
        trainable=False,
        dtype="float32",
        name="preprocess",
    )(images)


def _copy(operation: keras.Operation, name: str, seed: int) -> keras.Operation:
    if type(operation).__name__ == "Add" and len(keras.tree.flatten(operation.input)) == 2:
        # `x + y` of two tensors is an operation, and features can be taken from layers only.
        return keras.layers.Add(dtype="float32", name=name)
    config = operation.get_config() | {"name": name}
    if isinstance(operation, keras.Layer):
        config["dtype"] = "float32"
    if isinstance(operation, keras.layers.Normalization) and operation.weights:
        # As constants: as weights they count after `finalize_state` only, which is soon forgotten.
        mean, variance, _ = operation.get_weights()
        config |= {"mean": mean.tolist(), "variance": variance.tolist()}
    if "seed" in config:
        config["seed"] = seed_of(seed, name)
    for key, value in config.items():
        if key.endswith("_initializer") and "seed" in value["config"]:
            value["config"]["seed"] = seed_of(seed, f"{name}/{key}")
    return type(operation).from_config(config)


def _numbered_anew(network: keras.Model) -> dict[str, str]:
    """The names that Keras numbered in this process -> those that it would give in a new one.

    Layers without a name of their own are numbered by kind, and the count runs on from network to
    network: `add_3` of the second Xception is `add_15`.
    """
    numbered = defaultdict(list)
    for operation in network.operations:
        kind = re.sub(r"_\d+$", "", operation.name)
        number = operation.name[len(kind) + 1 :]
        if kind.replace("_", "") == type(operation).__name__.lower():
            numbered[kind].append((int(number or 0), operation.name))
    return {
        name: f"{kind}_{i}" if i else kind
        for kind, names in numbered.items()
        for i, (_, name) in enumerate(sorted(names))
    }

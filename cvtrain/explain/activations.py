"""The activations of the channels of layers for one image, with dead and constant channels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.errors import ConfigError
from cvtrain.explain.flat_model import (
    FlatModel,
    check_visible,
    find_layer,
    learns_something,
    node_of,
    operation_of,
)
from cvtrain.explain.graphs import operator_of

# The layers, and the operators of `keras.ops` that do the same.
_Kinds = tuple[tuple[type, ...], set[str]]
_LEAST_CHANGE = 1e-6  # of a channel's greatest value: less is rounding


@dataclass(frozen=True)
class LayerActivations:
    """The activations of a layer for one image.

    Attributes:
        layer: layer name.
        maps: (h, w, channels) float32, or (channels,) where the layer has no map.
        dead: (channels,) bool: channels that are zero everywhere for this image.
        constant: (channels,) bool: channels with one other value everywhere. False without a map.
    """

    layer: str
    maps: np.ndarray
    dead: np.ndarray
    constant: np.ndarray


def activation_reader(
    opened: FlatModel, layers: Sequence[str] | None = None
) -> Callable[[np.ndarray], list[LayerActivations]]:
    """Compile a function that computes the activations of all layers in one pass per image.

    Memory holds those of one image at a time.

    Args:
        opened: the model.
        layers: names; None for those of `default_layers`.

    Returns:
        A function of one image, (height, width, channels) as the model takes it.

    Raises:
        ConfigError: there is no such layer, or its output is neither a map nor a vector.
    """
    names = default_layers(opened) if layers is None else [find_layer(opened, n) for n in layers]
    for name in names:
        if len(opened.layers[name].shape) not in (2, 4):
            raise ConfigError(
                f"layer: the output of {name} is {opened.layers[name].shape}, no map of channels",
                f"Layers that have one: {', '.join(default_layers(opened))}.",
            )
    outputs = [opened.layers[name] for name in names]
    infer = opened.inference(keras.Model(opened.network.input, outputs))

    def read(image: np.ndarray) -> list[LayerActivations]:
        with backend.memory_errors():
            batches = infer(np.asarray(image, np.float32)[None])
        if len(names) == 1:  # Keras makes of a list of one output that output.
            batches = [batches]
        return [
            layer_activations(name, batch[0]) for name, batch in zip(names, batches, strict=True)
        ]

    return read


def layer_activations(layer: str, maps: np.ndarray) -> LayerActivations:
    """Find dead and constant channels; values that are not finite become zeros."""
    maps = np.nan_to_num(maps, nan=0, posinf=0, neginf=0)
    flat = maps.reshape(-1, maps.shape[-1])
    greatest = np.abs(flat).max(axis=0)
    dead = greatest == 0
    constant = (np.ptp(flat, axis=0) <= _LEAST_CHANGE * greatest) & ~dead & (len(flat) > 1)
    return LayerActivations(layer, maps, dead, constant)


def default_layers(opened: FlatModel) -> list[str]:
    """Every convolution and pooling, in the order of computation, as the next layers receive it.

    Where a convolution goes into nothing but a normalisation or an activation of its own, the last
    of these stands for it: what relu will cut off is not yet known before it. In a model without
    convolutions the other layers that learn stand for them.

    Raises:
        ConfigError: as `layers_with_filters` does.
    """
    learning = layers_with_filters(opened)
    pooling = [name for name, tensor in opened.layers.items() if _is_one(tensor, _poolings())]
    return follow_to_activation(
        opened, [name for name in opened.layers if name in (*learning, *pooling)]
    )


def layers_with_filters(opened: FlatModel) -> list[str]:
    """The convolutions; where there are none, all layers that learn and return channels.

    Raises:
        ConfigError: there is none of them either, or the layers of this model cannot be seen.
    """
    check_visible(opened)
    tensors = {name: x for name, x in opened.layers.items() if name != "preprocess"}
    found = [name for name, tensor in tensors.items() if _is_one(tensor, _convolutions())]
    found = found or [
        name
        for name, tensor in tensors.items()
        if learns_something(operation_of(tensor))
        and len(tensor.shape) in (2, 4)
        and not _is_one(tensor, _following())
    ]
    if not found:
        raise ConfigError(
            f"{opened.network.name} has no convolution, and no other layer of channels that learns",
            "Name a layer with channels: --layer NAME.",
        )
    return found


def follow_to_activation(opened: FlatModel, names: Iterable[str]) -> list[str]:
    """Instead of each layer the last of those that normalise and activate its output alone."""
    followers = _followers(opened)

    def last(name: str) -> str:
        if len(followers[name]) == 1:
            (follower,) = followers[name]
            if _is_one(opened.layers[follower], _following()):
                return last(follower)
        return name

    return list(dict.fromkeys(map(last, names)))


def _is_one(tensor: keras.KerasTensor, kinds: _Kinds) -> bool:
    operation, (layers, operators) = operation_of(tensor), kinds
    wrapped = getattr(operation, "layer", operation)  # in spectral normalisation
    return isinstance(wrapped, layers) or operator_of(operation) in operators


def _followers(opened: FlatModel) -> dict[str, list[str]]:
    """For each layer those that take its output."""
    names = {id(tensor): name for name, tensor in opened.layers.items()}
    followers: dict[str, list[str]] = {name: [] for name in opened.layers}
    for name, tensor in opened.layers.items():
        for source in node_of(tensor).input_tensors:
            if id(source) in names:
                followers[names[id(source)]].append(name)
    return followers


@functools.cache
def _convolutions() -> _Kinds:
    layers = keras.layers
    return (
        (
            layers.Conv2D,
            layers.Conv2DTranspose,
            layers.DepthwiseConv2D,
            layers.SeparableConv2D,
        ),
        {"Conv", "ConvTranspose", "DepthwiseConv", "SeparableConv"},
    )


@functools.cache
def _poolings() -> _Kinds:
    layers = keras.layers
    return (
        (
            layers.MaxPooling2D,
            layers.AveragePooling2D,
            layers.GlobalMaxPooling2D,
            layers.GlobalAveragePooling2D,
        ),
        {"MaxPool", "AveragePool"},
    )


@functools.cache
def _following() -> _Kinds:
    layers = keras.layers
    return (
        (
            layers.BatchNormalization,
            layers.LayerNormalization,
            layers.GroupNormalization,
            layers.UnitNormalization,
            layers.Activation,
            layers.ReLU,
            layers.LeakyReLU,
            layers.PReLU,
            layers.ELU,
        ),
        {name.title().replace("_", "") for name in dir(keras.activations) if name[0] != "_"},
    )

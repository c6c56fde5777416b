"""Calling the layers of any model again: as copies of their own, or from another place on.

A functional model is a graph of calls; models inside it are calls like any other, with graphs of
their own. Walking through the calls in order and making them again, on other tensors, is all it
takes to flatten a model, to copy it, and to cut it in two.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cvtrain.backend import keras
from cvtrain.models.blocks import graph_nodes


def operation_of(tensor: keras.KerasTensor) -> keras.Operation:
    """The layer or the operation of `keras.ops` that computes a tensor of `FlatModel.layers`."""
    return tensor._keras_history.operation


def operator_of(operation: keras.Operation) -> str:
    """The class name of an operation, such as `Relu` of `keras.ops.relu`; empty for a layer."""
    return "" if isinstance(operation, keras.Layer) else type(operation).__name__


def node_of(tensor: keras.KerasTensor) -> Any:
    """The call that computes a tensor."""
    return operation_of(tensor)._inbound_nodes[tensor._keras_history.node_index]


def narrow_indices(model: keras.Model) -> list[keras.KerasTensor]:
    """The tensors through which every path from the input to the output passes, in order."""
    calls = list(graph_nodes(model))
    last_use = dict.fromkeys(map(id, model.inputs), 0)
    for i, node in enumerate(calls):
        last_use |= dict.fromkeys(map(id, node.outputs), i)
        last_use |= dict.fromkeys(map(id, node.input_tensors), i)
    found = []
    # The order is one of computation: nothing from before a narrow place is used after it.
    reach = max(last_use[id(tensor)] for tensor in model.inputs)
    for i, node in enumerate(calls):
        if reach <= i and len(node.outputs) == 1:
            found.extend(node.outputs)
        reach = max(reach, *(last_use[id(tensor)] for tensor in node.outputs))
    return found


def replay(
    calls: Iterable[Any],
    tensors: dict[int, keras.KerasTensor],
    call: Callable[..., Any] = lambda operation, *args, **kwargs: operation(*args, **kwargs),
) -> None:
    """Make the calls again, on other tensors.

    Args:
        calls: as `graph_nodes` gives them.
        tensors: for the id of each tensor that they start from, what takes its place. What takes
            the place of the tensors that they compute is added.
        call: makes one call.
    """
    for node in calls:
        args, kwargs = node.arguments.fill_in(tensors)
        outputs = keras.tree.flatten(call(node.operation, *args, **kwargs))
        tensors.update(zip(map(id, node.outputs), outputs, strict=True))


def is_graph(operation: keras.Operation) -> bool:
    """Is it a Functional or Sequential model that computes its graph and nothing else?"""
    if not isinstance(operation, keras.Model):
        return False
    return type(operation).call.__qualname__ in ("Functional.call", "Sequential.call")


def unique_names(model: keras.Model) -> dict[int, str]:
    """A unique name for every layer and operation inside the graphs, by id."""
    found = {id(each): (each.name, path) for each, path in _leaves(model, ())}
    counts = Counter(name for name, _ in found.values())
    return {
        key: name if counts[name] == 1 else ".".join((*path, name))
        for key, (name, path) in found.items()
    }


def _leaves(
    operation: keras.Operation, path: tuple[str, ...]
) -> Iterator[tuple[keras.Operation, tuple[str, ...]]]:
    if not is_graph(operation):
        yield operation, path
        return
    inside = operation.layers if isinstance(operation, keras.Sequential) else operation.operations
    for each in inside:
        yield from _leaves(each, (*path, each.name) if is_graph(each) else path)


@dataclass
class Copies:
    """Calls layers again as copies with the same weights; a layer has one copy.

    Attributes:
        names: of the copies, by the ids of the originals.
        layers: see FlatModel.
    """

    names: Mapping[int, str]
    layers: dict[str, keras.KerasTensor] = field(default_factory=dict)
    _copies: dict[int, keras.Operation] = field(default_factory=dict)
    _calls: Counter[str] = field(default_factory=Counter)

    def call(self, operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        """Call a copy of the operation; follow it inside if it is a graph."""
        if is_graph(operation):
            return self._run(operation, *args, **kwargs)
        if type(operation) in _augmentations():
            return args[0]
        if "training" in kwargs:
            kwargs["training"] = False
        if copy := self._copies.get(id(operation)):
            outputs = copy(*args, **kwargs)
        else:
            # Torch's modules take no dots in names.
            name = self.names[id(operation)].replace(".", "_")
            copy, outputs = _copied(operation, name, args, kwargs)
            self._copies[id(operation)] = copy
        name = self.names[id(operation)]
        if isinstance(outputs, keras.KerasTensor):
            times = self._calls[name]
            self.layers[f"{name}:{times}" if times else name] = outputs
        self._calls[name] += 1
        return outputs

    def _run(self, model: keras.Model, inputs: Any, *_training: Any, **_masks: Any) -> Any:
        if isinstance(model, keras.Sequential):
            for layer in model.layers:
                inputs = self.call(layer, inputs)
            return inputs
        tensors = dict(zip(map(id, model.inputs), keras.tree.flatten(inputs), strict=True))
        replay(graph_nodes(model), tensors, self.call)
        return keras.tree.map_structure(lambda tensor: tensors[id(tensor)], model.output)


def _copied(
    operation: keras.Operation, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[keras.Operation, Any]:
    """A copy of a layer or an operation with what its first call returns."""
    try:
        copy = type(operation).from_config(_in_float32(operation.get_config()))
        copy.name = name
        # The call builds it.
        outputs = copy(*args, **kwargs)
        if isinstance(copy, keras.Layer):
            copy.set_weights(operation.get_weights())
            for layer in copy._flatten_layers():
                if isinstance(layer, keras.layers.Normalization):
                    layer.finalize_state()  # It computes with constants made of its weights.
    except Exception:  # Custom layers may raise any exception; the layer itself is called instead.
        copy = (
            _sealed_class()(operation, name=name)
            if isinstance(operation, keras.Layer)
            else operation
        )
        outputs = copy(*args, **kwargs)
    return copy, outputs


@functools.cache
def _sealed_class() -> type[keras.Layer]:
    class Sealed(keras.Layer):
        """A custom layer called with copies of its weights; the layer itself is not changed."""

        def __init__(self, layer: keras.Layer, *, name: str):
            super().__init__(name=name, dtype=layer.dtype_policy)
            # In a closure: Keras would count the weights of an attribute among those of this layer.
            self.borrowed = lambda: layer
            self.own = [
                keras.Variable(each.numpy(), dtype=each.dtype, autocast=each._autocast)
                for each in layer.weights
            ]

        def call(self, *args: Any, **kwargs: Any) -> Any:
            layer = self.borrowed()
            # Read at each call: JAX computes in a stateless scope with values of its own.
            values = [variable.value for variable in self.own]
            with keras.StatelessScope(zip(layer.weights, values, strict=True)):
                return layer(*args, **kwargs)

    return Sealed


def _in_float32(config: Any) -> Any:
    """The config of a layer with every other precision in it, at any depth, replaced."""
    others = ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64")
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy" and config["config"]["name"] in others:
            return "float32"
        return {
            key: "float32"
            if key == "dtype" and isinstance(value, str) and value in others
            else _in_float32(value)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return type(config)(map(_in_float32, config))
    return config


@functools.cache
def _augmentations() -> set[type]:
    layers = keras.layers
    return {
        *(layers.AugMix, layers.CutMix, layers.MixUp, layers.RandAugment),
        *(getattr(layers, name) for name in dir(layers) if name.startswith("Random")),
    } - {layers.RandomCrop}  # which resizes

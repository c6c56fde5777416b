"""The blocks of a flat model, and the layers where it can be cut."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cvtrain.backend import keras
from cvtrain.errors import ConfigError


@dataclass(frozen=True)
class Block:
    """A block of a network.

    Attributes:
        name: prefix of the names of its layers.
        layer: name of its last layer through which all data passes.
    """

    name: str
    layer: str


_BLOCK = re.compile(
    r"""(?P<block>
        convnext_\w+_(?:stage_\d+_block_\d+ | stem)
      | conv\d+_block\d+                      # ResNet, DenseNet
      | pool\d+ (?=_(?:bn|relu|conv))         # DenseNet's transitions
      | block_\d+ | expanded_conv(?:_\d+)?    # MobileNetV2, V3
      | block\d+_\d+                          # InceptionResNetV2
      | block\d+[a-z]?                        # VGG, Xception, EfficientNet
      | mixed_?\d+[a-z]?                      # Inception
      | (?:normal|reduction)_concat_\w+       # NASNet
      | [Cc]onv_?\d+b? | conv | stem | top
    )(?:_|$)""",
    re.VERBOSE,
)
_BLOCK_IN_PARTS: dict[re.Pattern[str], str] = {
    re.compile(r"conv_(?:pad|dw|pw)_(\d+)(?:_|$)"): r"conv_pw_\1",  # MobileNet
    re.compile(r"(\w+_downsampling)_(?:layernorm|conv)_(\d+)$"): r"\1_block_\2",  # ConvNeXt
}


def blocks(model: keras.Model) -> list[Block]:
    """The blocks of a flat model up to its classifier, in the order of computation.

    A block ends where the whole graph narrows to one tensor, so a branch is not a block. Layers
    without the name of a block (`add_3`, `out_relu`) belong to the block of the layer before them,
    or to `stem` before the first block.
    """
    narrow = set(narrow_layers(model))
    ends: dict[str, str] = {}
    block = "stem"
    for layer in _base_layers(model):
        block = _block_of(layer.name) or block
        if layer.name in narrow:
            ends[block] = layer.name
    return [Block(name, layer) for name, layer in ends.items()]


def find_cut(model: keras.Model, cut: str | None, *, key: str = "backbone.cut") -> str:
    """The name of the layer where a flat model is cut.

    Args:
        model: from `build_backbone`, or of a run; a head, from the layer `features` on, is ignored.
        cut: a layer, or a block for its last layer; None: the end of the last block.
        key: key of the config that is named in errors.

    Raises:
        ConfigError: the model has no such block or layer.
    """
    ends = {block.name: block.layer for block in blocks(model)}
    if cut is None:
        return list(ends.values())[-1]
    names = [layer.name for layer in _base_layers(model)]
    if cut not in ends and cut not in names:
        near = difflib.get_close_matches(cut, [*ends, *names])
        raise ConfigError(
            f"{key}: {model.name} has no block and no layer {cut}",
            (f"Did you mean {' or '.join(near)}? " if near else "")
            + f"Its blocks: {', '.join(ends)}.",
        )
    return ends.get(cut, cut)


def narrow_layers(model: keras.Model) -> list[str]:
    """The layers through which every path from the input to the output passes, in depth order.

    Where a flat model is split after one of them, one tensor passes between the two parts.
    """
    # Depth order is topological: a layer is narrow if nothing computed before it is used after it.
    position = {id(operation.output): i for i, operation in enumerate(model.operations)}
    last_use = list(range(len(position)))
    for i, operation in enumerate(model.operations):
        for tensor in keras.tree.flatten(operation.input):
            if id(tensor) in position:
                last_use[position[id(tensor)]] = i
    narrow, reach = [], 0
    for i, operation in enumerate(model.operations):
        if reach <= i and isinstance(operation, keras.Layer):
            narrow.append(operation.name)
        reach = max(reach, last_use[i])
    return narrow


def graph_nodes(model: keras.Model) -> Iterator[Any]:
    """The calls in the graph of a functional model, in an order of computation."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from (node for node in model._nodes_by_depth[depth] if not node.is_input)


def _base_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers from the first that has learnt something up to the classifier."""
    backbone: list[keras.Layer] = []
    for layer in model.layers:
        if layer.name == "features":
            break
        if backbone or (layer.weights and layer.name != "preprocess"):
            backbone.append(layer)
    return backbone


def _block_of(name: str) -> str | None:
    for pattern, block in _BLOCK_IN_PARTS.items():
        if match := pattern.match(name):
            return match.expand(block)
    match = _BLOCK.match(name)
    return match["block"] if match else None

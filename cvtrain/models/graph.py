"""The calls that make up a functional model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cvtrain.backend import keras


def graph_nodes(model: keras.Model) -> Iterator[Any]:
    """The calls in the graph of a functional model, in an order of computation."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from (node for node in model._nodes_by_depth[depth] if not node.is_input)

"""Receptive fields: the pixels of the input on which the cells of a layer depend.

By the recurrences of A. Araujo, W. Norris and J. Sim (2019), Computing Receptive Fields of
Convolutional Neural Networks, distill.pub, equations 1 to 4, along each axis on its own.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from math import ceil

from cvtrain.backend import keras
from cvtrain.models.blocks import graph_nodes


@dataclass(frozen=True)
class ReceptiveField:
    """The receptive fields of the cells of a tensor along one axis, in pixels of the input.

    Attributes:
        begin: where the first cell begins, if the cells are tiles, each around the middle of what
            it sees.
        step: from one cell to the next.
        low, high: field of the first cell, low <= pixel < high; below zero it is padding.
    """

    begin: float
    step: float
    low: float
    high: float

    @property
    def size(self) -> int:
        """Number of pixels in the field of a cell, including those beyond the border."""
        return round(self.high - self.low)

    @property
    def border(self) -> int:
        """Number of cells at the low border whose fields include padding."""
        return max(0, ceil(-self.low / self.step))


def receptive_fields(network: keras.Model, axis: int) -> dict[int, ReceptiveField]:
    """The field of each tensor of a flat network of images, by the id of the tensor.

    A tensor is missing if its cells are not positions in the image, or if an unknown layer comes
    before it. Where branches merge, the field covers those of all branches of the same size; a
    branch of another size, such as the factors of channels in squeeze and excitation, is ignored.

    Args:
        network: with one input (n, height, width, channels) of a known size.
        axis: 1 for rows, 2 for columns.
    """
    found = {id(network.input): ReceptiveField(0.0, 1.0, 0.0, 1.0)}
    for node in graph_nodes(network):
        output = node.outputs[0]
        before = [each for each in node.input_tensors if id(each) in found]
        if len(output.shape) != 4 or not before:
            continue
        before = [each for each in before if each.shape[axis] == output.shape[axis]] or before[:1]
        fields = [found[id(each)] for each in before]
        united = replace(
            fields[0], low=min(f.low for f in fields), high=max(f.high for f in fields)
        )
        if field := _after(node.operation, axis, united, before[0], output):
            found[id(output)] = field
    return found


def _after(
    operation: keras.Operation,
    axis: int,
    field: ReceptiveField,
    before: keras.KerasTensor,
    after: keras.KerasTensor,
) -> ReceptiveField | None:
    """The field of an operation's output, from that of its input; None where it is not known."""
    i = axis - 1
    if isinstance(operation, _convolutions() + _poolings()):
        pooling = isinstance(operation, _poolings())
        window = (operation.pool_size if pooling else operation.kernel_size)[i]
        stride = operation.strides[i]
        if not pooling:
            window = (window - 1) * operation.dilation_rate[i] + 1
        padding = 0
        if operation.padding == "same":
            padding = max(window - (before.shape[axis] % stride or stride), 0) // 2
        middle = field.begin + field.step * (window / 2 - padding)
        return ReceptiveField(
            begin=middle - field.step * stride / 2,
            step=field.step * stride,
            low=field.low - field.step * padding,
            high=field.high + field.step * (window - 1 - padding),
        )
    if isinstance(operation, keras.layers.ZeroPadding2D):
        return _shifted(field, -operation.padding[i][0])
    if isinstance(operation, keras.layers.Cropping2D):
        return _shifted(field, operation.cropping[i][0])
    if before.shape[axis] == after.shape[axis]:
        return field
    if not isinstance(operation, keras.layers.UpSampling2D | keras.layers.Resizing):
        return None
    return replace(field, step=field.step * before.shape[axis] / after.shape[axis])


def _shifted(field: ReceptiveField, cells: int) -> ReceptiveField:
    by = field.step * cells
    return ReceptiveField(field.begin + by, field.step, field.low + by, field.high + by)


@functools.cache
def _convolutions() -> tuple[type[keras.Layer], ...]:
    layers = keras.layers
    return (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)


@functools.cache
def _poolings() -> tuple[type[keras.Layer], ...]:
    layers = keras.layers
    return (layers.MaxPooling2D, layers.AveragePooling2D)

"""Where in the image the cells of a layer look.

A map is commonly stretched over the whole image. That is right where every convolution pads what it
takes. Where they do not, each takes cells off the borders: after four stages the 15 x 15 cells of a
convnet look at the middle 120 of 150 pixels, and stretching would move what they saw outwards, by
up to a tenth of the image.
"""

import numpy as np

from cvtrain.backend import keras
from cvtrain.visuals.explanation import Box
from cvtrain.visuals.graphs import nodes
from cvtrain.visuals.opened import OpenedModel, find_spatial_layer

_layers = keras.layers
_CONVOLUTIONS = (_layers.Conv2D, _layers.DepthwiseConv2D, _layers.SeparableConv2D)
_POOLING = (_layers.MaxPooling2D, _layers.AveragePooling2D)


def field_box(
    opened: OpenedModel, layer: str, cells: tuple[int, int], size: tuple[int, int]
) -> Box | None:
    """The part of the input that the cells of a layer tile, each around the middle of what it sees.

    Args:
        opened: the model.
        layer: whose output has a height and a width.
        cells: height and width of that output.
        size: height and width of the input in pixels.

    Returns:
        Top, left, height and width in pixels of the input; it can reach a little beyond it. None
        for all of the input, also where a layer on the way treats places in a way unknown here.

    Raises:
        ConfigError: as `find_spatial_layer` does.
    """
    tensor = opened.layers[find_spatial_layer(opened, layer)]
    (top, row), (left, column) = (
        _cells(opened.network, axis).get(id(tensor)) or (0, 0) for axis in (1, 2)
    )
    box = (top, left, row * cells[0], column * cells[1])
    return box if row and column and box != (0, 0, *size) else None


def placed(maps: np.ndarray, size: tuple[int, int], box: Box | None) -> np.ndarray:
    """Maps at the size of the input, every cell where it looked.

    Bilinear between the centres of the cells; beyond the outermost, as they are.

    Args:
        maps: (..., h, w).
        size: height and width of the result.
        box: as `field_box` returns it, and `Explanation.box` has it.

    Returns:
        (..., *size) float32.
    """
    top, left, height, width = box or (0.0, 0.0, *size)
    rows = _between(maps.shape[-2], size[0], top, height)
    columns = _between(maps.shape[-1], size[1], left, width)
    return (rows @ maps @ columns.T).astype(np.float32)


def _between(cells: int, length: int, start: float, extent: float) -> np.ndarray:
    """(length, cells): how much of each cell is in each pixel."""
    places = (np.arange(length) + 0.5 - start) / extent * cells - 0.5
    distances = np.abs(np.clip(places, 0, cells - 1)[:, None] - np.arange(cells))
    return np.maximum(1 - distances, 0)


def _cells(network: keras.Model, axis: int) -> dict[int, tuple[float, float]]:
    """By id of a tensor: where its first cell begins along the axis and how far it is to the next.

    In pixels of the input. A tensor is missing where that is not known.
    """
    found = {id(network.input): (0.0, 1.0)}
    for node in nodes(network):
        output = node.outputs[0]
        before = [each for each in node.input_tensors if id(each) in found]
        if len(output.shape) != 4 or not before:
            continue
        # What merges with it in another size, as factors of whole channels, says nothing of places.
        alike = [each for each in before if each.shape[axis] == output.shape[axis]]
        tensor = (alike or before)[0]
        if moved := _moved(node.operation, axis, found[id(tensor)], tensor, output):
            found[id(output)] = moved
    return found


def _moved(operation, axis, cells, before, after):
    """The cells of an operation's output, from those of its input: begin and distance, or None."""
    begin, step = cells
    i = axis - 1
    if isinstance(operation, _CONVOLUTIONS + _POOLING):
        pooling = isinstance(operation, _POOLING)
        window = (operation.pool_size if pooling else operation.kernel_size)[i]
        stride = operation.strides[i]
        if not pooling:
            window = (window - 1) * operation.dilation_rate[i] + 1
        padding = 0
        if operation.padding == "same":
            # Of an unknown size, as if the strides divided it.
            rest = (before.shape[axis] or stride) % stride
            padding = max(window - (rest or stride), 0) // 2
        middle = begin + step * (window / 2 - padding)
        return middle - step * stride / 2, step * stride
    if isinstance(operation, _layers.ZeroPadding2D):
        return begin - step * operation.padding[i][0], step
    if isinstance(operation, _layers.Cropping2D):
        return begin + step * operation.cropping[i][0], step
    if before.shape[axis] == after.shape[axis]:
        return cells
    if None in (before.shape[axis], after.shape[axis]):
        return None
    return begin, step * before.shape[axis] / after.shape[axis]

"""Where in the image the cells of a layer look.

A map is commonly stretched over the whole image. That is right where every convolution pads what it
takes. Where they do not, each takes cells off the borders: after four stages the 15 x 15 cells of a
convnet look at the middle 120 of 150 pixels, and stretching would move what they saw outwards, by
up to a tenth of the image.
"""

import numpy as np

from cvtrain.explain.explanation import Box
from cvtrain.explain.flat_model import OpenedModel, find_spatial_layer
from cvtrain.models.receptive_field import receptive_fields


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
    rows, columns = (receptive_fields(opened.network, axis).get(id(tensor)) for axis in (1, 2))
    if rows is None or columns is None:
        return None
    box = (rows.begin, columns.begin, rows.step * cells[0], columns.step * cells[1])
    return box if box != (0, 0, *size) else None


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

"""Where in the image the cells of a layer look.

A map is commonly stretched over the whole image. That is right where every convolution pads what it
takes. Where they do not, each takes cells off the borders: after four stages the 15 x 15 cells of a
convnet look at the middle 120 of 150 pixels, and stretching would move what they saw outwards, by
up to a tenth of the image.
"""

from cvtrain.explain.explanation import Box
from cvtrain.explain.flat_model import FlatModel, find_spatial_layer
from cvtrain.models.receptive_field import receptive_fields


def field_box(
    opened: FlatModel, layer: str, cells: tuple[int, int], size: tuple[int, int]
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

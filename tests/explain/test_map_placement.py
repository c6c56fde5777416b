import cv2
import numpy as np
import pytest
from tiny_models import layers, top

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.errors import ConfigError
from cvtrain.explain.flat_model import open_model
from cvtrain.explain.map_placement import field_box
from cvtrain.explain.overlay import upsample

SIZE = (41, 54)


pytestmark = pytest.mark.usefixtures("seeded_engine")


def _conv(kernel, stride=1, padding="valid", **kwargs):
    # Nothing of what a cell sees may cancel.
    return layers.Conv2D(
        2,
        kernel,
        stride,
        padding=padding,
        kernel_initializer="ones",
        bias_initializer="ones",
        **kwargs,
    )


def _residual(x):
    y = _conv(3, padding="same")(_conv(1)(x))
    factors = _conv(1)(layers.GlobalAveragePooling2D(keepdims=True)(y))
    return layers.Add()([layers.Multiply()([factors, y]), x])


NETWORKS = {
    "valid": lambda x: _conv(5)(layers.AveragePooling2D(2)(_conv(3)(x))),
    "same": lambda x: _conv(3, 2, "same")(layers.AveragePooling2D(2)(_conv(3, 2, "same")(x))),
    "dilated": lambda x: _conv(3, dilation_rate=3)(_conv((5, 2))(x)),
    "depthwise": lambda x: layers.SeparableConv2D(2, 3, depthwise_initializer="ones")(
        layers.DepthwiseConv2D(3, 2, depthwise_initializer="ones")(x)
    ),
    "padded": lambda x: layers.Cropping2D(2)(
        _conv(7, 2)(layers.ZeroPadding2D(((3, 1), (2, 0)))(x))
    ),
    "overlapping": lambda x: layers.AveragePooling2D(3, 2)(_conv(4, 3)(x)),
    "overlapping, same": lambda x: layers.AveragePooling2D(3, 2, "same")(_conv(4)(x)),
    "residual": lambda x: _residual(_conv(3)(x)),
    "activations": lambda x: keras.ops.relu(layers.BatchNormalization()(_conv(3)(x) / 2)),
}


def _opened(build, shape=(*SIZE, 1), **options):
    inputs = keras.Input(shape)
    x = layers.Activation("linear", name="cells")(build(layers.Rescaling(1 / 255)(inputs)))
    return open_model(keras.Model(inputs, top()(layers.GlobalAveragePooling2D()(x))), **options)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_cell_lies_in_the_middle_of_what_it_sees(name):
    # The factors of whole channels see everything: they are left out of what a cell sees.
    opened = _opened(NETWORKS[name])
    cells = opened.layers["cells"].shape[1:3]
    top_edge, left, height, width = field_box(opened, "cells", cells, SIZE) or (0, 0, *SIZE)
    row, column = cells[0] // 2, cells[1] // 2
    part = keras.Model(opened.network.input, opened.layers["cells"])
    value = backend.value_and_gradient(
        lambda x: part(x, training=False)[:, row, column, 0], opened.network
    )
    _, gradient = value(np.ones((1, *SIZE, 1)))
    seen = gradient[0, ..., 0]
    seen = seen > np.median(seen)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    middle = (rows[0] + rows[-1] + 1) / 2, (columns[0] + columns[-1] + 1) / 2
    assert top_edge + (row + 0.5) * height / cells[0] == pytest.approx(middle[0])
    assert left + (column + 0.5) * width / cells[1] == pytest.approx(middle[1])
    # Neighbouring cells are a whole number of pixels apart.
    assert height / cells[0] == pytest.approx(round(height / cells[0]))


def test_cells_of_what_is_padded_tile_the_input():
    opened = _opened(
        lambda x: layers.MaxPooling2D(4)(_conv(3, padding="same", name="conv")(x)), (40, 56, 1)
    )
    assert field_box(opened, "cells", (10, 14), (40, 56)) is None
    assert field_box(opened, "conv", (40, 56), (40, 56)) is None


def test_a_layer_that_resizes_keeps_the_part_of_the_input():
    opened = _opened(lambda x: layers.Resizing(20, 10)(_conv(3)(x)))
    assert field_box(opened, "cells", (20, 10), SIZE) == pytest.approx((1, 1, 39, 52))


def test_of_an_input_of_any_size_too():
    any_size = {"shape": (None, None, 1), "image_size": (20, 24)}
    opened = _opened(lambda x: _conv(3)(layers.AveragePooling2D(2)(_conv(3)(x))), **any_size)
    assert field_box(opened, "cells", (7, 9), (20, 24)) == (3, 3, 14, 18)
    # A row of the 40 x 12 is half a row of the input, a column two; the convolution takes one off.
    resizing = _opened(lambda x: _conv(3)(layers.Resizing(40, 12)(x)), **any_size)
    assert field_box(resizing, "cells", (38, 10), (20, 24)) == pytest.approx((0.5, 2, 19, 20))
    with pytest.raises(ConfigError, match="no layer of"):
        field_box(opened, "of", (1, 1), (1, 1))


def test_an_extended_map_is_bilinear_inside_its_box_and_goes_on_beyond_it():
    maps = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    inside = upsample(maps, (30, 28), (5, 4, 20, 16), extend=True)
    for index in np.ndindex(2, 3):
        expected = cv2.resize(maps[index], (16, 20), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(inside[index][5:25, 4:20], expected, atol=1e-5)
        padded = np.pad(expected, ((5, 5), (4, 8)), mode="edge")
        np.testing.assert_allclose(inside[index], padded, atol=1e-5)
    whole = cv2.resize(maps[0, 0], (28, 30), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(upsample(maps, (30, 28), extend=True)[0, 0], whole, atol=1e-5)


def test_a_constant_map_stays_constant_wherever_it_is_placed():
    maps = np.full((5, 7), 0.3, np.float32)
    np.testing.assert_allclose(
        upsample(maps, (31, 17), (2, -1, 20, 15), extend=True), maps[0, 0], rtol=0
    )

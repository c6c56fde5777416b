"""What a cell sees, against the pixels that move it."""

import numpy as np
import pytest

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.models.backbones import build_backbone
from cvtrain.models.receptive_field import receptive_fields

SIZE = (47, 38)
layers = keras.layers


def conv(kernel, stride=1, padding="valid", **kwargs):
    return layers.Conv2D(1, kernel, stride, padding, kernel_initializer="ones", **kwargs)


def _branches(x):
    return layers.Add()([conv(5, padding="same")(x), conv(1)(x), conv((1, 9), padding="same")(x)])


NETWORKS = {
    "valid": lambda x: conv(5)(layers.AveragePooling2D(2)(conv(3)(x))),
    "same": lambda x: conv(3, 2, "same")(conv(5, padding="same")(x)),
    "two sides": lambda x: conv((2, 5), (1, 3))(conv((3, 1), (2, 1))(x)),
    "dilated": lambda x: conv(3, dilation_rate=3)(conv(2)(x)),
    "separable": lambda x: layers.SeparableConv2D(
        1, 3, depthwise_initializer="ones", pointwise_initializer="ones"
    )(layers.DepthwiseConv2D(3, 2, depthwise_initializer="ones")(x)),
    "padded": lambda x: conv(3, 2)(layers.Cropping2D(1)(layers.ZeroPadding2D(((3, 1), (2, 0)))(x))),
    "overlapping": lambda x: layers.AveragePooling2D(3, 2)(conv(4, 3)(x)),
    "branches": lambda x: conv(2)(_branches(conv(3)(x))),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_cell_sees_the_pixels_that_move_it(name):
    backend.set_up(seed=0, device="cpu")
    inputs = keras.Input((*SIZE, 1))
    network = keras.Model(inputs, NETWORKS[name](inputs))
    cells = network.output.shape[1:3]
    fields = [receptive_fields(network, axis)[id(network.output)] for axis in (1, 2)]
    for row, column in ((0, 0), (cells[0] // 2, cells[1] // 2), (cells[0] - 1, cells[1] - 1)):
        value = backend.value_and_gradient(
            lambda x, row=row, column=column: network(x, training=False)[:, row, column, 0], network
        )
        _, gradient = value(np.ones((1, *SIZE, 1), np.float32))
        moves = gradient[0, ..., 0] != 0
        for field, cell, length, axis in zip(fields, (row, column), SIZE, (1, 0), strict=True):
            pixels = np.flatnonzero(moves.any(axis=axis))
            low = field.low + cell * field.step
            assert pixels[0] == max(0, low)
            assert pixels[-1] + 1 == min(length, low + field.size)


def test_border_cells_see_padding():
    inputs = keras.Input((*SIZE, 1))
    network = keras.Model(inputs, conv(3, padding="same")(conv(5, padding="same")(inputs)))
    field = receptive_fields(network, 1)[id(network.output)]
    # 1 + 2 pixels are made up in front of the first cell: three cells reach there.
    assert (field.size, field.step, field.border) == (7, 1, 3)


def test_vgg16_is_as_published():
    """Araujo et al. (2019), table 1 counts 212 for the last pooling; and by hand for the others."""
    network = build_backbone("vgg16", image_size=(64, 64), weights=None)
    fields = receptive_fields(network, 1)
    seen = {
        name: (fields[id(tensor)].size, fields[id(tensor)].step)
        for name in [f"block{i}_pool" for i in range(1, 6)]
        if (tensor := network.get_layer(name).output) is not None
    }
    assert seen == {
        "block1_pool": (6, 2),
        "block2_pool": (16, 4),
        "block3_pool": (44, 8),
        "block4_pool": (100, 16),
        "block5_pool": (212, 32),
    }

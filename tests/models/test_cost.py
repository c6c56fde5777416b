import itertools

import pytest

from cvtrain.backend import keras
from cvtrain.models.backbones import build_backbone
from cvtrain.models.cost import cost_up_to, multiply_adds

PREPROCESS = 224 * 224 * 9


def test_of_each_kind_of_layer():
    layers = keras.layers
    x = images = keras.Input((12, 10, 3), name="images")
    x = layers.Conv2D(8, 3, padding="same", name="conv")(x)
    x = layers.Conv2D(16, 3, strides=2, padding="valid", groups=4, name="grouped")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.DepthwiseConv2D((3, 1), depth_multiplier=2, padding="same", name="depthwise")(x)
    x = layers.SeparableConv2D(6, 3, padding="same", name="separable")(x)
    x = layers.Conv2DTranspose(4, 2, strides=2, name="transposed")(x)
    x = layers.Dense(7, name="pointwise")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(11, name="dense")(x)
    assert multiply_adds(keras.Model(images, x)) == {
        "images": 0,
        "conv": 12 * 10 * 8 * (3 * 3 * 3),
        "grouped": 5 * 4 * 16 * (3 * 3 * 2),
        "norm": 0,
        "depthwise": 5 * 4 * 32 * 3,
        "separable": 5 * 4 * 32 * (3 * 3) + 5 * 4 * 32 * 6,
        "transposed": 5 * 4 * 6 * (2 * 2 * 4),
        "pointwise": 10 * 8 * 4 * 7,
        "flatten": 0,
        "dense": 10 * 8 * 7 * 11,
    }


def test_of_a_branch_is_what_it_needs():
    layers = keras.layers
    images = keras.Input((4, 4, 3), name="images")
    stem = layers.Conv2D(2, 1, name="stem")(images)
    left = layers.Conv2D(2, 1, name="left")(stem)
    right = layers.Conv2D(5, 1, name="right")(stem)
    model = keras.Model(images, layers.Concatenate(name="both")([left, right]))
    stem, left, right = 16 * 3 * 2, 16 * 2 * 2, 16 * 2 * 5
    assert cost_up_to(model, "images") == 0
    assert cost_up_to(model, "left") == stem + left
    assert cost_up_to(model, "right") == stem + right
    assert cost_up_to(model, "both") == stem + left + right


@pytest.mark.parametrize(
    ("name", "billions", "classifier"),
    [
        ("vgg16", 15.47, 25088 * 4096 + 4096 * 4096 + 4096 * 1000),
        ("mobilenet", 0.569, 1024 * 1000),  # A. Howard et al., arXiv:1704.04861, table 4
        pytest.param("resnet50", 3.86, 2048 * 1000, marks=pytest.mark.slow),
    ],
)
def test_of_known_networks(name, billions, classifier):
    model = build_backbone(name, image_size=(224, 224), weights=None)
    received = cost_up_to(model, model.layers[-1].name)
    assert received == sum(multiply_adds(model).values())
    assert received - PREPROCESS + classifier == pytest.approx(billions * 1e9, rel=0.003)


def test_of_the_blocks_of_vgg():
    model = build_backbone("vgg16", image_size=(224, 224), weights=None)
    costs = [PREPROCESS, *(cost_up_to(model, f"block{i}_pool") for i in range(1, 6))]
    blocks = [after - before for before, after in itertools.pairwise(costs)]
    assert blocks == pytest.approx([1.94e9, 2.77e9, 4.62e9, 4.62e9, 1.39e9], rel=0.003)

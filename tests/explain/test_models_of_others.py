"""Models of others: who scales pixels, which layers have filters, operators that are no layers."""

import numpy as np
import pytest
from tiny_models import early, late, top

from cvtrain.backend import keras
from cvtrain.errors import ConfigError
from cvtrain.explain.activations import activation_reader, default_layers, layers_with_filters
from cvtrain.explain.flat_model import open_model, range_at_first_layer
from cvtrain.models.backbones import build_backbone
from cvtrain.models.transfer import in_precision
from cvtrain.steps.inspected_model import _doubt_of_pixels

layers, ops, apps = keras.layers, keras.ops, keras.applications


def nested(scale):
    def scaled(x):
        inside = keras.Input(x.shape[1:])
        return keras.Model(inside, scale(inside))(x)

    return scaled


TAKE_255 = {  # and what 0 and 255 become at most, in closed form
    "tf": (apps.mobilenet_v2.preprocess_input, (-1, 1)),
    "torch": (apps.densenet.preprocess_input, (-0.485 / 0.229, (1 - 0.406) / 0.225)),
    "caffe": (apps.resnet.preprocess_input, (-123.68, 255 - 103.939)),
    "divide": (lambda x: ops.divide(x, 255.0), (0, 1)),
    "true_divide, subtract": (lambda x: ops.subtract(ops.true_divide(x, 127.5), 1.0), (-1, 1)),
    "multiply": (lambda x: ops.multiply(x, 1 / 255), (0, 1)),
    "layer": (layers.Rescaling(1 / 255), (0, 1)),
    "behind a resizing": (lambda x: layers.Resizing(12, 10)(x) / 255, (0, 1)),
}
TAKE_255 |= {f"nested {k}": (nested(s), r) for k, (s, r) in list(TAKE_255.items())[:3]}


def opened_with(scale):
    inputs = keras.Input((12, 10, 3))
    x = layers.GlobalAveragePooling2D()(late()(early()(scale(inputs))))
    return open_model(keras.Model(inputs, top()(x)))


@pytest.mark.parametrize("name", TAKE_255)
def test_what_scales_pixels_is_known_by_what_becomes_of_them(name):
    scale, expected = TAKE_255[name]
    opened = opened_with(scale)
    assert range_at_first_layer(opened, 0, 255) == pytest.approx(expected, abs=1e-4)
    assert _doubt_of_pixels(opened, None) == ""
    for asked in ("0..1", "-1..1"):  # who obeys scales twice
        assert "leave --pixel-range out" in _doubt_of_pixels(opened, asked)


def test_what_does_not_scale_and_what_takes_0_to_1():
    assert "does not scale pixels" in _doubt_of_pixels(opened_with(layers.Identity()), None)
    assert _doubt_of_pixels(opened_with(layers.Identity()), "0..1") == ""
    doubled = opened_with(layers.Rescaling(2, offset=-1))
    assert _doubt_of_pixels(doubled, None).endswith("--pixel-range 0..1")
    assert _doubt_of_pixels(doubled, "0..1") == ""


def of(*body):
    x = inputs = keras.Input((12, 10, 3))
    for each in body:
        x = each(x)
    return open_model(keras.Model(inputs, top()(layers.Flatten()(x))))


def test_every_convolution_has_filters():
    found = of(
        layers.SeparableConv2D(4, 3, name="a"),
        layers.DepthwiseConv2D(3, name="b"),
        layers.Conv2DTranspose(4, 3, name="c"),
        layers.SpectralNormalization(layers.Conv2D(4, 3), name="d"),
    )
    assert layers_with_filters(found) == ["a", "b", "c", "d"]


def test_a_dense_net_shows_its_dense_layers():
    found = of(layers.Flatten(), layers.Dense(5, activation="relu", name="hidden"))
    assert layers_with_filters(found) == default_layers(found) == ["hidden", "top"]
    shown = activation_reader(found)(np.ones((12, 10, 3), np.float32))
    assert [each.maps.shape for each in shown] == [(5,), (3,)]


def test_a_model_that_learnt_nothing_is_told():
    inputs = keras.Input((12, 10, 3))
    opened = open_model(keras.Model(inputs, ops.softmax(layers.Flatten()(inputs)[:, :3])))
    with pytest.raises(ConfigError, match="no other layer of channels that learns"):
        activation_reader(opened)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_operators_are_copied_as_they_are(precision):
    inputs = keras.Input((12, 10, 3))
    x = ops.cast(early()(inputs / 127.5 - 1) + 3.0, "float32")
    model = keras.Model(inputs, top()(ops.mean(ops.relu(x), axis=(1, 2))))
    images = np.random.default_rng(0).uniform(0, 255, (2, 12, 10, 3)).astype(np.float32)
    received = ops.cast(in_precision(model, precision)(images), "float32")
    np.testing.assert_allclose(
        received, model(images), atol=1e-6 if precision == "float32" else 0.02
    )


@pytest.mark.parametrize("name", ["mobilenet", "mobilenet_v3_small"])
def test_random_layers_return_values_of_about_size_1(name):
    model = build_backbone(name, image_size=(64, 64), weights=None, alpha=0.5)
    kind = layers.BatchNormalization
    outputs = [each.output for each in model.layers if isinstance(each, kind)]
    noise = np.random.default_rng(1).uniform(0, 255, (4, 64, 64, 3)).astype(np.float32)
    sizes = [float(ops.sqrt(ops.mean(x**2))) for x in keras.Model(model.input, outputs)(noise)]
    assert 0.3 < min(sizes) <= max(sizes) < 3  # without it: down to 1e-21

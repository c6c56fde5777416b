"""Activations are what plain Keras computes, and dead and constant channels are told."""

import numpy as np
import pytest
from tiny_models import SHAPE, VARIANTS, flat, images, layers, seeded, state, top

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.errors import ConfigError
from cvtrain.explain.activations import activation_reader, default_layers, layer_activations
from cvtrain.explain.flat_model import open_model

pytestmark = pytest.mark.usefixtures("seeded_engine")


def residual():
    """A convolution with normalisation and relu, a residual branch, pooling of both kinds."""
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv1")(inputs)
    x = layers.BatchNormalization(name="norm1")(x)
    x = before = layers.Activation("relu", name="relu1")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="conv2")(x)
    x = layers.BatchNormalization(name="norm2")(x)
    x = layers.ReLU(name="relu2")(layers.Add(name="add")([x, before]))
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.Conv2D(2, 1, activation="relu", name="conv3", **seeded(1))(x)
    x = layers.GlobalAveragePooling2D(name="average")(layers.Dropout(0.5)(x))
    return keras.Model(inputs, top()(x))


def test_convolutions_and_poolings_are_shown_as_the_next_layer_receives_them():
    opened = open_model(residual())
    assert default_layers(opened) == ["relu1", "norm2", "pool", "conv3", "average"]


def test_all_layers_are_what_plain_keras_computes():
    model = residual()
    read = activation_reader(open_model(model), ["conv1", "relu2", "average", "top"])
    for image in images(2):
        for found in read(image):
            layer = model.get_layer(found.layer)
            # Of the last layer the scores are shown, before its softmax.
            output = layer.output if found.layer != "top" else layer.input
            expected = np.asarray(keras.Model(model.input, output)(image[None], training=False))[0]
            if found.layer == "top":
                kernel, bias = layer.get_weights()
                expected = expected @ kernel + bias
            np.testing.assert_allclose(found.maps, expected, rtol=1e-4, atol=1e-4)
            assert found.maps.dtype == np.float32


@pytest.mark.parametrize("variant", VARIANTS)
def test_any_model_shows_the_same_and_stays_as_it_is(variant):
    model = VARIANTS[variant]()
    before = state(model)
    opened = open_model(model)
    late = "second.conv" if variant == "named alike" else "late"
    (found,) = activation_reader(opened, [late])(images(1)[0])
    (expected,) = activation_reader(open_model(flat()), ["late"])(images(1)[0])
    assert found.maps.shape == (8, 6, 6)
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-4, atol=1e-5)
    assert state(model) == before


def test_dead_and_constant_channels():
    maps = np.random.default_rng(0).normal(size=(4, 5, 4)).astype(np.float32)
    maps[..., 1] = 0
    maps[..., 2] = -3.25
    maps[..., 2] *= 1 + 1e-8
    maps[0, 0, 3] = np.nan
    found = layer_activations("layer", maps)
    assert found.dead.tolist() == [False, True, False, False]
    assert found.constant.tolist() == [False, False, True, False]
    assert np.isfinite(found.maps).all()


def test_a_vector_has_dead_units_and_no_constant_ones():
    found = layer_activations("layer", np.array([0, 2, -1], np.float32))
    assert found.dead.tolist() == [True, False, False]
    assert not found.constant.any()


def test_all_layers_of_an_image_are_one_pass(monkeypatch):
    calls = []
    inference = backend.inference

    def counting(model):
        infer = inference(model)
        return lambda batch: calls.append(batch.shape) or infer(batch)

    monkeypatch.setattr(backend, "inference", counting)
    read = activation_reader(open_model(residual()))
    for image in images(3):
        read(image)
    assert calls == [(1, *SHAPE)] * 3


def test_layers_that_cannot_be_shown():
    inputs = keras.Input(SHAPE)
    x = layers.Reshape((12, 30), name="sequence")(inputs)
    opened = open_model(keras.Model(inputs, top()(layers.GlobalAveragePooling1D()(x))))
    with pytest.raises(ConfigError, match="sequence"):
        activation_reader(opened, ["sequence"])
    with pytest.raises(ConfigError, match="none"):
        activation_reader(opened, ["none"])

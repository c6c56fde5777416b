"""The net is the listing of the book, in plain Keras, and keeps the invariant."""

import math

import numpy as np
import pytest

from cvtrain.backend import keras
from cvtrain.errors import ConfigError
from cvtrain.models.blocks import blocks, narrow_layers
from cvtrain.models.cost import multiply_adds
from cvtrain.models.saved_model import load_model, save_model
from cvtrain.models.separable import build_separable, output_sizes
from cvtrain.sections import Separable


def plain_book(image_size, num_classes, sizes=(32, 64, 128, 256, 512)):
    """Listing 9.5, but for one output a class instead of one sigmoid."""
    layers = keras.layers
    inputs = keras.Input(shape=(*image_size, 3))
    x = layers.Rescaling(1.0 / 255)(inputs)
    x = layers.Conv2D(filters=32, kernel_size=5, use_bias=False)(x)
    for size in sizes:
        residual = x
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
        x = layers.SeparableConv2D(size, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
        x = layers.SeparableConv2D(size, 3, padding="same", use_bias=False)(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        residual = layers.Conv2D(size, 1, strides=2, padding="same", use_bias=False)(residual)
        x = layers.add([x, residual])
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.5)(x)
    outputs = layers.Dense(num_classes, activation="softmax")(x)
    return keras.Model(inputs=inputs, outputs=outputs)


def num_parameters(sizes, num_classes, stem=32):
    """In closed form: kernels, two statistics and two scales of each normalisation, classifier."""
    total, before = 3 * 25 * stem, stem
    for size in sizes:
        total += 4 * before + 9 * before + before * size  # the first separable convolution
        total += 4 * size + 9 * size + size * size
        total += before * size  # the shortcut
        before = size
    return total + (before + 1) * num_classes


@pytest.mark.parametrize("sizes", [(32, 64, 128, 256, 512), (8,), (5, 9)])
def test_it_has_the_books_parameters(sizes):
    options = {"image_size": (36, 40), "num_classes": 4}
    ours, plain = (
        build_separable(Separable(name="separable", filters=sizes), **options),
        plain_book(sizes=sizes, **options),
    )
    expected = num_parameters(sizes, 4)
    assert ours.count_params() == plain.count_params() == expected
    assert [w.shape for w in ours.weights] == [w.shape for w in plain.weights]


def test_with_its_weights_it_computes_what_the_book_does():
    sizes, options = (6, 10), {"image_size": (21, 26), "num_classes": 3}
    ours, plain = (
        build_separable(Separable(name="separable", filters=sizes), **options),
        plain_book(sizes=sizes, **options),
    )
    generator = np.random.default_rng(0)
    # Also statistics and scales, which begin as zeros and ones.
    plain.set_weights(
        [generator.uniform(0.1, 1, w.shape) - 0.4 * (w.ndim > 1) for w in plain.get_weights()]
    )
    ours.set_weights(plain.get_weights())
    images = generator.integers(0, 256, (4, 21, 26, 3)).astype(np.float32)
    mine, theirs = (np.asarray(model(images, training=False)) for model in (ours, plain))
    np.testing.assert_allclose(mine, theirs, atol=1e-6)
    assert np.ptp(mine) > 0.1


@pytest.mark.parametrize("size", [(5, 5), (6, 9), (28, 28), (180, 150)])
def test_output_sizes_are_those_of_keras(size):
    net = Separable(name="separable", filters=(4, 4, 4))
    model = build_separable(net, image_size=size, num_classes=2)
    shapes = [model.get_layer(f"block{i}_add").output.shape[1:3] for i in (1, 2, 3)]
    assert output_sizes(net, size) == shapes


def test_an_image_smaller_than_the_first_window_is_refused():
    with pytest.raises(ConfigError, match=r"data\.image_size: \[4, 9\] is smaller"):
        build_separable(Separable(name="separable"), image_size=(4, 9), num_classes=2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_keeps_the_invariant(tmp_path, precision):
    net = Separable(name="separable", filters=(4,))
    model = build_separable(net, image_size=(12, 14), num_classes=3, precision=precision)
    images = np.random.default_rng(0).integers(0, 256, (4, 12, 14, 3), dtype=np.uint8)
    output = keras.ops.convert_to_numpy(model(images, training=False))
    assert output.dtype == np.float32
    np.testing.assert_allclose(output.sum(axis=1), 1, atol=1e-6)
    if precision == "float32":
        save_model(model, tmp_path / "model.keras")
        opened = load_model(tmp_path / "model.keras", image_size=(12, 14), num_classes=3)
        np.testing.assert_array_equal(opened(images, training=False), output)


def test_initial_weights_depend_on_the_seed_alone():
    def weights(**options):
        net = Separable(name="separable", filters=(4,))
        model = build_separable(net, image_size=(12, 12), num_classes=2, **options)
        return np.concatenate([weight.ravel() for weight in model.get_weights()])

    np.testing.assert_array_equal(weights(seed=1), weights(seed=1, precision="bfloat16"))
    assert (weights(seed=1) != weights(seed=2)).any()


def test_it_can_be_a_base_that_is_cut_between_its_blocks():
    model = build_separable(
        Separable(name="separable", filters=(4, 6)), image_size=(20, 20), num_classes=2
    )
    assert [(block.name, block.layer) for block in blocks(model)] == [
        ("stem", "stem_conv"),
        ("block1", "block1_add"),
        ("block2", "block2_add"),
    ]
    assert {"stem_conv", "block1_add", "block2_add", "features"} <= set(narrow_layers(model))


def test_a_separable_convolution_costs_what_it_should():
    model = build_separable(
        Separable(name="separable", filters=(4, 6)), image_size=(20, 20), num_classes=2
    )
    costs = multiply_adds(model)
    assert costs["block1_sepconv1"] == 16 * 16 * (9 * 32 + 32 * 4)
    assert costs["block2_shortcut"] == math.prod((4, 4)) * 4 * 6

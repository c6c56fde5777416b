import itertools

import numpy as np
import pytest

from cvtrain.backend import keras
from cvtrain.errors import ConfigError
from cvtrain.models.convnet import build_convnet, output_sizes
from cvtrain.sections import Convnet

MNIST = Convnet(filters=(32, 64, 64), pooling=(2, 2, 1), dense=(64,), grayscale=True)
FIRST_EDITION = Convnet(filters=(32, 64, 128, 128), dense=(512,))
SECOND_EDITION = Convnet(filters=(32, 64, 128, 256, 256), pooling=(2, 2, 2, 2, 1), dense=())


@pytest.mark.parametrize(
    ("size", "classes", "net", "parameters"),
    [
        (28, 10, MNIST, 93_322),  # as printed in the book, 5.1
        (150, 1, FIRST_EDITION, 3_453_121),  # as printed in the book, 5.2
        (150, 2, FIRST_EDITION, 3_453_634),  # ours: one more unit of 512 weights and a bias
        (180, 1, SECOND_EDITION, 991_041),  # as printed in the second edition, 8.2
    ],
)
def test_the_books_nets_have_the_books_parameters(size, classes, net, parameters):
    model = build_convnet(net, image_size=(size, size), num_classes=classes)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == parameters


def test_output_sizes_are_those_of_keras():
    stages = itertools.product(["valid", "same"], [1, 2, 3, 5], [1, 2, 3], [1, 2, 3])
    for padding, kernel, stride, pool in stages:
        net = Convnet(
            filters=(2, 2),
            kernel_size=(kernel, 3),
            strides=(stride, 1),
            pooling=(1, pool),
            padding=padding,
            dense=(),
        )
        model = build_convnet(net, image_size=(23, 31), num_classes=2)
        last = model.get_layer("features").input.shape[1:3]
        assert output_sizes(net, (23, 31))[-1] == last


def test_a_map_that_vanishes_is_told_with_the_way_there():
    with pytest.raises(ConfigError) as caught:
        build_convnet(Convnet(filters=(8, 8, 8, 8)), image_size=(28, 40), num_classes=2)
    assert "stage 4 of 4" in caught.value.message
    assert "28x40 -> 13x19 -> 5x8 -> 1x3 -> 0x0" in caught.value.message
    assert "data.image_size" in caught.value.advice


def test_every_option_builds_what_it_says():
    net = Convnet(
        filters=(4, 6),
        batch_normalization=True,
        global_average_pooling=True,
        dense=(5,),
        dropout=0.5,
    )
    model = build_convnet(net, image_size=(16, 20), num_classes=3)
    kinds = [type(layer).__name__ for layer in model.layers]
    stage = ["Conv2D", "BatchNormalization", "Activation", "MaxPooling2D"]
    top = ["GlobalAveragePooling2D", "Dropout", "Dense", "Dense", "Softmax"]
    assert kinds == ["InputLayer", "Rescaling", *stage, *stage, *top]
    assert not model.get_layer("conv1").use_bias
    assert model.get_layer("features").output.shape == (None, 6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_probabilities_are_float32_and_sum_to_one(precision):
    net = Convnet(filters=(4,), dense=(), dropout=0.5)
    model = build_convnet(net, image_size=(12, 12), num_classes=5, precision=precision)
    images = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3), dtype=np.uint8)
    output = keras.ops.convert_to_numpy(model(images, training=False))
    assert output.dtype == np.float32
    np.testing.assert_allclose(output.sum(axis=1), 1, atol=1e-6)


def test_initial_weights_depend_on_the_seed_alone():
    def weights(**options):
        net = Convnet(filters=(4, 4), dense=())
        model = build_convnet(net, image_size=(12, 12), num_classes=2, **options)
        return np.concatenate([weight.ravel() for weight in model.get_weights()])

    np.testing.assert_array_equal(weights(seed=1), weights(seed=1, precision="bfloat16"))
    assert (weights(seed=1) != weights(seed=2)).any()
    kernel = weights(seed=1)[: 3 * 3 * 3 * 4]
    assert np.abs(kernel).max() <= np.sqrt(6 / (27 + 36))  # Glorot & Bengio 2010, eq. 16


@pytest.mark.parametrize("options", [{}, {"batch_normalization": True, "pooling": (2, 1)}])
def test_the_net_for_training_is_the_same_function_in_another_order(options):
    net = Convnet(filters=(4, 6), dense=(), **options)
    saved = build_convnet(net, image_size=(14, 14), num_classes=3)
    trained = build_convnet(net, image_size=(14, 14), num_classes=3, for_training=True)
    assert [w.path for w in saved.weights] == [w.path for w in trained.weights]
    images = np.random.default_rng(0).integers(0, 256, (6, 14, 14, 3), dtype=np.uint8)
    np.testing.assert_array_equal(saved(images, training=False), trained(images, training=False))

    def order(model):
        return [layer.name for layer in model.layers if layer.name in ("conv1_relu", "pool1")]

    assert order(saved) == ["conv1_relu", "pool1"]
    assert order(trained) == ["pool1", "conv1_relu"]


def test_grayscale_sees_luma_only():
    net = Convnet(filters=(2,), pooling=1, dense=(), grayscale=True)
    model = build_convnet(net, image_size=(4, 4), num_classes=2)
    gray = keras.Model(model.input, model.get_layer("preprocess").output)
    pixel = np.tile(np.array([200, 100, 50], np.uint8), (1, 4, 4, 1))
    luma = (0.299 * 200 + 0.587 * 100 + 0.114 * 50) / 255
    np.testing.assert_allclose(gray(pixel, training=False), np.full((1, 4, 4, 1), luma), rtol=1e-5)
    assert not model.get_layer("preprocess").trainable

"""A model splits without a trace, trains where it was told to, and the proof notices when not."""

import numpy as np
import pytest
import tensorflow as tf

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.errors import ConfigError, TrainingError
from cvtrain.models.convnet import build_convnet
from cvtrain.models.saved_model import copy_weights
from cvtrain.models.transfer import (
    in_precision,
    layer_digests,
    layers_above,
    prefix_of,
    prove_freeze,
    set_trainable,
    suffix_of,
    unfreeze,
    variable_rates,
    without_gradient,
)
from cvtrain.sections import Convnet, Unfreeze

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 20, 24, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1])


def build(**settings):
    net = Convnet(
        filters=(4, 6, 8), padding="same", dense=(8,), batch_normalization=True, **settings
    )
    return build_convnet(net, image_size=(20, 24), num_classes=3)


@pytest.fixture
def model():
    return build()


@pytest.mark.parametrize("layer", ["conv1", "pool1", "conv2_norm", "pool2", "features", "dense1"])
def test_prefix_then_suffix_is_the_whole(model, layer):
    expected = model.predict(IMAGES, verbose=0)
    features = prefix_of(model, layer).predict(IMAGES, verbose=0)
    np.testing.assert_array_equal(suffix_of(model, layer).predict(features, verbose=0), expected)


@pytest.mark.parametrize(
    ("where", "split", "first", "lowest_depth"),
    [
        ({}, "pool2", "conv3", 1),
        ({"unfreeze_blocks": 2}, "pool1", "conv2", 2),
        ({"unfreeze_blocks": 3}, None, "conv1", 3),
        ({"unfreeze_from": "conv2"}, "pool1", "conv2", 2),
        ({"unfreeze_from": "conv3_relu"}, "conv3_norm", "dense1", 0),
    ],
)
def test_unfreezing_takes_everything_above_a_place(model, where, split, first, lowest_depth):
    if where == {"unfreeze_from": "conv3_relu"}:
        with pytest.raises(ConfigError, match="nothing of the backbone would be trained"):
            unfreeze(model, Unfreeze(**where))
        return
    unfrozen = unfreeze(model, Unfreeze(**where, rate_decay=0.5))
    assert unfrozen.split == split
    assert unfrozen.layers[0] == first
    assert unfrozen.layers[-2:] == ("dense1", "logits")
    assert not any("norm" in name for name in unfrozen.layers)
    assert unfrozen.rates[first] == 0.5**lowest_depth
    assert unfrozen.rates["logits"] == 1.0


def test_batch_normalization_is_trained_when_asked(model):
    unfrozen = unfreeze(model, Unfreeze(unfreeze_blocks=1, batch_normalization="train"))
    assert "conv3_norm" in unfrozen.layers


def test_too_many_blocks_are_refused(model):
    with pytest.raises(ConfigError, match="at most 3"):
        unfreeze(model, Unfreeze(unfreeze_blocks=4))


def test_an_unknown_layer_is_refused(model):
    with pytest.raises(ConfigError, match="conv9"):
        unfreeze(model, Unfreeze(unfreeze_from="conv9"))


def test_frozen_normalization_keeps_its_statistics(model):
    unfrozen = unfreeze(model, Unfreeze(unfreeze_blocks=2))
    set_trainable(model, unfrozen.layers)
    before = layer_digests(model)
    step = backend.train_step(
        keras.Model(model.input, model.get_layer("logits").output), keras.optimizers.SGD(0.1)
    )
    step.run(IMAGES, LABELS, 0.1)
    proof = prove_freeze(before, layer_digests(model), unfrozen.layers)
    assert proof["conv3"]["trained"]
    assert not proof["conv3_norm"]["trained"]
    assert proof["conv3"]["before"] != proof["conv3"]["after"]


def test_a_base_that_was_left_trainable_is_caught(model):
    """The first edition's error: the backbone was meant to be frozen and was trained."""
    head = layers_above(model, "pool3")
    before = layer_digests(model)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    model.fit(IMAGES, LABELS, verbose=0)
    with pytest.raises(TrainingError, match=r"frozen layers changed: conv1, conv1_norm"):
        prove_freeze(before, layer_digests(model), head)


def test_a_base_that_was_never_unfrozen_is_caught(model):
    """The third edition's error: fine-tuning trained the head alone."""
    set_trainable(model, layers_above(model, "pool3"))
    before = layer_digests(model)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    model.fit(IMAGES, LABELS, verbose=0)
    with pytest.raises(TrainingError, match=r"did not change: conv3\n"):
        prove_freeze(before, layer_digests(model), unfreeze(model, Unfreeze()).layers)


@pytest.mark.parametrize("dead", [None, "conv2_norm", "dense1", "dense1 in one batch"])
def test_layers_without_a_gradient_are_those_that_tensorflow_gives_none(model, dead):
    """Batch normalisation or a bias far below zero silences all relus above it."""
    batches = [(IMAGES[:3], LABELS[:3]), (IMAGES[3:], LABELS[3:])]
    if dead == "conv2_norm":
        layer = model.get_layer(dead)
        layer.beta.assign(np.full(layer.beta.shape, -1e3))
    elif dead:
        layer = model.get_layer("dense1")
        layer.bias.assign(np.full(layer.bias.shape, -1e6))
    if dead == "dense1 in one batch":
        layer.kernel.assign(np.abs(layer.kernel) * 1e5)
        batches[0] = (np.zeros_like(IMAGES[:3]), LABELS[:3])
        layer.bias.assign(np.full(layer.bias.shape, -1.0))
    expected = {layer.name for layer in model.layers if layer.trainable_weights}
    loss = keras.losses.SparseCategoricalCrossentropy()
    for images, labels in batches:
        with tf.GradientTape() as tape:
            value = loss(labels, model(images, training=True))
        gradients = tape.gradient(value, model.trainable_weights)
        pairs = zip(model.trainable_weights, gradients, strict=True)
        alive = {id(weight) for weight, gradient in pairs if np.any(gradient)}
        for layer in model.layers:
            if any(id(weight) in alive for weight in layer.trainable_weights):
                expected.discard(layer.name)
    before = layer_digests(model)
    assert without_gradient(model, batches) == expected
    assert bool(expected) == (dead in ("conv2_norm", "dense1"))
    assert layer_digests(model) == before


def test_a_layer_that_could_not_change_is_no_failure(model):
    digests = layer_digests(model)
    trained = ("conv3", "dense1")
    proof = prove_freeze(digests, digests, trained, excused=trained)
    assert [name for name, layer in proof.items() if layer["trained"]] == ["conv3", "dense1"]
    with pytest.raises(TrainingError, match=r"did not change: dense1\n"):
        prove_freeze(digests, digests, trained, excused=["conv3"])


def test_one_bit_of_one_weight_is_a_change(model):
    before = layer_digests(model)
    kernel = model.get_layer("conv2").kernel
    values = np.array(kernel)
    values.view(np.uint32)[0, 0, 0, 0] ^= 1
    kernel.assign(values)
    after = layer_digests(model)
    assert [name for name in before if before[name] != after[name]] == ["conv2"]


def test_a_slowed_layer_moves_in_proportion():
    """With plain gradient descent the movement is the rate times the gradient."""
    moves = {}
    for decay in (1.0, 0.25):
        trained = build()
        unfrozen = unfreeze(trained, Unfreeze(unfreeze_blocks=2, rate_decay=decay))
        set_trainable(trained, unfrozen.layers)
        before = {name: trained.get_layer(name).get_weights() for name in unfrozen.layers}
        logits = keras.Model(trained.input, trained.get_layer("logits").output)
        rates = variable_rates(trained, unfrozen)
        step = backend.train_step(logits, keras.optimizers.SGD(0.1), rates=rates)
        step.run(IMAGES, LABELS, 0.1)
        moves[decay] = {
            name: trained.get_layer(name).get_weights()[0] - before[name][0] for name in before
        }
    for name, factor in {"logits": 1.0, "conv3": 0.25, "conv2": 0.25**2}.items():
        np.testing.assert_allclose(moves[0.25][name], factor * moves[1.0][name], atol=1e-7)


def test_a_copy_in_bfloat16_computes_in_it_and_keeps_preprocessing_exact(model):
    copy = in_precision(model, "bfloat16")
    assert copy.get_layer("conv1").compute_dtype == "bfloat16"
    assert copy.get_layer("conv1").kernel.dtype == "float32"
    assert copy.get_layer("preprocess").compute_dtype == "float32"
    assert copy.get_layer("probabilities").compute_dtype == "float32"
    expected = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(copy.predict(IMAGES, verbose=0), expected, atol=0.03)


def test_dropout_is_off_where_the_model_is_frozen():
    """EfficientNets have dropout inside; frozen features are those of inference."""
    images = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(8, 3, name="lower")(images)
    x = keras.layers.Dropout(0.5, name="inner")(x)
    x = keras.layers.Flatten(name="features")(x)
    x = keras.layers.Dropout(0.5, name="outer")(x)
    model = keras.Model(images, keras.layers.Dense(2, name="logits")(x))
    set_trainable(model, ["logits"])
    copy = in_precision(model, "float32")
    assert (copy.get_layer("inner").rate, copy.get_layer("outer").rate) == (0.0, 0.5)
    assert model.get_layer("inner").rate == 0.5
    set_trainable(model, ["lower", "logits"])
    assert in_precision(model, "float32").get_layer("inner").rate == 0.5


def test_a_copy_of_a_suffix_has_its_weights_and_gives_them_back(model):
    suffix = suffix_of(model, "pool2")
    copy = in_precision(suffix, "float32")
    features = prefix_of(model, "pool2").predict(IMAGES, verbose=0)
    np.testing.assert_array_equal(
        copy.predict(features, verbose=0), suffix.predict(features, verbose=0)
    )
    copy.get_layer("conv3").set_weights([w + 1 for w in copy.get_layer("conv3").get_weights()])
    copy_weights(copy, model)
    np.testing.assert_array_equal(
        model.get_layer("conv3").get_weights()[0], copy.get_layer("conv3").get_weights()[0]
    )

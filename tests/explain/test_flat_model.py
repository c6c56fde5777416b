from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, softmax
from tiny_models import (
    NUM_CLASSES,
    SHAPE,
    VARIANTS,
    borrowing,
    flat,
    images,
    layers,
    seeded,
    state,
    top,
)

from cvtrain.backend import keras
from cvtrain.errors import ConfigError, RunError
from cvtrain.explain.explain import METHODS
from cvtrain.explain.flat_model import (
    find_layer,
    find_spatial_layer,
    last_spatial_layer,
    open_model,
    split_at,
)
from cvtrain.models.convnet import build_convnet
from cvtrain.sections import Convnet

pytestmark = pytest.mark.usefixtures("seeded_engine")


def _computed(model, batch):
    return keras.ops.convert_to_numpy(model(batch, training=False)).astype(np.float32)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_copy_computes_the_original_which_stays_as_it_was(name):
    model = VARIANTS[name]()
    before = state(model)
    opened = open_model(model)
    scores = _computed(opened.network, images())
    assert state(model) == before
    # No flag of training is left from how the original calls its layers.
    unsaid = keras.ops.convert_to_numpy(opened.network(images()))
    np.testing.assert_allclose(unsaid, scores, atol=1e-5)
    # The weights are the same, so that the copy in float32 is exactly this, whatever the model's.
    np.testing.assert_allclose(opened.probabilities(scores), _computed(flat(), images()), atol=1e-5)
    assert {layer.compute_dtype for layer in opened.network.layers} == {"float32"}
    assert not {id(each) for each in model.variables} & {id(v) for v in opened.network.variables}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_layer_that_is_chosen_is_the_same_however_models_are_nested(name):
    opened = open_model(VARIANTS[name]())
    tensor = opened.layers[last_spatial_layer(opened)]
    assert tensor.shape == (None, 8, 6, 6)


def test_before_every_pass_it_asks_whether_to_go_on():
    asked = []
    opened = replace(open_model(flat()), raise_if_stopped=lambda: asked.append(len(asked)))
    forward = opened.inference(opened.network)
    slope = opened.value_and_gradient(lambda x: opened.network(x)[:, 0], opened.network)
    assert asked == []
    np.testing.assert_allclose(forward(images())[:, 0], slope(images())[0], atol=1e-6)
    assert asked == [0, 1]


def test_a_name_that_is_used_twice_names_its_model():
    opened = open_model(VARIANTS["named alike"]())
    assert [name for name in opened.layers if "conv" in name] == [
        "first.conv",
        "second.conv",
        "conv",
    ]
    with pytest.raises(ConfigError, match="no layer third") as caught:
        find_layer(opened, "third")
    assert "second.conv" in caught.value.advice
    opened = open_model(flat())
    with pytest.raises(ConfigError, match="no layer laet") as caught:
        find_layer(opened, "laet")
    assert caught.value.advice == "Did you mean late?"


def test_what_is_shared_stays_shared():
    inside = keras.Input((None, None, 4))
    twice = keras.Model(inside, layers.Conv2D(4, 1, name="shared", **seeded(2))(inside), name="m")
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, **seeded(1))(inputs)
    x = layers.Add(name="sum")([twice(x), twice(twice(x))])
    model = keras.Model(inputs, top()(layers.Flatten()(x)))
    opened = open_model(model)
    assert [name for name in opened.layers if "shared" in name] == [
        "shared",
        "shared:1",
        "shared:2",
    ]
    assert len(opened.network.variables) == len(model.variables)
    kernel = opened.network.get_layer("shared").kernel
    kernel.assign(2 * kernel)
    assert not np.array_equal(kernel.numpy(), twice.layers[-1].kernel.numpy())
    # The graph that is cut after the first call goes on with the layer's second.
    for layer in ("shared", "shared:1", "sum"):
        body, head = split_at(opened, layer)
        found = _computed(head, body(images(), training=False))
        np.testing.assert_allclose(found, _computed(opened.network, images()), rtol=1e-5)


def _features_and(ending):
    inputs = keras.Input(SHAPE)
    x = layers.Flatten(name="features")(layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, ending(x))


ENDINGS = {
    "activation of a layer": ("softmax", lambda x: top()(x)),
    "activation": ("softmax", lambda x: layers.Activation("softmax")(top(activation=None)(x))),
    "layer": ("softmax", lambda x: layers.Softmax()(top(activation=None)(x))),
    "operation": ("softmax", lambda x: keras.ops.softmax(top(activation=None)(x))),
    "nested": (
        "softmax",
        lambda x: keras.Sequential([top(activation=None), layers.Softmax(dtype="float32")])(x),
    ),
    "labels": ("sigmoid", lambda x: top(activation="sigmoid")(x)),
    "operation, labels": ("sigmoid", lambda x: keras.ops.sigmoid(top(activation=None)(x))),
    "none": ("linear", lambda x: top(activation=None)(x)),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_scores_are_logits(name):
    kind, ending = ENDINGS[name]
    opened = open_model(_features_and(ending))
    features = images().reshape(5, -1) / 255
    dense = opened.network.get_layer("top")
    logits = features @ dense.kernel.numpy() + dense.bias.numpy()
    scores = _computed(opened.network, images())
    assert opened.output == kind
    np.testing.assert_allclose(scores, logits, atol=1e-5)
    expected = expit(logits) if kind == "sigmoid" else softmax(logits, axis=1)
    np.testing.assert_allclose(opened.probabilities(scores), expected, atol=1e-6)


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_a_single_unit_speaks_for_the_second_of_two_classes(activation):
    model = _features_and(lambda x: top(1, activation)(x))
    opened = open_model(model)
    scores = _computed(opened.network, images())
    output = _computed(model, images())[:, 0]
    assert opened.output == "sigmoid"
    np.testing.assert_array_equal(scores[:, 0], -scores[:, 1])
    p = output if activation else expit(output)
    np.testing.assert_allclose(opened.probabilities(scores), np.stack([1 - p, p], 1), atol=1e-6)


@pytest.mark.parametrize(("units", "activation"), [(NUM_CLASSES, "softmax"), (1, "sigmoid")])
def test_probabilities_that_are_no_last_activation_become_logarithms(units, activation):
    def ending(x):
        parts = [
            layers.Dense(units, activation=activation, **seeded(seed))(x * 0.1) for seed in (1, 2)
        ]
        return layers.Average()(parts)

    model = _features_and(ending)
    opened = open_model(model)
    assert opened.output == "log-probability"
    p = _computed(model, images())
    p = np.concatenate([1 - p, p], axis=1) if units == 1 else p
    scores = _computed(opened.network, images())
    np.testing.assert_allclose(scores, np.log(p), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(opened.probabilities(scores), p, atol=1e-6)


def test_statistics_and_adapted_constants_come_along():
    generator = np.random.default_rng(0)
    normalization = layers.Normalization()
    normalization.adapt(images(20))
    inputs = keras.Input(SHAPE)
    x = layers.BatchNormalization()(normalization(inputs))
    model = keras.Model(inputs, top()(layers.Flatten()(x)))
    for variable in model.layers[2].weights:
        variable.assign(generator.uniform(0.5, 2, variable.shape))
    opened = open_model(model)
    scores = _computed(opened.network, images())
    np.testing.assert_allclose(opened.probabilities(scores), _computed(model, images()), atol=1e-5)


class _Subclassed(keras.Model):
    def __init__(self, base):
        super().__init__(name="subclassed")
        self.base = base

    def call(self, x, training=False):
        return self.base(x, training=training)


@pytest.mark.parametrize("name", ["flat", "augmenting"])
def test_a_subclassed_model_is_explained_by_its_pixels_alone(name):
    model = _Subclassed(VARIANTS[name]())
    with pytest.raises(RunError, match="has not been built"):
        open_model(model)
    expected = _computed(model, images())
    before = state(model)
    opened = open_model(model)
    scores = _computed(opened.network, images())
    assert opened.output == "log-probability"
    assert opened.layers == {}
    assert state(model) == before
    np.testing.assert_allclose(opened.probabilities(scores), expected, atol=1e-6)
    for ask in (last_spatial_layer, lambda opened: find_layer(opened, "late")):
        with pytest.raises(ConfigError, match="subclassed") as caught:
            ask(opened)
        assert "\n" not in caught.value.message
        for name, method in METHODS.items():
            assert (name in caught.value.advice) == (not method.needs_layer)


@pytest.mark.parametrize("units", [1, 2])
def test_the_policy_of_the_moment_is_of_no_consequence(units):
    model = _features_and(lambda x: top(units, "sigmoid")(x * 0.1))
    averaged = keras.Model(model.input, layers.Average()([model.output, model.output]))
    keras.config.set_dtype_policy("mixed_float16")
    try:
        for each in (model, averaged):
            opened = open_model(each)
            _, *computing = opened.network.layers
            assert {layer.compute_dtype for layer in computing} == {"float32"}
            assert _computed(opened.network, images()).shape == (5, 2)
            assert opened.network.output.dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")


class _Stranger(keras.layers.Layer):
    """Restores itself from its config to something else, or not at all."""

    def __init__(self, factor=1.0, broken=False, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor
        self.broken = broken

    def call(self, x):
        return self.factor * x

    def get_config(self):
        if self.broken:
            raise NotImplementedError
        return super().get_config()


def _with_stranger(**kwargs):
    return _features_and(lambda x: top()(_Stranger(**kwargs, name="stranger")(x)))


@pytest.mark.parametrize("build", [borrowing, lambda: _with_stranger(factor=3.0, broken=True)])
def test_a_layer_that_cannot_be_restored_is_called_with_a_copy_of_its_weights(build):
    model = build()
    expected = _computed(model, images())
    before = state(model)
    opened = open_model(model)
    scores = _computed(opened.network, images())
    np.testing.assert_allclose(opened.probabilities(scores), expected, atol=1e-6)
    assert len(opened.network.weights) == len(model.weights)
    assert not {id(each) for each in model.variables} & {id(v) for v in opened.network.variables}
    opened.network.set_weights([0 * weight for weight in opened.network.get_weights()])
    assert not _computed(opened.network, images()).any()
    assert state(model) == before


def test_a_copy_that_computes_something_else_is_refused():
    with pytest.raises(RunError, match="computes something else"):
        open_model(_with_stranger(factor=-3.0))


def test_models_that_are_no_classifiers_of_images_are_refused():
    one, other = keras.Input(SHAPE), keras.Input(SHAPE)
    x = layers.Flatten()(layers.Add()([one, other]))
    pixels = keras.Input((20,))
    refused = {
        "and": keras.Model([one, other], top()(x)),
        r"takes \(None, 20\)": keras.Model(pixels, top()(pixels)),
        r"returns \(2, 12, 10, 1\)": keras.Model(one, layers.Conv2D(1, 1)(one)),
        r"returns \(2, 360\) and \(2, 12, 10, 3\)": keras.Model(
            one, [layers.Flatten()(one), layers.Rescaling(2)(one)]
        ),
        "has not been built": keras.Sequential([layers.Flatten(), top()]),
    }
    for words, model in refused.items():
        with pytest.raises(RunError, match=words) as caught:
            open_model(model)
        assert "\n" not in caught.value.message


@pytest.mark.parametrize("resizes", [False, True])
@pytest.mark.parametrize("taken", [(None, None), (20, None), (None, 8), (20, 8)])
def test_a_model_of_any_size_is_opened_at_one(taken, resizes):
    inputs = keras.Input((*taken, 3))
    x = layers.Resizing(12, 10)(inputs) if resizes else inputs
    x = layers.MaxPooling2D()(layers.Conv2D(4, 3, name="conv")(x))
    model = keras.Model(inputs, top()(layers.GlobalMaxPooling2D()(x)))
    for asked, size in (({"image_size": (9, 17)}, (9, 17)), ({}, (224, 224))):
        height, width = (own or other for own, other in zip(taken, size, strict=True))
        opened = open_model(model, **asked)
        assert last_spatial_layer(opened) == "conv"
        assert opened.layers["conv"].shape[1:3] == ((10, 8) if resizes else (height - 2, width - 2))
        pixels = images(2, shape=(height, width, 3))
        received = opened.probabilities(_computed(opened.network, pixels))
        np.testing.assert_allclose(received, _computed(model, pixels), atol=1e-5)


@pytest.mark.parametrize("dense", [(), (5,)])
@pytest.mark.parametrize("batch_normalization", [False, True])
def test_the_layer_of_a_convnet_is_the_last_before_pooling(dense, batch_normalization):
    net = Convnet(filters=(4, 6), dense=dense, dropout=0.5, batch_normalization=batch_normalization)
    model = build_convnet(net, image_size=(20, 24), num_classes=3)
    assert last_spatial_layer(open_model(model)) == "conv2_relu"


def _residual(x):
    y = layers.Conv2D(4, 3, padding="same", name="branch_conv")(x)
    return layers.Add(name="sum")([y, x])


TOPS = {
    "sum": lambda x: layers.Flatten()(layers.Dropout(0.5)(layers.MaxPooling2D()(_residual(x)))),
    "act": lambda x: keras.ops.mean(layers.ReLU(name="act")(_residual(x)), (1, 2)),
    # What is 1x1 has no places any more.
    "wide": lambda x: layers.Flatten()(
        layers.Conv2D(4, 1, name="blank")(
            layers.AveragePooling2D((10, 8))(layers.ReLU(name="wide")(x))
        )
    ),
    # Where everything ends inside branches, the last place where they meet at this size.
    "meet": lambda x: layers.Concatenate()(
        [
            layers.GlobalMaxPooling2D()(layers.Conv2D(3, 3, padding="same", name=f"branch{i}")(x))
            for x in [layers.ReLU(name="meet")(x)]
            for i in (1, 2)
        ]
    ),
}


@pytest.mark.parametrize("layer", TOPS)
def test_the_chosen_layer_sees_all_and_still_has_places(layer):
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    opened = open_model(keras.Model(inputs, top()(TOPS[layer](x))))
    assert last_spatial_layer(opened) == layer


def test_without_a_spatial_layer_the_methods_that_need_none_are_named():
    opened = open_model(_features_and(lambda x: top()(x)))
    with pytest.raises(ConfigError, match="no layer with a height") as caught:
        last_spatial_layer(opened)
    assert "occlusion" in caught.value.advice
    opened = open_model(flat())
    with pytest.raises(ConfigError, match=r"top has the shape \(None, 3\)") as caught:
        find_spatial_layer(opened, "top")
    assert "late" in caught.value.advice


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("ResNet50", "conv5_block3_out"),
        ("MobileNetV2", "out_relu"),
        ("DenseNet121", "relu"),
        ("EfficientNetB0", "top_activation"),
        ("VGG16", "block5_conv3"),
    ],
)
def test_the_layer_of_known_networks(name, layer):
    build = getattr(keras.applications, name)
    opened = open_model(build(weights=None, input_shape=(64, 64, 3), classes=3))
    assert last_spatial_layer(opened) == layer
    keras.backend.clear_session()


@pytest.mark.slow
def test_the_layer_of_convnext_is_its_last_sum():
    model = keras.applications.ConvNeXtTiny(weights=None, input_shape=(64, 64, 3), classes=3)
    opened = open_model(model)
    sums = [name for name in opened.layers if name.startswith("add")]
    assert last_spatial_layer(opened) == sums[-1]


def _branching():
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="stem", **seeded(1))(inputs)
    a = layers.Conv2D(4, 3, padding="same", name="a", **seeded(2))(x)
    b = layers.Conv2D(3, 1, name="b", **seeded(3))(x)
    x = layers.Concatenate(name="both")([a, b, inputs])
    x = layers.Rescaling(0.01, name="scaled")(x)
    return keras.Model(inputs, top()(layers.GlobalAveragePooling2D(name="pool")(x)))


def test_a_network_can_be_cut_anywhere():
    opened = open_model(_branching())
    whole = _computed(opened.network, images())
    others = {}
    for layer in opened.layers:
        body, head = split_at(opened, layer)
        tensors = body(images(), training=False)
        np.testing.assert_allclose(_computed(head, tensors), whole, atol=1e-6)
        others[layer] = len(head.inputs) - 1
    # Beside `stem` passes the input alone, beside `a` also what `b` starts from.
    assert others == {"stem": 1, "a": 2, "b": 2, "both": 0, "scaled": 0, "pool": 0, "top": 0}

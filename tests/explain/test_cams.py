import itertools
import tracemalloc

import cv2
import numpy as np
import pytest
from scipy.special import softmax
from tiny_models import SHAPE, VARIANTS, flat, images, layers, seeded, state, top

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.explain import cams
from cvtrain.explain.explain import METHODS
from cvtrain.explain.flat_model import FlatModel, last_spatial_layer, open_model

CLASSES = np.array([[0, 2], [1, 0], [2, 1], [0, 1], [2, 0]])
CAMS = {name: method.function for name, method in METHODS.items() if method.needs_layer}
BY_GRADIENTS = ["gradcam", "gradcam++", "hirescam", "layercam"]


pytestmark = pytest.mark.usefixtures("seeded_engine")


def _flattening(activation="relu", units=3):
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(5, 3, activation=activation, name="conv", **seeded(1))(inputs / 255)
    return keras.Model(
        inputs, top(units, "softmax" if units > 1 else "sigmoid")(layers.Flatten()(x))
    )


def _of_layer(model, name, batch):
    """The activation of a layer of a flat model, float64."""
    part = keras.Model(model.input, model.get_layer(name).output)
    return keras.ops.convert_to_numpy(part(batch, training=False)).astype(np.float64)


def _weights(model):
    kernel, bias = (each.astype(np.float64) for each in model.get_layer("top").get_weights())
    return kernel, bias


def _explained(model, name, batch, classes=CLASSES, **kwargs):
    opened = open_model(model)
    return CAMS[name](opened, last_spatial_layer(opened), **kwargs)(batch, classes)


@pytest.mark.parametrize("name", ["gradcam", "hirescam"])
def test_over_an_average_and_a_dense_layer_it_is_the_class_activation_map(name):
    model = flat()
    explained = _explained(model, name, images(), batch_size=2)
    a = _of_layer(model, "late", images())
    kernel, bias = _weights(model)
    # Zhou et al. (2016), equation 1.
    expected = np.einsum("nhwk,kc->nchw", a, kernel) / a[0, ..., 0].size
    expected = np.take_along_axis(expected, CLASSES[:, :, None, None], axis=1)
    np.testing.assert_allclose(explained.maps, expected, atol=1e-6)
    assert explained.box == (2, 2, 8, 6)
    np.testing.assert_allclose(
        explained.maps.sum(axis=(2, 3)) + bias[CLASSES],
        np.take_along_axis(explained.scores, CLASSES, axis=1),
        atol=1e-5,
    )


def _gradients_over_a_flattening(model, a):
    """dz/dA (n, class, h, w, k) of a dense layer on the flattened A: its kernel."""
    kernel, bias = _weights(model)
    g = np.moveaxis(kernel.reshape(*a.shape[1:], -1), -1, 0)
    logits = a.reshape(len(a), -1) @ kernel + bias
    return np.broadcast_to(g, (len(a), *g.shape)), logits, bias


def _by_the_papers(name, a, g):
    """The equations as they are printed, for one image and class: a and g (h, w, k)."""
    if name == "gradcam":
        return sum(g[..., k].mean() * a[..., k] for k in range(a.shape[-1]))
    if name == "hirescam":
        return (g * a).sum(axis=-1)
    if name == "layercam":
        return (np.maximum(g, 0) * a).sum(axis=-1)
    alpha = g**2 / (2 * g**2 + a.sum(axis=(0, 1)) * g**3)
    return ((alpha * np.maximum(g, 0)).sum(axis=(0, 1)) * a).sum(axis=-1)


@pytest.mark.parametrize("name", BY_GRADIENTS)
def test_over_a_flattening_maps_are_what_the_papers_print(name):
    model = _flattening()
    explained = _explained(model, name, images(), batch_size=2)
    a = _of_layer(model, "conv", images())
    g, logits, bias = _gradients_over_a_flattening(model, a)
    for i, j in np.ndindex(CLASSES.shape):
        expected = _by_the_papers(name, a[i], g[i, CLASSES[i, j]])
        np.testing.assert_allclose(
            explained.maps[i, j], expected, atol=1e-5 * np.abs(expected).max()
        )
    np.testing.assert_allclose(explained.scores, logits, atol=1e-5)
    asked = np.take_along_axis(logits, CLASSES, axis=1)
    complete = np.allclose(explained.maps.sum(axis=(2, 3)) + bias[CLASSES], asked, atol=1e-4)
    assert complete == (name == "hirescam")


def test_a_softmax_would_make_the_maps_of_all_classes_cancel():
    opened = open_model(_flattening())
    kept = layers.Softmax()(opened.network.output)
    with_softmax = FlatModel(keras.Model(opened.network.input, kept), opened.layers, "softmax")
    every = np.tile(np.arange(3), (5, 1))
    sums = [
        cams.gradcam(each, "conv")(images(), every).maps.sum(axis=1)
        for each in (with_softmax, opened)
    ]
    np.testing.assert_allclose(sums[0], 0, atol=1e-6)
    assert np.abs(sums[1]).max() > 1e-2


@pytest.mark.parametrize("name", ["gradcam", "hirescam", "ablation"])
def test_what_speaks_for_one_of_two_classes_speaks_against_the_other(name):
    explained = _explained(_flattening(units=1), name, images(), np.tile([0, 1], (5, 1)))
    assert np.abs(explained.maps).max() > 1e-3
    np.testing.assert_allclose(explained.maps[:, 0], -explained.maps[:, 1], atol=1e-6)
    np.testing.assert_array_equal(explained.scores[:, 0], -explained.scores[:, 1])


@pytest.mark.parametrize("name", ["gradcam", "scorecam", "ablation", "eigencam"])
@pytest.mark.parametrize("variant", [each for each in VARIANTS if each != "flat"])
def test_maps_do_not_depend_on_how_models_are_nested(name, variant):
    expected = _explained(flat(), name, images())
    model = VARIANTS[variant]()
    before = state(model)
    explained = _explained(model, name, images())
    np.testing.assert_allclose(explained.maps, expected.maps, atol=1e-4)
    np.testing.assert_allclose(explained.scores, expected.scores, atol=1e-4)
    assert state(model) == before


@pytest.mark.parametrize("name", CAMS)
def test_a_batch_is_its_images_one_by_one_and_every_run_the_same(name):
    opened = open_model(VARIANTS["augmenting"]())
    explain = CAMS[name](opened, last_spatial_layer(opened), batch_size=4)
    together = explain(images(), CLASSES)
    np.testing.assert_array_equal(explain(images(), CLASSES).maps, together.maps)
    for i in range(5):
        alone = explain(images()[i : i + 1], CLASSES[i : i + 1, 1:])
        np.testing.assert_allclose(alone.maps[0, 0], together.maps[i, 1], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(alone.scores[0], together.scores[i], rtol=1e-4, atol=1e-5)


def test_scorecam_is_its_algorithm():
    model = flat()
    explained = _explained(model, "scorecam", images(2), CLASSES[:2], batch_size=4)
    a = _of_layer(model, "late", images(2))
    logits = open_model(model).network
    for i, image in enumerate(images(2)):
        seen = []
        for channel in np.moveaxis(a[i], -1, 0):
            # Two convolutions without padding took two pixels off each border.
            large = cv2.resize(channel, (6, 8), interpolation=cv2.INTER_LINEAR)
            large = np.pad(large, 2, mode="edge")
            mask = ((large - large.min()) / max(np.ptp(large), 1e-9))[..., None]
            hidden = image.mean(axis=(0, 1))
            seen.append(np.float32(mask * image + (1 - mask) * hidden))
        scores = keras.ops.convert_to_numpy(logits(np.stack(seen), training=False))
        for j, asked in enumerate(CLASSES[i]):
            expected = a[i] @ softmax(scores[:, asked])
            np.testing.assert_allclose(explained.maps[i, j], expected, rtol=1e-4, atol=1e-6)


def test_eigencam_is_the_first_principal_component_and_mostly_positive():
    model = _flattening(activation="tanh")
    explained = _explained(model, "eigencam", images(), batch_size=2)
    for a, maps in zip(_of_layer(model, "conv", images()), explained.maps, strict=True):
        places = a.reshape(-1, a.shape[-1])
        _, vectors = np.linalg.eigh(places.T @ places)
        expected = (places @ vectors[:, -1]).reshape(a.shape[:2])
        expected *= np.sign(expected.sum())
        np.testing.assert_allclose(maps, [expected, expected], atol=1e-5)


def test_ablation_weights_a_channel_by_the_share_of_the_score_lost_without_it():
    model = flat()
    explained = _explained(model, "ablation", images(), batch_size=4)
    a = _of_layer(model, "late", images())
    kernel, bias = _weights(model)
    for i, j in np.ndindex(CLASSES.shape):
        # A channel's share of a logit over an average is its mean times its weight.
        shares = a[i].mean(axis=(0, 1)) * kernel[:, CLASSES[i, j]]
        y = shares.sum() + bias[CLASSES[i, j]]
        expected = a[i] @ (shares / abs(y))
        np.testing.assert_allclose(explained.maps[i, j], expected, rtol=1e-3, atol=1e-5)
    assert (explained.scores < 0).any()


def _counting(monkeypatch):
    """How many rows each compiled function was given, in the order they were compiled."""
    counts = []

    def counted(compile_function):
        def compiled(*args, **kwargs):
            run, index = compile_function(*args, **kwargs), len(counts)
            counts.append([])

            def call(x, *others):
                counts[index].append(len(x[0] if isinstance(x, list) else x))
                return run(x, *others)

            return call

        return compiled

    monkeypatch.setattr(backend, "inference", counted(backend.inference))
    monkeypatch.setattr(backend, "value_and_gradient", counted(backend.value_and_gradient))
    return counts


@pytest.mark.parametrize("name", BY_GRADIENTS)
@pytest.mark.parametrize("k", [1, 3])
def test_the_body_sees_every_image_once_whatever_the_number_of_classes(name, k, monkeypatch):
    counts = _counting(monkeypatch)
    _explained(flat(), name, images(8), np.tile(np.arange(k), (8, 1)), batch_size=4)
    assert sorted(counts, key=len) == [[4, 4], [4] * 2 * k]


@pytest.mark.parametrize("name", CAMS)
def test_classes_may_be_chosen_by_the_scores_of_all_images(name):
    opened = open_model(flat())
    explain = CAMS[name](opened, last_spatial_layer(opened), batch_size=2)
    asked = []

    def two_best(scores):
        asked.append(scores)
        return np.argsort(-scores, axis=1)[:, :2]

    found = explain(images(), two_best)
    (scores,) = asked
    logits = keras.ops.convert_to_numpy(opened.network(images(), training=False))
    np.testing.assert_allclose(scores, logits, atol=1e-5)
    np.testing.assert_array_equal(found.scores, scores)
    np.testing.assert_array_equal(found.classes, np.argsort(-logits, axis=1)[:, :2])
    np.testing.assert_array_equal(found.maps, explain(images(), found.classes).maps)


@pytest.mark.skipif(backend.engine_name() != "tensorflow", reason="counts TensorFlow's traces")
@pytest.mark.parametrize("name", CAMS)
def test_a_command_traces_each_part_once(name):
    traced = []

    class Noted(layers.Layer):
        def call(self, x):
            traced.append(self.name)
            return x

    inputs = keras.Input(SHAPE)
    x = Noted(name="below")(inputs / 255)
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(x)
    x = Noted(name="above")(layers.GlobalAveragePooling2D()(x))
    opened = open_model(keras.Model(inputs, top()(x)))
    explain = CAMS[name](opened, "conv", batch_size=4)
    traced.clear()
    explain(images(10), np.tile(np.arange(3), (10, 1)))
    # The pass that gives A and all scores; then what the method runs for each class or channel.
    then = {"eigencam": [], "scorecam": ["above", "below"]}.get(name, ["above"])
    assert sorted(traced) == sorted(["above", "below", *then])
    traced.clear()
    explain(images(10), np.tile(np.arange(3), (10, 1)))
    assert not traced


def test_the_memory_of_scorecam_does_not_grow_with_the_channels():
    def peak(channels):
        inputs = keras.Input((64, 64, 3))
        x = layers.Conv2D(channels, 9, strides=8, name="conv")(inputs / 255)
        model = keras.Model(inputs, top()(layers.GlobalAveragePooling2D()(x)))
        explain = cams.scorecam(open_model(model), "conv", batch_size=8)
        batch = images(2, shape=(64, 64, 3))
        explain(batch, CLASSES[:2])
        tracemalloc.start()
        explain(batch, CLASSES[:2])
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    masked = 64 * 64 * 3 * 4
    # What grows is the activation itself, far below an image for each channel.
    assert peak(256) - peak(16) < 0.05 * (256 - 16) * masked


def _awkward(kind):
    inputs = keras.Input(SHAPE)
    kernel, bias, top_kernel = {
        "constant channels": ("zeros", 1.0, None),
        "dead": (None, -1e6, None),
        "all negative": (None, 0.0, -1.0),
        "steep": (None, 0.0, 1e30),
        "faint": (None, 0.0, 1e-30),
    }[kind]
    conv = layers.Conv2D(4, 3, activation="relu", name="conv")
    x = layers.GlobalAveragePooling2D()(conv(inputs))
    dense = layers.Dense(3, name="top")
    model = keras.Model(inputs, dense(x))
    conv.bias.assign([bias] * 4)
    if kernel == "zeros":
        conv.kernel.assign(np.zeros(conv.kernel.shape))
    if top_kernel:
        dense.kernel.assign(np.full(dense.kernel.shape, top_kernel))
    return model


@pytest.mark.parametrize("name", CAMS)
@pytest.mark.parametrize("kind", ["constant channels", "dead", "all negative", "steep", "faint"])
def test_nothing_is_ever_not_finite(name, kind):
    batch = images(3)
    batch[0] = 0
    explained = _explained(_awkward(kind), name, batch, CLASSES[:3])
    assert np.isfinite(explained.maps).all()
    assert np.isfinite(explained.scores).all()
    notes = list(itertools.chain(*explained.notes))
    assert notes[:2] == ["constant"] * 2  # The black image.
    if kind in ("constant channels", "dead"):
        assert set(notes) == {"constant"}
    if kind == "all negative" and name in ("gradcam", "hirescam", "ablation"):
        assert set(notes[2:]) == {"all negative"}
        assert (explained.maps <= 0).all()

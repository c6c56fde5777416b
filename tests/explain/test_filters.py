"""Filters against closed forms and plain Keras, in all the ways that a layer can be computed."""

import numpy as np
import pytest
from engines import found_on
from tiny_models import SHAPE, VARIANTS, layers, seeded, state, top

from cvtrain.backend import keras
from cvtrain.errors import ConfigError
from cvtrain.explain import activation_maximization as ascent
from cvtrain.explain import filters
from cvtrain.explain.filters import filter_images
from cvtrain.explain.flat_model import open_model

pytestmark = pytest.mark.usefixtures("seeded_engine")


class Recorder(ascent.Book):
    """The book's ascent, which remembers what the model saw and what came back."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen, self.gradients = [], []
        RECORDED.append(self)

    def view(self, step):
        self.seen.append(super().view(step))
        return self.seen[-1]

    def climb(self, gradients):
        self.gradients.append(gradients)
        super().climb(gradients)


RECORDED = []


@pytest.fixture
def recorded(monkeypatch):
    """The last ascent of a command, once there was one."""
    RECORDED.clear()
    monkeypatch.setitem(filters.STYLES, "book", Recorder)
    return lambda: RECORDED[-1]


def ending_in(*body, shape=SHAPE, **options):
    """An opened classifier whose body is these layers."""
    x = inputs = keras.Input(shape)
    for layer in body:
        x = layer(x)
    pooled = layers.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else x
    return open_model(keras.Model(inputs, top()(pooled)), **options)


def convolution(count=5, size=3, name="conv", **kwargs):
    return layers.Conv2D(count, size, name=name, **seeded(1), **kwargs)


def test_on_a_linear_1x1_convolution_the_update_is_the_kernel(recorded):
    opened = ending_in(convolution(4, 1))
    filter_images(opened, "conv", steps=1, pixel_range=(0, 255))
    kernel = opened.network.get_layer("conv").get_weights()[0][0, 0]
    inner = np.zeros(SHAPE[:2])
    inner[2:-2, 2:-2] = 1
    expected = 255 * inner[None, :, :, None] * kernel.T[:, None, None] / inner.sum()
    np.testing.assert_allclose(recorded().gradients[0], expected, rtol=1e-5, atol=1e-7)
    update = recorded().view(1) - recorded().seen[-2]
    lengths = np.sqrt((expected**2).sum(axis=(1, 2, 3), keepdims=True))
    rate = 10 * np.sqrt(np.prod(SHAPE) / (200 * 200 * 3))
    np.testing.assert_allclose(update, rate * expected / lengths, rtol=1e-4, atol=1e-6)


def test_values_are_means_without_a_border(recorded):
    opened = ending_in(convolution(activation="tanh"))
    found = filter_images(opened, "conv", steps=1, pixel_range=(-1, 1))
    part = keras.Model(opened.network.input, opened.layers["conv"])
    activations = np.asarray(part(2 * recorded().seen[0] - 1))
    # A map of 10 x 8: a border of 2 and of 1.
    expected = activations[:, 2:-2, 1:-1].mean(axis=(1, 2)).diagonal()
    np.testing.assert_allclose(found.values, expected, atol=1e-6)


def test_a_dense_layer_has_units_for_filters():
    opened = ending_in(convolution())
    found = filter_images(opened, "top", steps=20)
    assert found.images.shape[0] == 3
    few = filter_images(opened, "top", steps=1)
    assert (found.values > few.values).all()


def _settled_chain(last):
    normalization = layers.BatchNormalization(name="norm")
    opened = ending_in(
        layers.Rescaling(1 / 255), convolution(7), normalization, layers.ReLU(name="relu"), *last
    )
    rng = np.random.default_rng(0)
    norm = opened.network.get_layer("norm")
    norm.set_weights([rng.uniform(0.5, 1.5, 7) for _ in norm.weights])
    return opened


@pytest.mark.parametrize("layer", ["conv", "norm", "relu"])
def test_few_channels_at_a_time_are_those_of_the_whole_layer(layer, monkeypatch):
    monkeypatch.setattr(filters, "_channelwise", tuple)
    whole = filter_images(_settled_chain([layers.Identity(name="same")]), layer, steps=4)
    monkeypatch.undo()
    narrowed = filter_images(_settled_chain([]), layer, steps=4, filters=[5, 2])
    np.testing.assert_allclose(narrowed.values, whole.values[[5, 2]], rtol=1e-4)
    np.testing.assert_allclose(narrowed.images, whole.images[[5, 2]].astype(int), atol=1)


def test_a_softmax_over_channels_is_never_narrowed():
    opened = ending_in(convolution(activation="softmax"))
    found = filter_images(opened, "conv", steps=10, filters=[3])
    part = keras.Model(opened.network.input, opened.layers["conv"])
    assert 0 < found.values[0] < np.asarray(part(np.zeros((1, *SHAPE), np.float32))).sum()
    assert not found.dead.any()


@pytest.mark.parametrize("style", ["book", "distill"])
def test_batched_is_one_by_one_and_reproducible(style, monkeypatch):
    opened = ending_in(convolution(7, activation="relu"))
    together = filter_images(opened, "conv", style=style, steps=4)
    monkeypatch.setattr(filters, "_ACTIVATION_BYTES", 3 * 4 * (12 * 10 * 3 + 10 * 8 * 7))
    assert max(map(len, filters._chunks(np.arange(7), 3))) == 3
    chunked = filter_images(opened, "conv", style=style, steps=4)
    for i in range(7):
        alone = filter_images(opened, "conv", style=style, steps=4, filters=[i])
        for found in (together, chunked):
            assert abs(alone.images[0].astype(int) - found.images[i]).max() <= 1
            assert alone.values[0] == pytest.approx(found.values[i], rel=1e-4)
    again = filter_images(opened, "conv", style=style, steps=4)
    np.testing.assert_array_equal(again.images, chunked.images)
    other = filter_images(opened, "conv", style=style, steps=4, seed=1)
    assert not np.array_equal(other.images, chunked.images)


def _detectors():
    """Four relu filters: of any light, of bright light alone, of nothing, of darkness alone."""
    opened = ending_in(convolution(4, 1, activation="relu"))
    kernel = np.repeat([[1.0, 1.0, -1.0, -1.0]], 3, axis=0)[None, None] / 3
    opened.network.get_layer("conv").set_weights([kernel, np.array([0, -0.9, -1.0, 0.1])])
    return opened


@pytest.mark.parametrize("style", ["book", "distill"])
def test_dead_filters_are_retried_and_labelled(style):
    found = filter_images(_detectors(), "conv", style=style, steps=3, pixel_range=(0, 1))
    assert found.dead.tolist() == [False, False, True, False]
    assert (found.images[2] == 128).all()
    assert found.values[2] == 0
    assert found.images[[0, 1, 3]].std(axis=(1, 2, 3)).min() > 0


def test_a_layer_of_dead_filters_alone_is_no_problem():
    opened = ending_in(layers.ReLU(max_value=0, name="nothing"))
    found = filter_images(opened, "nothing", steps=2)
    assert found.dead.all()
    assert found.images.shape == (3, 10, 8, 3)


def test_what_is_not_finite_stays_out():
    opened = ending_in(
        layers.Rescaling(1e30), convolution(), layers.Activation("exponential", name="exponential")
    )
    found = filter_images(opened, "exponential", steps=3)
    assert np.isfinite(found.values).all()


def test_every_filter_is_exciting_after_the_ascent():
    body = layers.Rescaling(1 / 255), convolution(6, activation="relu")
    opened = ending_in(*body, shape=(40, 32, 3))
    for style in ("book", "distill"):
        start, end = (filter_images(opened, "conv", style=style, steps=n) for n in (1, 25))
        assert (end.values > start.values)[~end.dead].all()
        assert end.dead.sum() <= 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_any_model_and_it_stays_as_it_is(variant):
    model = VARIANTS[variant]()
    before = state(model)
    opened = open_model(model)
    layer = "second.conv" if variant == "named alike" else "late"
    found = filter_images(opened, layer, steps=2)
    assert found.images.shape[1:] == (10, 8, 3)
    assert state(model) == before


def test_the_same_filters_in_bfloat16():
    opened = ending_in(layers.Rescaling(1 / 255), convolution(4), convolution(4, name="second"))
    full = filter_images(opened, "second", steps=10)
    half = filter_images(opened, "second", steps=10, precision="bfloat16")
    for one, other in zip(full.images, half.images, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.95


def test_in_a_model_of_any_size_they_are_as_large_as_it_was_opened():
    # What is shown is the inner three quarters.
    opened = ending_in(convolution(2), shape=(None, None, 1), image_size=(24, 16))
    assert filter_images(opened, "conv", steps=1).images.shape[1:] == (18, 12, 1)
    opened = ending_in(convolution(2), shape=(None, None, 1))
    assert filter_images(opened, "conv", steps=1).images.shape[1:3] == (168, 168)


def test_progress_is_told_and_can_stop(monkeypatch):
    monkeypatch.setattr(filters, "_ACTIVATION_BYTES", 1)
    opened = ending_in(convolution(3))
    shares = []
    filter_images(opened, "conv", steps=2, on_step=shares.append)
    assert shares == pytest.approx(np.arange(1, 7) / 6)

    def stop(_share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filter_images(opened, "conv", steps=2, on_step=stop)


@pytest.mark.parametrize(
    ("layer", "options", "words"),
    [
        ("cnv", {}, "conv"),
        ("conv", {"style": "boook"}, "book, distill"),
        ("conv", {"filters": [0, 5]}, "0 to 4"),
        ("conv", {"filters": [-1]}, "0 to 4"),
        ("conv", {"filters": []}, "0 to 4"),
    ],
)
def test_impossible_wishes(layer, options, words):
    with pytest.raises(ConfigError) as caught:
        filter_images(ending_in(convolution()), layer, **options)
    assert words in str(caught.value)


def both_styles():
    opened = ending_in(layers.Rescaling(1 / 255), convolution(activation="relu"))
    # Keras' initial weights differ from engine to engine.
    weights = np.random.default_rng(0).normal(0, 0.3, (3, 3, 3, 5)), np.zeros(5)
    opened.network.get_layer("conv").set_weights(weights)
    return {
        style: filter_images(opened, "conv", style=style, steps=5).images
        for style in filters.STYLES
    }


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["jax", "torch"])
def test_every_engine_draws_the_same(engine, tmp_path):
    found = found_on(engine, both_styles, tmp_path / "found.npz")
    for style, expected in both_styles().items():
        np.testing.assert_allclose(found[style], expected.astype(int), atol=1, err_msg=style)

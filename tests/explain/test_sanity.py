"""What the cascade does to the weights, and what its verdicts say about known explainers."""

import numpy as np
import pytest
import tiny_models
from scipy.stats import spearmanr

from cvtrain.backend import keras
from cvtrain.explain import sanity
from cvtrain.explain.attributions import saliency
from cvtrain.explain.explanation import explanation
from cvtrain.explain.flat_model import open_model

IMAGES = np.random.default_rng(0).uniform(0, 255, (4, 16, 16, 3)).astype(np.float32)
CLASSES = np.array([0, 1, 2, 1])
NO_SCORES = np.zeros((4, 0))


def network(num_layers=2):
    layers = keras.layers
    pixels = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 255)(pixels)
    for i in range(num_layers):
        initializer = keras.initializers.GlorotUniform(i)
        x = layers.Conv2D(
            6, 3, padding="same", kernel_initializer=initializer, activation="relu", name=f"conv{i}"
        )(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.GlobalAveragePooling2D()(x)
    initializer = keras.initializers.GlorotUniform(99)
    head = layers.Dense(3, activation="softmax", kernel_initializer=initializer, name="head")
    return keras.Model(pixels, head(x))


@pytest.mark.parametrize("seed", range(3))
def test_rank_correlation_is_spearmans(seed):
    generator = np.random.default_rng(seed)
    a = generator.integers(0, 9, (5, 7)).astype(np.float32)
    b = a + generator.integers(-3, 4, (5, 7))
    expected = spearmanr(a.ravel(), b.ravel()).statistic
    assert sanity.rank_correlation(a, b) == pytest.approx(expected)
    assert sanity.rank_correlation(a, np.exp(a)) == pytest.approx(1)
    assert sanity.rank_correlation(a, -a) == pytest.approx(-1)
    assert np.isnan(sanity.rank_correlation(a, np.ones((5, 7))))


def test_saliency_follows_what_the_model_has_learnt():
    opened = open_model(network())
    cascade = sanity.randomise(opened, saliency(opened), IMAGES, CLASSES)
    assert cascade.correlations.shape == (len(cascade.stages), 4)
    assert cascade.means[-1] < 0.5
    assert cascade.verdict == "passes"
    assert cascade.num_unranked == [0] * len(cascade.stages)


def test_the_control_fails():
    opened = open_model(network())
    cascade = sanity.randomise(opened, sanity.ignore_the_model, IMAGES, CLASSES)
    np.testing.assert_allclose(cascade.means, 1)
    assert cascade.verdict == "fails"


@pytest.mark.parametrize(
    ("last", "verdict"),
    [
        (-0.3, "passes"),
        (0.49, "passes"),
        (0.5, "is doubtful"),
        (0.89, "is doubtful"),
        (0.9, "fails"),
    ],
)
def test_the_last_stage_decides(last, verdict):
    table = np.array([[0.99, 0.99], [last - 0.005, last + 0.005]])
    assert sanity.Cascade(("head", "conv0"), table).verdict == verdict


def test_a_map_of_the_images_edges_fails():
    def edges(images, classes):
        maps = np.abs(np.diff(images.mean(axis=3), axis=1))[:, None]
        return explanation(maps, classes, NO_SCORES)

    cascade = sanity.randomise(open_model(network()), edges, IMAGES, CLASSES)
    assert cascade.verdict == "fails"


def test_constant_maps_cannot_be_ranked():
    def flat(_images, classes):
        return explanation(np.ones((*classes.shape, 4, 4)), classes, NO_SCORES)

    cascade = sanity.randomise(open_model(network()), flat, IMAGES, CLASSES)
    assert cascade.verdict == "cannot be ranked"
    assert cascade.means == [None] * len(cascade.stages)
    assert cascade.num_unranked == [4] * len(cascade.stages)


def test_one_constant_map_is_left_out():
    def spot_but_one(images, classes):
        maps = np.array(sanity.ignore_the_model(images, classes).maps)
        maps[1] = 0
        return explanation(maps, classes, NO_SCORES)

    cascade = sanity.randomise(open_model(network()), spot_but_one, IMAGES, CLASSES)
    assert cascade.means == pytest.approx([1.0] * len(cascade.stages))
    assert set(cascade.num_unranked) == {1}


def test_layers_forget_from_the_scores_down_and_all_of_them():
    opened = open_model(network())
    names = [layer.name for layer in opened.network.layers if layer.weights]
    weights_of = {name: opened.network.get_layer(name).get_weights for name in names}
    trained = {name: weights_of[name]() for name in names}
    random_layers = []

    def explain(images, classes):
        changed = {
            name
            for name in names
            if any(
                (now != then).any()
                for now, then in zip(weights_of[name](), trained[name], strict=True)
            )
        }
        random_layers.append(changed)
        for name in names:
            for now, then in zip(weights_of[name](), trained[name], strict=True):
                np.testing.assert_array_equal(np.sort(now, axis=None), np.sort(then, axis=None))
        return sanity.ignore_the_model(images, classes)

    # All values of a kernel are different, so that a new order is a change.
    for layer in opened.network.layers:
        layer.set_weights(
            [w + 0.01 * np.arange(w.size).reshape(w.shape) for w in layer.get_weights()]
        )
    trained.update({name: weights_of[name]() for name in names})
    cascade = sanity.randomise(opened, explain, IMAGES, CLASSES)
    assert cascade.stages == ("head", "norm", "conv1", "conv0")
    down = [{"head"}, {"head", "norm"}, {"head", "norm", "conv1"}, set(names)]
    assert random_layers == [set(), *down]
    for name in names:
        for now, then in zip(weights_of[name](), trained[name], strict=True):
            np.testing.assert_array_equal(now, then)


def test_deep_networks_forget_several_layers_at_a_stage():
    opened = open_model(network(22))
    cascade = sanity.randomise(opened, sanity.ignore_the_model, IMAGES, CLASSES)
    assert len(cascade.stages) == sanity.MAX_STAGES
    assert cascade.stages[-1] == "conv0"


def test_the_weights_come_back_when_explaining_fails():
    model = network()
    opened = open_model(model)
    original = [w.copy() for w in model.get_weights()]
    before = opened.network.get_weights()
    calls = []

    def explain(images, classes):
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError
        return sanity.ignore_the_model(images, classes)

    with pytest.raises(MemoryError):
        sanity.randomise(opened, explain, IMAGES, CLASSES)
    for now, then in zip(opened.network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    for now, then in zip(model.get_weights(), original, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_layer_that_cannot_be_copied_forgets_and_the_model_does_not():
    model = tiny_models.borrowing()
    before = tiny_models.state(model)
    opened = open_model(model)
    weights = opened.network.get_weights()
    explain, maps = saliency(opened), []

    def until_ctrl_c(images, classes):
        assert tiny_models.state(model) == before
        if len(maps) == 3:
            raise KeyboardInterrupt
        found = explain(images, classes)
        maps.append(found.maps)
        return found

    with pytest.raises(KeyboardInterrupt):
        sanity.randomise(opened, until_ctrl_c, tiny_models.images(4), CLASSES)
    # Of the layers from the top down, it is the second that forgets.
    assert not np.allclose(maps[1], maps[2])
    assert tiny_models.state(model) == before
    for now, then in zip(opened.network.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)


def test_the_seed_is_the_order():
    opened = open_model(network())
    explain = saliency(opened)
    one, same, other = (
        sanity.randomise(opened, explain, IMAGES, CLASSES, seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.correlations, same.correlations)
    assert not np.array_equal(one.correlations, other.correlations)


def test_a_model_without_weights_cannot_be_ranked():
    pixels = keras.Input((16, 16, 3))
    model = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(pixels))
    opened = open_model(model)
    cascade = sanity.randomise(opened, saliency(opened), IMAGES, CLASSES)
    assert cascade.stages == ()
    assert cascade.verdict == "cannot be ranked"

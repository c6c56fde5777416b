"""Maps from the pixels against closed forms: linear, quadratic and cubic scores, and NumPy."""

import numpy as np
import pytest

from cvtrain.backend import keras
from cvtrain.explain import attributions
from cvtrain.explain.flat_model import open_model

METHODS = {
    "saliency": attributions.saliency,
    "smoothgrad": attributions.smoothgrad,
    "integrated_gradients": attributions.integrated_gradients,
    "occlusion": attributions.occlusion,
    "rise": attributions.rise,
}
SIZE = (18, 15)


@pytest.fixture(autouse=True)
def _few_masks(monkeypatch):
    monkeypatch.setattr(attributions, "NUM_MASKS", 150)


def images_of(num, size=SIZE, *, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (num, *size, 3)).astype(np.float32)


def polynomial(power, size=SIZE):
    """Scores sum w x^power + b of two classes, and w (h, w, 3, classes)."""
    pixels = keras.Input((*size, 3))
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.Multiply()([x] * power) if power > 1 else x
    dense = keras.layers.Dense(2)
    model = keras.Model(pixels, dense(keras.layers.Flatten()(x)))
    weights = np.random.default_rng(7).normal(size=(*size, 3, 2))
    dense.set_weights([weights.reshape(-1, 2), np.array([0.3, -0.2])])
    return open_model(model), weights / 255.0**power


def explained(method, opened, images, classes, **options):
    options = {"batch_size": 16, "seed": 0, **options}
    result = method(opened, **options)(images, np.asarray(classes))
    n, k = np.shape(classes)
    assert result.maps.shape[:2] == (n, k)
    assert result.scores.shape == (n, opened.network.output.shape[-1])
    np.testing.assert_array_equal(result.classes, classes)
    assert result.maps.dtype == result.scores.dtype == np.float32
    assert [len(row) for row in result.notes] == [k] * n
    assert np.isfinite(result.maps).all()
    assert np.isfinite(result.scores).all()
    return result


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_scores_are_the_logits_of_all_classes_and_may_choose(method):
    opened, weights = polynomial(1)
    images = images_of(2)
    logits = np.einsum("nhwc,hwck->nk", images, weights) + np.array([0.3, -0.2])
    result = explained(method, opened, images, [[1], [0]])
    np.testing.assert_allclose(result.scores, logits, rtol=1e-4)
    worst = method(opened, batch_size=16, seed=0)(images, lambda s: s.argmin(axis=1)[:, None])
    np.testing.assert_array_equal(worst.classes[:, 0], logits.argmin(axis=1))
    again = explained(method, opened, images, worst.classes)
    np.testing.assert_array_equal(worst.maps, again.maps)


@pytest.mark.parametrize("method", [attributions.saliency, attributions.smoothgrad])
def test_the_steepness_of_a_linear_score_is_its_weights(method):
    opened, weights = polynomial(1)
    result = explained(method, opened, images_of(2), [[0, 1], [1, 1]])
    steepness = np.abs(weights).max(axis=2)
    for i, j, c in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1)):
        np.testing.assert_allclose(result.maps[i, j], steepness[:, :, c], rtol=1e-4)


def test_saliency_is_the_slope_by_finite_differences():
    pixels = keras.Input((5, 6, 3))
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.Dense(7, activation="tanh")(keras.layers.Flatten()(x))
    model = keras.Model(pixels, keras.layers.Dense(3)(x))
    first, first_bias, last, last_bias = (w.astype(np.float64) for w in model.get_weights())

    def score(image):
        return (np.tanh(image.ravel() / 255 @ first + first_bias) @ last + last_bias)[2]

    (image,) = images_of(1, (5, 6))
    step = 1e-3
    slopes = np.zeros((5, 6, 3))
    for place in np.ndindex(slopes.shape):
        moved = np.zeros(slopes.shape)
        moved[place] = step
        slopes[place] = (score(image + moved) - score(image - moved)) / (2 * step)
    result = explained(attributions.saliency, open_model(model), image[None], [[2]])
    expected = np.abs(slopes).max(axis=2)
    np.testing.assert_allclose(result.maps[0, 0], expected, atol=1e-4 * expected.max())


def test_the_noise_of_smoothgrad_is_a_fifth_of_the_images_range():
    # The slope of x^3 is 3 x^2, and its mean over noise of variance s^2 is 3 (x^2 + s^2).
    opened, _ = polynomial(3)
    image = np.full((1, *SIZE, 3), 100, np.float32)
    image[0, 0, 0] = 0
    image[0, 0, 1] = 200
    dense = opened.network.layers[-1]
    dense.set_weights([np.ones((image.size, 2)), np.zeros(2)])
    result = explained(attributions.smoothgrad, opened, image, [[0]])
    slopes = result.maps[0, 0, 1:].mean() * 255**3 / 3
    deviation = np.sqrt((4 * 100**2 * 40**2 + 2 * 40**4) / 50)
    largest_of_three = 0.846
    assert slopes == pytest.approx(100**2 + 40**2 + largest_of_three * deviation, rel=0.02)


@pytest.mark.parametrize("power", [1, 2])
def test_integrated_gradients_are_exact_on_linear_and_quadratic_scores(power):
    opened, weights = polynomial(power)
    images = images_of(2)
    result = explained(attributions.integrated_gradients, opened, images, [[0, 1], [1, 0]])
    blank = images.mean(axis=(1, 2), keepdims=True)
    parts = np.einsum("nhwc,hwck->nkhw", images.astype(float) ** power - blank**power, weights)
    expected = np.stack([parts[0], parts[1, ::-1]])
    np.testing.assert_allclose(result.maps, expected, atol=1e-4 * np.abs(expected).max())
    assert {note for row in result.notes for note in row} == {"completeness error 0.0 %"}


def test_integrated_gradients_say_by_how_much_they_are_incomplete():
    # A step that 50 points on the way cannot see well.
    pixels = keras.Input((6, 6, 1))
    x = keras.layers.Rescaling(1.0, -131.3)(keras.layers.GlobalMaxPooling2D()(pixels))
    x = keras.layers.Dense(2, "tanh", kernel_initializer="ones")(x)
    dense = keras.layers.Dense(2, kernel_initializer="ones")
    model = keras.Model(pixels, dense(x))
    image = np.random.default_rng(0).uniform(0, 255, (1, 6, 6, 1)).astype(np.float32)
    result = explained(attributions.integrated_gradients, open_model(model), image, [[0]])
    blank = np.full_like(image, image.mean())
    scores = [float(model(x, training=False)[0, 0]) for x in (image, blank)]
    error = abs(result.maps.sum() / (scores[0] - scores[1]) - 1)
    assert 0.01 < error < 9
    noted = float(result.notes[0][0].removeprefix("completeness error ").removesuffix(" %"))
    assert noted == pytest.approx(100 * error, abs=0.1)


@pytest.mark.parametrize("size", [(28, 14), (33, 20), (9, 30)])
def test_occlusion_of_a_linear_score_is_what_the_patch_adds(size):
    opened, weights = polynomial(1, size)
    images = images_of(2, size)
    result = explained(attributions.occlusion, opened, images, [[0, 1], [1, 0]])
    height, width = (min(14, side) for side in size)
    assert result.maps.shape == (2, 2, height, width)
    parts = np.einsum("nhwc,hwck->nkhw", images - images.mean(axis=(1, 2), keepdims=True), weights)
    edges = [np.rint(np.linspace(0, side, min(14, side) + 1)).astype(int) for side in size]
    for y, x in np.ndindex(height, width):
        cell = parts[:, :, edges[0][y] : edges[0][y + 1], edges[1][x] : edges[1][x + 1]]
        sums = cell.sum(axis=(2, 3))
        expected = [sums[0], sums[1, ::-1]]
        np.testing.assert_allclose(result.maps[:, :, y, x], expected, atol=2e-4)


def test_rise_on_a_linear_score_is_the_covariance_with_the_masks():
    opened, weights = polynomial(1)
    images = images_of(2)
    result = explained(attributions.rise, opened, images, [[0, 1], [1, 0]], seed=5)
    masks = attributions._masks(np.random.default_rng(5), 150, SIZE).astype(np.float64)
    parts = np.einsum("nhwc,hwck->nkhw", images - images.mean(axis=(1, 2), keepdims=True), weights)
    for i, j, c in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)):
        scores = (masks * parts[i, c]).sum(axis=(1, 2))
        deviations = scores - scores.mean()
        expected = (deviations[:, None, None] * masks).sum(axis=0) / masks.sum(axis=0)
        np.testing.assert_allclose(result.maps[i, j], expected, atol=2e-4)


def test_rise_finds_the_pixels_that_count():
    opened, _ = polynomial(1, (32, 32))
    weights = np.zeros((32, 32, 3, 2))
    weights[20:24, 6:10, :, 1] = 1
    opened.network.layers[-1].set_weights([weights.reshape(-1, 2), np.zeros(2)])
    images = np.zeros((1, 32, 32, 3), np.float32)
    images[0, 20:24, 6:10] = 255
    result = explained(attributions.rise, opened, images, [[1, 0]])
    y, x = np.unravel_index(result.maps[0, 0].argmax(), (32, 32))
    assert abs(y - 21.5) <= 3
    assert abs(x - 7.5) <= 3
    assert result.notes[0] == ["", "constant"]


def test_masks_keep_half_the_pixels_in_soft_cells_at_random_places():
    masks = attributions._masks(np.random.default_rng(0), 600, (35, 42))
    assert masks.min() == 0
    assert masks.max() == 1
    np.testing.assert_allclose(masks.mean(axis=0), 0.5, atol=0.1)
    # Between the centres of two cells a mask rises by one over the size of a cell, at most.
    assert np.abs(np.diff(masks, axis=1)).max() <= 1 / 5 + 1e-6
    assert np.abs(np.diff(masks, axis=2)).max() <= 1 / 6 + 1e-6
    # Cells further away than two are independent.
    assert abs(np.corrcoef(masks[:, 0, 0], masks[:, 20, 20])[0, 1]) < 0.15
    assert np.corrcoef(masks[:, 0, 0], masks[:, 1, 1])[0, 1] > 0.7


def network(size=(20, 16)):
    layers = keras.layers
    pixels = keras.Input((*size, 3))
    x = layers.Rescaling(1 / 255)(pixels)
    x = layers.RandomFlip("horizontal")(x)
    x = layers.Conv2D(4, 3, activation="relu", kernel_initializer=glorot(1))(x)
    x = layers.BatchNormalization()(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.5)(x)
    return keras.Model(
        pixels, layers.Dense(3, activation="softmax", kernel_initializer=glorot(2))(x)
    )


def glorot(seed):
    return keras.initializers.GlorotUniform(seed)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_neither_company_nor_repetition_matters(method):
    opened = open_model(network())
    images = images_of(3, (20, 16))
    classes = np.array([[0, 1], [2, 0], [1, 2]])
    together = explained(method, opened, images, classes)
    explain = method(opened, batch_size=7, seed=0)
    for i in (2, 0, 2):
        alone = explain(images[[i]], classes[[i]])
        scale = np.abs(together.maps[i]).max()
        np.testing.assert_allclose(alone.maps[0], together.maps[i], atol=1e-4 * scale)
        np.testing.assert_allclose(alone.scores[0], together.scores[i], rtol=1e-5)
    again = explained(method, opened, images, classes)
    np.testing.assert_array_equal(again.maps, together.maps)


@pytest.mark.parametrize("method", [attributions.smoothgrad, attributions.rise])
def test_chance_has_a_seed(method):
    opened = open_model(network())
    one, other = (explained(method, opened, images_of(1, (20, 16)), [[0]], seed=s) for s in (0, 1))
    assert not np.array_equal(one.maps, other.maps)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("value", [0, 255])
def test_an_empty_image_and_a_dead_network_give_finite_maps(method, value):
    model = network()
    images = np.full((2, 20, 16, 3), value, np.float32)
    explained(method, open_model(model), images, [[0, 2], [1, 1]])
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    result = explained(method, open_model(model), images, [[0, 2], [1, 1]])
    assert not result.maps.any()
    assert all(note.startswith("constant") for row in result.notes for note in row)


@keras.saving.register_keras_serializable("test_attributions")
class Subclassed(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.inside = network()

    def call(self, x, training=False):
        return self.inside(x, training=training)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_subclassed_model_can_be_explained(method):
    model = Subclassed()
    images = images_of(2, (20, 16))
    probabilities = keras.ops.convert_to_numpy(model(images, training=False))
    result = explained(method, open_model(model), images, [[0], [2]])
    np.testing.assert_allclose(result.scores, np.log(probabilities), rtol=1e-4)
    assert np.ptp(result.maps) > 0


def test_batches_have_one_size_and_rows_keep_their_order():
    sizes = []

    def function(x, y):
        sizes.append((len(x), len(y)))
        return x * y, x + y

    rows = [(np.float32(i), np.int32(2 * i)) for i in range(10)]
    results = list(attributions.by_batches(function, iter(rows), 4))
    assert sizes == [(4, 4)] * 3
    assert results == [(2 * i * i, 3 * i) for i in range(10)]
    assert list(attributions.by_batches(lambda x: 2 * x, [(3,), (4,), (5,)], 2)) == [6, 8, 10]
    assert not list(attributions.by_batches(function, [], 4))


def test_no_method_compiles_anything_twice():
    compiled = []

    class Noted(keras.layers.Layer):
        def call(self, x):
            compiled.append(x.shape)
            return x

    pixels = keras.Input((20, 16, 3))
    model = keras.Model(pixels, network()(Noted()(pixels)))
    opened = open_model(model)
    images = images_of(5, (20, 16))
    for method in METHODS.values():
        explain = method(opened, batch_size=4, seed=0)
        compiled.clear()
        explain(images, np.array([[0, 1]] * 5))
        explain(images, np.array([[1, 2]] * 5))
        # Beside the pass that gives all scores, that of the gradients.
        by_gradients = method not in (attributions.occlusion, attributions.rise)
        assert len(compiled) <= 1 + by_gradients

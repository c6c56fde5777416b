"""Each measure against a slow loop, a closed form, or a model known to look at one place."""

import numpy as np
import pytest

from cvtrain.backend import keras
from cvtrain.explain import faithfulness
from cvtrain.explain.flat_model import open_model

SIZE = (12, 10)


def images_of(num, size=SIZE, *, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (num, *size, 3)).astype(np.float32)


def maps_of(num, size=SIZE, *, seed=1):
    return np.random.default_rng(seed).normal(size=(num, *size)).astype(np.float32)


def linear(size=SIZE, *, seed=2):
    """Probabilities of two classes by a logistic regression on the pixels."""
    weights = np.random.default_rng(seed).normal(size=(size[0] * size[1] * 3,)) / 2000

    def forward(images):
        chance = 1 / (1 + np.exp(-images.reshape(len(images), -1) @ weights))
        return np.stack([chance, 1 - chance], axis=1)

    return forward


def reads(rows, columns):
    """Sees how bright one part of the image is, and nothing else."""

    def forward(images):
        chance = images[:, rows, columns].mean(axis=(1, 2, 3)) / 255
        return np.stack([chance, 1 - chance], axis=1)

    return forward


def slow_areas(forward, starts, ends, classes, maps):
    areas = []
    for start, end, c, raw in zip(starts, ends, classes, maps, strict=True):
        ranks = sorted(np.ndindex(raw.shape), key=lambda place: -raw[place])
        heights, widths = [], []
        for step in range(26):
            count = round(step * raw.size / 25)
            picture = start.copy()
            for place in ranks[:count]:
                picture[place] = end[place]
            heights.append(forward(picture[None])[0, c])
            widths.append(count / raw.size)
        areas.append(
            sum((widths[i + 1] - widths[i]) * (heights[i] + heights[i + 1]) / 2 for i in range(25))
        )
    return areas


def blurred(image, sigma):
    """A Gaussian blur that mirrors at the border, as a dense matrix for each axis."""
    for axis in (0, 1):
        length, reach = image.shape[axis], int(4 * sigma + 0.5)
        offsets = np.arange(-reach, reach + 1)
        kernel = np.exp(-(offsets**2) / (2 * sigma**2))
        matrix = np.zeros((length, length))
        for i in range(length):
            for offset, share in zip(offsets, kernel / kernel.sum(), strict=True):
                place = (i + offset) % (2 * length)
                matrix[i, min(place, 2 * length - 1 - place)] += share
        image = np.moveaxis(np.tensordot(matrix, image, axes=(1, axis)), 0, axis)
    return image


@pytest.mark.parametrize("batch_size", [7, 64])
def test_deletion_and_insertion_are_what_a_slow_loop_finds(batch_size):
    forward, images, maps = linear(), images_of(3), maps_of(3)
    classes = np.array([0, 1, 0])
    blank = np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape)
    deletion = faithfulness.deletion(forward, images, classes, maps, batch_size=batch_size)
    expected = slow_areas(forward, images, blank, classes, maps)
    np.testing.assert_allclose(deletion.values, expected, rtol=1e-5)
    assert deletion.better == "lower"
    insertion = faithfulness.insertion(forward, images, classes, maps, batch_size=batch_size)
    starts = [blurred(image, 0.5) for image in images]
    expected = slow_areas(forward, starts, images, classes, maps)
    np.testing.assert_allclose(insertion.values, expected, rtol=1e-5)
    assert insertion.better == "higher"


def test_curves_begin_with_the_image_and_end_without_it():
    forward, images, classes = linear(), images_of(2), np.array([1, 0])
    curve = faithfulness.deletion(forward, images, classes, maps_of(2))
    assert curve.shares[0] == 0
    assert curve.shares[-1] == 1
    assert curve.curves.shape == (2, len(curve.shares)) == (2, 26)
    np.testing.assert_allclose(curve.curves[:, 0], forward(images)[[0, 1], [1, 0]])
    blank = np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape)
    np.testing.assert_allclose(curve.curves[:, -1], forward(blank)[[0, 1], [1, 0]], rtol=1e-5)


def test_a_map_of_where_the_model_looks_is_better_than_others():
    images = np.zeros((1, 20, 20, 3), np.float32)
    images[0, 4:10, 6:12] = 255
    right = np.zeros((1, 20, 20), np.float32)
    right[0, 4:10, 6:12] = 1
    wrong = np.zeros((1, 20, 20), np.float32)
    wrong[0, 14:, 14:] = 1
    forward, classes = reads(slice(4, 10), slice(6, 12)), np.array([0])
    good, bad = (faithfulness.evaluate(forward, images, classes, m) for m in (right, wrong))
    assert set(good) == {
        "deletion",
        "insertion",
        "average drop",
        "average increase",
        "ROAD, most relevant first",
        "ROAD, least relevant first",
        "border mass",
    }
    for name, measure in good.items():
        if measure.better == "lower":
            assert measure.mean < bad[name].mean - 0.1, name
        elif measure.better == "higher" and name != "average increase":
            assert measure.mean > bad[name].mean + 0.1, name


def test_equally_relevant_pixels_go_at_random():
    # From the top left, all that the model sees would be gone at once.
    images = images_of(1, (20, 20)) / 10
    images[0, :4] = 255
    flat = np.ones((1, 20, 20), np.float32)
    forward, classes = reads(slice(0, 4), slice(0, 20)), np.array([0])
    measures = [
        faithfulness.deletion(forward, images, classes, flat, seed=seed) for seed in (0, 0, 1)
    ]
    curve = measures[0].curves[0]
    straight = np.interp(measures[0].shares, [0, 1], curve[[0, -1]])
    np.testing.assert_allclose(curve, straight, atol=0.1)
    assert measures[0].mean == measures[1].mean != measures[2].mean


def test_drop_and_increase_are_relative_to_the_whole_image():
    images, classes = images_of(4), np.array([0, 1, 0, 1])
    forward = linear()
    maps = maps_of(4)
    drop, increase = faithfulness.drop_and_increase(forward, images, classes, maps)
    for i in range(4):
        heat = np.maximum(maps[i], 0) / maps[i].max()
        blank = images[i].mean(axis=(0, 1))
        seen = blank + heat[..., None] * (images[i] - blank)
        y, o = (float(forward(x[None])[0, classes[i]]) for x in (images[i], seen))
        assert drop.values[i] == pytest.approx(max(0, y - o) / y, rel=1e-4, abs=1e-7)
        assert increase.values[i] == (o > y)
    assert 0 < increase.mean < 1
    assert (drop.better, increase.better) == ("lower", "higher")


def test_a_map_of_everything_drops_nothing():
    images, everything = images_of(2), np.ones((2, *SIZE))
    drop, _ = faithfulness.drop_and_increase(linear(), images, np.array([0, 1]), everything)
    np.testing.assert_allclose(drop.values, 0, atol=1e-6)


def dense_imputation(image, removed):
    """The same system as a dense matrix, one equation for every pixel."""
    height, width, channels = image.shape
    matrix = np.eye(height * width)
    right = image.reshape(-1, channels).astype(np.float64)
    for y, x in np.argwhere(removed):
        i = y * width + x
        right[i] = 0
        around = {
            (y + dy, x + dx): 1 / 6 if 0 in (dy, dx) else 1 / 12
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            if (dy, dx) != (0, 0) and 0 <= y + dy < height and 0 <= x + dx < width
        }
        for (v, u), weight in around.items():
            matrix[i, v * width + u] = -weight / sum(around.values())
    return np.linalg.solve(matrix, right).reshape(image.shape)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_the_imputation_is_that_of_a_dense_solver(share, monkeypatch):
    monkeypatch.setattr(faithfulness, "ROAD_NOISE", 0.0)
    (image,) = images_of(1)
    generator = np.random.default_rng(3)
    removed = generator.random(SIZE) < share
    imputed = faithfulness.impute(image, removed, generator)
    assert imputed.dtype == np.float32
    np.testing.assert_allclose(imputed, dense_imputation(image, removed), rtol=1e-5)
    np.testing.assert_array_equal(imputed[~removed], image[~removed])


def test_the_imputation_continues_a_slope_and_adds_noise():
    y, x = np.mgrid[:40, :50]
    image = (3 * y + 2 * x)[..., None].astype(np.float32)
    removed = np.zeros((40, 50), bool)
    removed[3:37, 3:47] = True
    imputed = faithfulness.impute(image, removed, np.random.default_rng(0))
    noise = (imputed - image)[removed]
    assert abs(noise.mean()) < 0.2
    assert noise.std() == pytest.approx(0.01 * np.ptp(image), rel=0.05)


def test_road_is_the_mean_over_both_orders():
    forward, images, classes = linear(), images_of(2), np.array([0, 1])
    maps = maps_of(2)
    most, least = faithfulness.road(forward, images, classes, maps, seed=4)
    opposite, _ = faithfulness.road(forward, images, classes, -maps, seed=4)
    np.testing.assert_allclose(least.values, opposite.values)
    assert (most.better, least.better) == ("lower", "higher")
    for measure in (most, least):
        assert list(measure.shares) == [0, 0.2, 0.4, 0.6, 0.8]
        np.testing.assert_allclose(measure.values, measure.curves[:, 1:].mean(axis=1))
        np.testing.assert_allclose(measure.curves[:, 0], forward(images)[[0, 1], [0, 1]])


def test_road_replaces_the_most_relevant_and_the_least(monkeypatch):
    removed = []
    monkeypatch.setattr(
        faithfulness, "impute", lambda image, mask, _: removed.append(mask) or image
    )
    rising = np.arange(120.0).reshape(1, *SIZE)
    faithfulness.road(linear(), images_of(1), np.array([0]), rising)
    counts = [24, 48, 72, 96]
    for mask, count in zip(removed[:4], counts, strict=True):
        np.testing.assert_array_equal(mask, rising[0] >= 120 - count)
    for mask, count in zip(removed[4:], counts, strict=True):
        np.testing.assert_array_equal(mask, rising[0] < count)


def test_border_mass():
    frame = np.ones((100, 50), np.float32)
    frame[10:-10, 5:-5] = 0
    maps = np.stack([np.ones_like(frame), frame, 1 - frame, np.zeros_like(frame), -frame])
    measure = faithfulness.border_mass(maps)
    np.testing.assert_allclose(measure.values, [0.36, 1, 0, 0, 0], atol=1e-6)
    assert measure.better == ""


@pytest.mark.parametrize("value", [0, 255])
def test_empty_images_maps_that_say_nothing_and_impossible_classes_give_finite_numbers(value):
    images = np.full((2, *SIZE, 3), value, np.float32)

    def impossible(batch):
        return np.tile([0.0, 1.0], (len(batch), 1))

    for maps in (np.zeros((2, 3, 3)), -np.ones((2, 3, 3))):
        measures = faithfulness.evaluate(impossible, images, np.array([0, 1]), maps)
        for measure in measures.values():
            assert measure.values.shape == (2,)
            assert np.isfinite(measure.values).all()
            assert np.isfinite(measure.curves).all()


def test_neither_company_nor_batches_matter():
    forward, images, classes = linear(), images_of(3), np.array([0, 1, 1])
    maps = faithfulness.random_maps(3, seed=1)
    together = faithfulness.evaluate(forward, images, classes, maps, batch_size=5)
    alone = faithfulness.evaluate(forward, images[2:], classes[2:], maps[2:], batch_size=32)
    for name, measure in together.items():
        np.testing.assert_allclose(measure.values[2:], alone[name].values, rtol=1e-6)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_probabilities_are_those_of_the_model(head):
    pixels = keras.Input((*SIZE, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(pixels))
    model = keras.Model(pixels, keras.layers.Dense(3 if head == "softmax" else 1, head)(x))
    images = images_of(4)
    probabilities = keras.ops.convert_to_numpy(model(images, training=False))
    if head == "sigmoid":
        probabilities = np.concatenate([1 - probabilities, probabilities], axis=1)
    forward = faithfulness.probabilities_of(open_model(model))
    np.testing.assert_allclose(forward(images), probabilities, atol=1e-5)


def test_random_maps_have_a_seed():
    one, same, other = (faithfulness.random_maps(2, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])

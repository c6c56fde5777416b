"""MixUp and CutMix in closed form, and as a function of seed and step."""

import itertools
import threading

import numpy as np
import pytest

from cvtrain.data.batches import training_batches
from cvtrain.data.index import Split
from cvtrain.images.mixup_cutmix import mix, mixed_batches
from cvtrain.sections import Augment

MIXUP, CUTMIX, BOTH = Augment(mixup=0.2), Augment(cutmix=1.0), Augment(mixup=0.2, cutmix=1.0)
STEPS = 2000


def constants(count=4, size=(12, 10)):
    """Image i has the value 50 i everywhere, and the class i."""
    values = (50 * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(values[:, None, None, None], (count, *size, 3)).copy(), np.arange(count)


def mixed(mixing, step=0, seed=1, images=None, labels=None, num_classes=4):
    if images is None:
        images, labels = constants()
    return mix(images, labels, mixing, num_classes=num_classes, seed=seed, step=step)


def shares(mixing, steps=STEPS, **options):
    """The share of the first image of every pair, by the labels, one a step."""
    images, labels = constants(2, (60, 60))
    rows = [
        mixed(mixing, step, images=images, labels=labels, **options)[1] for step in range(steps)
    ]
    return np.array([row[0, 0] for row in rows])


# Closed forms


@pytest.mark.parametrize("mixing", [MIXUP, CUTMIX, BOTH])
def test_labels_are_shares_of_an_image_and_of_the_one_before(mixing):
    for step in range(20):
        _, rows = mixed(mixing, step)
        share = rows[0, 0]
        expected = share * np.eye(4) + (1 - share) * np.roll(np.eye(4), 1, axis=0)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, expected, atol=1e-6)
        np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-6)


def test_two_images_of_one_class_keep_their_label():
    images, _ = constants()
    _, rows = mixed(MIXUP, images=images, labels=np.array([2, 2, 2, 2]))
    np.testing.assert_allclose(rows, np.eye(4)[[2, 2, 2, 2]], atol=1e-6)


def test_mixup_of_constants_is_their_weighted_mean():
    for step in range(50):
        blended, rows = mixed(MIXUP, step)
        assert blended.dtype == np.uint8
        expected = rows @ (50.0 * np.arange(4))
        assert (blended == blended[:, :1, :1, :1]).all()
        np.testing.assert_allclose(blended[:, 0, 0, 0], expected, atol=0.501)


def test_cutmix_pastes_a_rectangle_whose_area_is_exactly_the_share():
    seen = set()
    for step in range(200):
        pasted, rows = mixed(CUTMIX, step)
        foreign = pasted[1, :, :, 0] == 0  # image 0 in image 1
        assert set(np.unique(pasted[1])) <= {0, 50}
        assert foreign.mean() == pytest.approx(rows[1, 0], abs=1e-6)
        ys, xs = np.nonzero(foreign)
        if len(ys):
            box = foreign[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
            assert box.all()
        seen.add(len(ys))
    assert len(seen) > 20
    assert 0 in seen or min(seen) < 6


def test_every_image_of_a_batch_gets_the_same_rectangle():
    pasted, _ = mixed(CUTMIX, step=3)
    images, _ = constants()
    masks = (pasted != images)[..., 0]
    np.testing.assert_array_equal(masks, np.broadcast_to(masks[:1], masks.shape))


def test_an_image_alone_in_its_batch_stays():
    images, labels = constants(1)
    for mixing in (MIXUP, CUTMIX):
        result, rows = mixed(mixing, images=images, labels=labels)
        np.testing.assert_array_equal(result, images)
        np.testing.assert_allclose(rows, [[1, 0, 0, 0]], atol=1e-6)


def test_what_comes_in_is_left_as_it_is():
    images, labels = constants()
    images.flags.writeable = False
    for mixing in (MIXUP, CUTMIX):
        mixed(mixing, images=images, labels=labels)
    np.testing.assert_array_equal(images, constants()[0])


# What is drawn


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_shares_are_of_the_beta_distribution(alpha):
    found = shares(Augment(mixup=alpha))
    deviation = np.sqrt(1 / (4 * (2 * alpha + 1)))
    assert found.mean() == pytest.approx(0.5, abs=4 * deviation / np.sqrt(STEPS))
    assert found.std() == pytest.approx(deviation, rel=0.08)


def test_cutmix_leaves_at_least_the_share_that_was_drawn():
    """Beta(1, 1) is uniform; a rectangle that reaches over the edge is smaller: the mean of what is
    left is above 1/2. In closed form: a square of side s about a uniform centre covers s - s^2/4 of
    a line of length 1, and (1 - l)^(1/2) = s, so E = 1 - E[(s - s^2/4)^2] with l uniform.
    """
    sides = np.sqrt(np.linspace(0, 1, 100_001))
    expected = 1 - np.mean((sides - sides**2 / 4) ** 2)
    found = shares(CUTMIX)
    assert found.mean() == pytest.approx(expected, abs=4 * found.std() / np.sqrt(STEPS))


def test_where_both_are_asked_for_each_batch_takes_one_of_them():
    """MixUp of constants is one grey everywhere, CutMix has two."""
    count = 400
    pasted = []
    for step in range(count):
        result, rows = mixed(BOTH, step)
        if 0.05 < rows[1, 1] < 0.95:
            pasted.append((result[1] != result[1, 0, 0, 0]).any())
    assert 0.5 < np.mean(pasted) < 0.9  # Beta(0.2, 0.2) is near 0 or 1 more often
    assert len(pasted) > count / 4


@pytest.mark.parametrize("mixing", [MIXUP, CUTMIX, BOTH])
def test_it_is_a_function_of_seed_and_step(mixing):
    images, labels = constants()
    results = {}
    for seed, step in itertools.product(range(4), range(4)):
        result, rows = mixed(mixing, step, seed)
        again, same = mixed(mixing, step, seed, images=images, labels=labels)
        np.testing.assert_array_equal(result, again)
        np.testing.assert_array_equal(rows, same)
        results[seed, step] = rows.tobytes() + result.tobytes()
    assert len(set(results.values())) == len(results)


# As a stream


def stream(start=0, **options):
    count = 10
    paths = tuple(map(str, range(count)))
    rng = np.random.default_rng(0)
    pixels = {path: rng.integers(0, 256, (8, 6, 3), dtype=np.uint8) for path in paths}
    split = Split(paths, np.arange(count, dtype=np.int32) % 3)
    batches = training_batches(pixels, split, batch_size=4, seed=1, start_step=start, **options)
    return mixed_batches(batches, BOTH, num_classes=3, seed=1, start_step=start)


def taken(batches, count):
    found = list(itertools.islice(batches, count))
    batches.close()
    return found


@pytest.mark.parametrize("steps_per_epoch", [None, 5])
@pytest.mark.parametrize("start", range(1, 7))
def test_resuming_goes_on_with_the_same_batches(start, steps_per_epoch):
    straight = taken(stream(steps_per_epoch=steps_per_epoch), 8)
    resumed = taken(stream(start, steps_per_epoch=steps_per_epoch), 8 - start)
    for (images, rows), (expected, labels) in zip(resumed, straight[start:], strict=True):
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(rows, labels)


def test_threads_change_nothing():
    for (images, rows), (expected, labels) in zip(
        taken(stream(workers=4), 6), taken(stream(workers=1), 6), strict=True
    ):
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(rows, labels)


def test_closing_the_stream_ends_the_threads_below_it():
    batches = stream()
    next(batches)
    batches.close()
    assert not [each for each in threading.enumerate() if each.name.startswith("batches")]

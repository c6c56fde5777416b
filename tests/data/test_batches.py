import itertools
import threading
import time

import numpy as np
import pytest

from cvtrain.data.batches import (
    batch_span,
    num_steps,
    ordered_batches,
    sample_order,
    training_batches,
)
from cvtrain.data.index import Split
from cvtrain.errors import DataError
from cvtrain.images.augment import augment
from cvtrain.sections import Augment

MODEST = Augment(flip="both", rotate=20, zoom=0.1, brightness=0.2)


def make_split(count):
    paths = tuple(f"class/{i}.png" for i in range(count))
    return Split(paths=paths, labels=np.arange(count, dtype=np.int32) % 7)


def make_pixels(split, size=(6, 5)):
    """Pixels that tell which sample they are: its index is the colour of its first pixel."""
    rng = np.random.default_rng(0)
    pixels = {path: rng.integers(0, 256, (*size, 3), dtype=np.uint8) for path in split.paths}
    for index, path in enumerate(split.paths):
        pixels[path][0, 0] = index
        pixels[path].flags.writeable = False
    return pixels


def indices(images):
    return images[:, 0, 0, 0].tolist()


def take(count, split, pixels=None, **options):
    options = {"batch_size": 4, "seed": 1} | options
    batches = training_batches(pixels or make_pixels(split), split, **options)
    taken = list(itertools.islice(batches, count))
    batches.close()
    return taken


def assert_same_batches(batches, expected):
    assert len(batches) == len(expected)
    for (images, labels), (expected_images, expected_labels) in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(images, expected_images)
        np.testing.assert_array_equal(labels, expected_labels)


def batch_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


# The stream of samples


@pytest.mark.parametrize(("count", "batch_size", "steps"), [(10, 4, 3), (8, 4, 2), (1, 4, 1)])
def test_num_steps_counts_the_partial_batch(count, batch_size, steps):
    assert num_steps(count, batch_size) == steps


def test_order_is_a_permutation_and_a_function_of_seed_and_epoch():
    order = sample_order(3, 5, 100)

    assert order.dtype == np.int64
    assert sorted(order) == list(range(100))
    np.testing.assert_array_equal(order, sample_order(3, 5, 100))
    for other in ((4, 5), (3, 6), (5, 3)):
        assert (sample_order(*other, 100) != order).any()


def test_every_order_is_as_likely():
    orders = [tuple(sample_order(0, epoch, 3)) for epoch in range(1200)]
    counts = [orders.count(order) for order in itertools.permutations(range(3))]
    assert sum((count - 200) ** 2 / 200 for count in counts) < 20.5  # chi-square, 5 degrees, 0.001


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (8, 4), (3, 4), (1, 1)])
@pytest.mark.parametrize("full", [True, False])
def test_spans_cover_the_stream_without_gap_or_overlap(count, batch_size, full):
    spans = [batch_span(step, count, batch_size, full=full) for step in range(20)]
    assert list(itertools.chain(*spans)) == list(range(spans[-1].stop))

    sizes = {len(span) for span in spans}
    if full:
        assert sizes == {batch_size}
    else:
        steps = num_steps(count, batch_size)
        assert sizes <= {batch_size, count - (steps - 1) * batch_size}
        assert all(span.stop % count == 0 for span in spans[steps - 1 :: steps])


# Training batches


def test_a_pass_has_every_sample_once_and_ends_with_what_is_left():
    split = make_split(10)
    batches = take(6, split)

    assert [len(labels) for _, labels in batches] == [4, 4, 2, 4, 4, 2]
    for epoch in range(2):
        seen = [i for images, _ in batches[3 * epoch : 3 * epoch + 3] for i in indices(images)]
        np.testing.assert_array_equal(seen, sample_order(1, epoch, 10))


def test_with_steps_per_epoch_all_batches_are_full_and_run_on_into_the_next_pass():
    split = make_split(10)
    batches = take(5, split, steps_per_epoch=100)

    assert [len(labels) for _, labels in batches] == [4] * 5
    seen = [i for images, _ in batches for i in indices(images)]
    np.testing.assert_array_equal(seen, [*sample_order(1, 0, 10), *sample_order(1, 1, 10)])


def test_a_batch_may_be_larger_than_the_data():
    split = make_split(3)
    ((images, labels),) = take(1, split, steps_per_epoch=1, batch_size=8)

    orders = [sample_order(1, epoch, 3) for epoch in range(3)]
    np.testing.assert_array_equal(indices(images), np.concatenate(orders)[:8])
    np.testing.assert_array_equal(labels, np.concatenate(orders)[:8])


def test_images_and_labels_are_what_a_training_step_takes():
    split = make_split(10)
    for images, labels in take(3, split):
        assert images.dtype == np.uint8
        assert images.shape[1:] == (6, 5, 3)
        assert images.flags.c_contiguous
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(labels, np.array(indices(images)) % 7)


def test_without_augmentation_images_are_the_pixels():
    split = make_split(5)
    pixels = make_pixels(split)
    for images, _ in take(2, split, pixels):
        for image, index in zip(images, indices(images), strict=True):
            np.testing.assert_array_equal(image, pixels[split.paths[index]])


@pytest.mark.parametrize("steps_per_epoch", [None, 7])
def test_augmentation_depends_on_seed_pass_and_sample(steps_per_epoch):
    split = make_split(6)
    pixels = make_pixels(split)
    batches = take(4, split, pixels, augmentation=MODEST, steps_per_epoch=steps_per_epoch)

    images = np.concatenate([images for images, _ in batches])
    expected = [
        augment(pixels[split.paths[sample]], MODEST, seed=1, epoch=epoch, sample=sample)
        for epoch in range(3)
        for sample in sample_order(1, epoch, 6)
    ]
    np.testing.assert_array_equal(images, expected[: len(images)])


@pytest.mark.parametrize("steps_per_epoch", [None, 5])
@pytest.mark.parametrize("start_step", range(8))
def test_resuming_at_any_step_goes_on_with_the_same_batches(start_step, steps_per_epoch):
    split = make_split(10)
    options = {"augmentation": MODEST, "steps_per_epoch": steps_per_epoch}

    uninterrupted = take(9, split, **options)
    resumed = take(9 - start_step, split, start_step=start_step, **options)
    assert_same_batches(resumed, uninterrupted[start_step:])


@pytest.mark.parametrize(("workers", "prefetch"), [(1, 1), (1, 0), (3, 5), (8, 2)])
def test_threads_and_prefetch_do_not_change_batches(workers, prefetch):
    split = make_split(30)
    options = {"augmentation": MODEST, "batch_size": 20}

    expected = take(4, split, **options)
    assert_same_batches(take(4, split, workers=workers, prefetch=prefetch, **options), expected)


# Evaluation batches


def test_ordered_batches_give_every_sample_once_in_order():
    split = make_split(10)
    pixels = make_pixels(split)
    batches = list(ordered_batches(pixels, split, batch_size=4))

    assert [len(images) for images, _ in batches] == [4, 4, 2]
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    np.testing.assert_array_equal(images, [pixels[path] for path in split.paths])
    np.testing.assert_array_equal(labels, split.labels)
    assert not batch_threads()


def test_no_images_are_no_batches():
    assert list(ordered_batches({}, make_split(0), batch_size=4)) == []


# Threads


class SlowPixels(dict):
    """Counts how many images were asked for."""

    def __init__(self, pixels, seconds=0.0):
        super().__init__(pixels)
        self.asked = 0
        self.seconds = seconds

    def __getitem__(self, path):
        self.asked += 1
        time.sleep(self.seconds)
        return super().__getitem__(path)


def test_closing_ends_the_threads_promptly():
    split = make_split(200)
    pixels = SlowPixels(make_pixels(split), seconds=0.05)
    batches = training_batches(pixels, split, batch_size=20, seed=0, workers=2, prefetch=16)
    next(batches)
    assert batch_threads()

    start = time.perf_counter()
    batches.close()
    assert time.perf_counter() - start < 3  # making what is pending would take eight seconds
    assert not batch_threads()


def test_a_forgotten_iterator_ends_its_threads():
    split = make_split(10)
    for _ in training_batches(make_pixels(split), split, batch_size=4, seed=0):
        break
    assert not batch_threads()


def test_a_slow_consumer_does_not_pile_up_batches():
    split = make_split(40)
    pixels = SlowPixels(make_pixels(split))
    batches = training_batches(pixels, split, batch_size=4, seed=0, prefetch=3)
    for taken in range(1, 4):
        next(batches)
        time.sleep(0.05)
        assert pixels.asked <= 1 + 4 * (taken + 3)  # one more to learn the size
    batches.close()


def test_batches_are_made_while_the_consumer_works():
    split = make_split(40)
    pixels = SlowPixels(make_pixels(split))
    batches = training_batches(pixels, split, batch_size=4, seed=0, prefetch=3)
    next(batches)
    deadline = time.monotonic() + 5
    while pixels.asked < 4 * 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pixels.asked >= 4 * 4
    batches.close()


class BrokenPixels(dict):
    error: Exception

    def __getitem__(self, path):
        if path == "class/5.png":
            raise self.error
        return super().__getitem__(path)


@pytest.mark.parametrize(
    "error", [DataError("class/5.png: a damaged file", "Replace it."), ValueError("odd")]
)
def test_an_error_in_a_thread_surfaces_with_the_file_and_ends_the_threads(error):
    split = make_split(10)
    pixels = BrokenPixels(make_pixels(split))
    pixels.error = error

    with pytest.raises(type(error)) as caught:
        take(3, split, pixels)
    assert caught.value is error
    assert "class/5.png" in "".join([str(error), *error.__notes__])
    assert not batch_threads()
    with pytest.raises(type(error)):
        list(ordered_batches(pixels, split, batch_size=4))
    assert not batch_threads()


def test_images_of_another_size_are_refused():
    split = make_split(4)
    pixels = make_pixels(split)
    pixels["class/3.png"] = np.zeros((7, 5, 3), np.uint8)

    for augmentation in (None, Augment(), MODEST):
        with pytest.raises(ValueError, match="broadcast"):
            take(1, split, pixels, augmentation=augmentation)

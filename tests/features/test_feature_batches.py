import itertools
import threading
from hashlib import sha256

import ml_dtypes
import numpy as np
import pytest

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.data.batches import training_batches
from cvtrain.data.index import Split
from cvtrain.features.batches import feature_training_batches, ordered_feature_batches
from cvtrain.features.store import FeatureStore

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 1], np.int32)
VIEWS = 3


@pytest.fixture(params=["bfloat16", "float32"])
def rows(tmp_path, request):
    """Rows that tell what they are: the view, then the sample."""
    store = FeatureStore(tmp_path, shape=(2, 2), dtype=request.param)
    keys = [sha256(bytes([i])).digest() for i in range(VIEWS * 10)]
    values = [[[view, sample], [0, 0]] for view in range(VIEWS) for sample in range(10)]
    order = np.random.default_rng(0).permutation(len(keys))
    for part in np.array_split(order, 4):
        store.commit([keys[i] for i in part], [np.array([values[i] for i in part])])
    return store.rows(keys)


def take(count, rows, **options):
    options = {"batch_size": 4, "seed": 1, "num_views": VIEWS} | options
    batches = feature_training_batches(rows, LABELS, **options)
    taken = list(itertools.islice(batches, count))
    batches.close()
    return taken


@pytest.mark.parametrize("steps_per_epoch", [None, 5])
@pytest.mark.parametrize("start_step", [0, 4])
def test_samples_come_in_the_order_of_the_batches_of_pixels(rows, steps_per_epoch, start_step):
    options = {"steps_per_epoch": steps_per_epoch, "start_step": start_step}
    paths = tuple(map(str, range(10)))
    pixels = {path: np.full((1, 1, 3), int(path), np.uint8) for path in paths}
    batches = training_batches(pixels, Split(paths, LABELS), batch_size=4, seed=1, **options)
    for (features, labels), (images, expected) in zip(
        take(20, rows, **options), itertools.islice(batches, 20), strict=True
    ):
        assert features.dtype == rows.dtype
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(features[:, 0, 1], images[:, 0, 0, 0])
        np.testing.assert_array_equal(labels, expected)
    batches.close()


def test_each_pass_sees_the_next_view(rows):
    batches = take(15, rows)  # three batches a pass
    for step, (features, _) in enumerate(batches):
        assert (features[:, 0, 0] == step // 3 % VIEWS).all()


@pytest.mark.parametrize("start_step", range(1, 8))
def test_resuming_goes_on_with_the_same_batches(rows, start_step):
    for (one, labels), (other, expected) in zip(
        take(3, rows, start_step=start_step), take(start_step + 3, rows)[start_step:], strict=True
    ):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(labels, expected)


def test_one_view_alone_is_seen_in_every_pass(rows):
    for features, _ in take(8, rows, num_views=1):
        assert (features[:, 0, 0] == 0).all()


def test_ordered_batches_give_every_row_once(rows):
    batches = list(ordered_feature_batches(rows, LABELS, batch_size=4))
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    features, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    np.testing.assert_array_equal(features[:, 0, 1], range(10))
    np.testing.assert_array_equal(labels, LABELS)
    assert features.dtype == rows.dtype


def test_closing_ends_the_thread(rows):
    batches = feature_training_batches(rows, LABELS, batch_size=4, seed=0)
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("features")]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_training_step_and_inference_take_them_as_they_are(rows, policy):
    layers = keras.layers
    inputs = keras.Input((2, 2), dtype="bfloat16" if policy == "mixed_bfloat16" else "float32")
    x = layers.Flatten(dtype=policy)(inputs)
    logits = layers.Dense(3, kernel_initializer="ones", dtype=policy)(x)
    model = keras.Model(inputs, logits)
    infer = backend.inference(model)
    batches = take(2, rows)
    for features, _ in batches:
        expected = features.astype(np.float32).sum((1, 2))[:, None].repeat(3, axis=1)
        np.testing.assert_array_equal(infer(features), expected)
    step = backend.train_step(model, keras.optimizers.SGD(0.1))
    for features, labels in batches:
        step.run(features, labels, 0.1)
    assert step.totals["images"] == 8
    assert rows.dtype in (ml_dtypes.bfloat16, np.float32)

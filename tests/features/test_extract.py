import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.errors import DataError, ResourceError, Stopped
from cvtrain.features import extract as module
from cvtrain.features.extract import CachedViews, extract, open_stores
from cvtrain.images.augment import augment
from cvtrain.sections import Augment
from cvtrain.system.files import cache_dir
from cvtrain.system.signals import Stop

CHANGES = Augment(flip="both", rotate=20, zoom=0.1, brightness=0.2)


pytestmark = pytest.mark.usefixtures("fresh_cache")


class Images(dict):
    """Random pixels by path; counts how often each is asked for."""

    def __init__(self, count, seed=0):
        generator = np.random.default_rng(seed)
        noise = generator.integers(0, 256, (count, 10, 12, 3), np.uint8)
        super().__init__((f"{i}.png", noise[i]) for i in range(count))
        self.asked = Counter()

    def __getitem__(self, path):
        self.asked[path] += 1
        return super().__getitem__(path)

    def views(self, paths=None, **options):
        paths = list(paths or self)
        digests = [hashlib.sha256(self.get(path)).digest() for path in paths]
        return CachedViews(paths, digests, **options)


@pytest.fixture(scope="module")
def whole():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    x = images = keras.Input((10, 12, 3))
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(8, 3, activation="relu", name="first")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(6, 3, strides=2, activation="relu", name="second")(x)
    x = layers.Dropout(0.5)(x)
    return keras.Model(images, layers.GlobalAveragePooling2D(name="pool")(x))


@pytest.fixture(scope="module")
def prefix(whole):
    return keras.Model(whole.input, whole.get_layer("second").output)


def features(prefix, images, views, **options):
    stores = open_stores(prefix, dtype="float32", **options)
    extract(prefix, stores, images, [views])
    return [store.rows(views.keys).take(range(len(views.keys))) for store in stores]


def pixels_of(images, views):
    return np.stack(
        [
            augment(
                images.get(path), views.augmentation, seed=views.seed, epoch=view, sample=sample
            )
            if views.augmentation
            else images.get(path)
            for view in range(views.num_views)
            for sample, path in enumerate(views.paths)
        ]
    )


@pytest.mark.parametrize("options", [{}, {"augmentation": CHANGES, "seed": 3, "num_views": 4}])
def test_features_are_what_plain_keras_predicts(prefix, options):
    images = Images(41)
    views = images.views(**options)
    (found,) = features(prefix, images, views)
    expected = prefix.predict(pixels_of(images, views), verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_bfloat16_features_are_the_rounded_ones(prefix):
    images = Images(20)
    views = images.views()
    (store,) = stores = open_stores(prefix)
    extract(prefix, stores, images, [views])
    taken = store.rows(views.keys).take(range(20))
    assert taken.dtype == ml_dtypes.bfloat16
    (exact,) = features(prefix, images, views)
    np.testing.assert_array_equal(taken, exact.astype(ml_dtypes.bfloat16))


def test_a_model_that_computes_in_bfloat16_is_stored_as_it_computes():
    x = images = keras.Input((10, 12, 3))
    for _ in range(2):
        x = keras.layers.Conv2D(4, 3, activation="relu", dtype="mixed_bfloat16")(x)
    prefix = keras.Model(images, x)
    source = Images(9)
    views = source.views()
    (store,) = stores = open_stores(prefix)
    extract(prefix, stores, source, [views])
    taken = store.rows(views.keys).take(range(9))
    expected = prefix.predict(pixels_of(source, views), verbose=0)
    np.testing.assert_array_equal(taken.astype(np.float32), expected.astype(np.float32))


def test_several_outputs_are_computed_in_one_pass(whole, monkeypatch):
    names = ["first", "second", "pool"]
    taps = keras.Model(whole.input, [whole.get_layer(name).output for name in names])
    images = Images(35)
    views = images.views()
    together = features(taps, images, views)
    assert max(images.asked.values()) <= 2  # one more for the size
    refuse_to_compute(monkeypatch)
    for name, found in zip(names, together, strict=True):
        alone = keras.Model(whole.input, whole.get_layer(name).output)
        np.testing.assert_array_equal(features(alone, images, views)[0], found)


def refuse_to_compute(monkeypatch):
    monkeypatch.setattr(backend, "inference", None)


def test_a_second_extraction_computes_and_reads_nothing(prefix, monkeypatch):
    images = Images(40)
    views = images.views(augmentation=CHANGES, num_views=2)
    first = features(prefix, images, views)
    refuse_to_compute(monkeypatch)
    np.testing.assert_array_equal(features(prefix, {}, views), first)


def test_only_what_is_missing_is_computed(prefix):
    images = Images(50)
    stores = open_stores(prefix)
    some = images.views(list(images)[10:40], augmentation=None)
    assert extract(prefix, stores, images, [some]) == 30
    every = images.views()
    assert extract(prefix, stores, images, [every, some]) == 20
    assert extract(prefix, stores, images, [every, some]) == 0

    changed = images["7.png"].copy()
    changed[0, 0, 0] ^= 1
    images["7.png"] = changed
    images.asked.clear()
    assert extract(prefix, stores, images, [images.views()]) == 1
    assert set(images.asked) == {"7.png", "0.png"}  # the first one tells the size


def test_the_same_pixels_are_computed_once(prefix):
    images = Images(6)
    images["copy.png"] = images["3.png"]
    stores = open_stores(prefix)
    train, test = images.views(list(images)[:4]), images.views(list(images)[2:])
    assert extract(prefix, stores, images, [train, test]) == 6
    (store,) = stores
    rows = store.rows(test.keys).take(range(5))
    np.testing.assert_array_equal(rows[1], rows[4])


def test_more_views_leave_the_first_ones_as_they_are(prefix):
    images = Images(10)
    stores = open_stores(prefix)
    two, four = (images.views(augmentation=CHANGES, num_views=count) for count in (2, 4))
    assert extract(prefix, stores, images, [two]) == 20
    assert extract(prefix, stores, images, [four]) == 20
    assert four.keys[:20] == two.keys


def test_features_do_not_depend_on_what_they_were_computed_with(prefix):
    """Bit for bit: an extraction that was interrupted equals one that was not."""
    images = Images(45)
    (expected,) = features(prefix, images, images.views())
    shutil.rmtree(cache_dir())
    order = np.random.default_rng(0).permutation(list(images)).tolist()
    for start, end in [(0, 1), (1, 30), (30, 45)]:
        features(prefix, images, images.views(order[start:end]))
    (found,) = features(prefix, images, images.views())
    np.testing.assert_array_equal(found, expected)


def test_a_damaged_shard_is_computed_again(prefix):
    images = Images(30)
    (expected,) = features(prefix, images, images.views())
    (shard,) = (cache_dir() / "features").glob("*/*.npy")
    content = bytearray(shard.read_bytes())
    content[1000] ^= 4
    shard.write_bytes(content)
    warnings = []
    (found,) = features(prefix, images, images.views(), warn=warnings.append)
    np.testing.assert_array_equal(found, expected)
    assert len(warnings) == 1


def test_shards_are_committed_as_it_goes(prefix, monkeypatch):
    monkeypatch.setattr(module, "_SHARD_BYTES", 1)
    images = Images(100)
    (store,) = stores = open_stores(prefix)
    seen = []
    extract(prefix, stores, images, [images.views()], on_progress=lambda *done: seen.append(done))
    assert seen == [(32, 100), (64, 100), (96, 100), (100, 100)]
    assert len(list(store.folder.glob("*.npy"))) == 4
    assert not extraction_threads()


def extraction_threads():
    names = ("batches", "ThreadPoolExecutor")
    return [thread for thread in threading.enumerate() if thread.name.startswith(names)]


# Ends before the end


def test_a_stop_keeps_what_was_computed(prefix):
    images = Images(100)
    stop = Stop()

    def ask_to_stop(done, _):
        stop.requested = done >= 64

    stores = open_stores(prefix)
    with pytest.raises(Stopped, match="64 of 100"):
        extract(prefix, stores, images, [images.views()], stop=stop, on_progress=ask_to_stop)
    assert not extraction_threads()
    stores = open_stores(prefix)
    assert len(stores[0]) == 64
    assert extract(prefix, stores, images, [images.views()]) == 36


def test_a_bad_image_keeps_what_was_computed(prefix):
    class Broken(Images):
        def __getitem__(self, path):
            if path == "70.png":
                raise DataError("70.png: damaged")
            return super().__getitem__(path)

    images = Broken(100)
    stores = open_stores(prefix)
    with pytest.raises(DataError):
        extract(prefix, stores, images, [images.views()])
    assert len(open_stores(prefix)[0]) == 64


def test_room_on_the_disk_is_asked_for_first(prefix, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**8))
    images = Images(10)
    with pytest.raises(ResourceError, match="10 images take 105 MB, and 100 MB") as caught:
        extract(prefix, open_stores(prefix), images, [images.views()])
    assert "CVTRAIN_CACHE" in caught.value.advice
    assert not images.asked


def test_a_disk_that_fills_up_keeps_what_was_committed(prefix, monkeypatch):
    monkeypatch.setattr(module, "_SHARD_BYTES", 1)
    images = Images(200)
    stores = open_stores(prefix)
    for store in stores:
        store.make_ready()
    calls = []

    def fsync(_):
        calls.append(1)
        if len(calls) > 4:  # a shard takes two: the file and the folder
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(ResourceError, match="the disk is full"):
            extract(prefix, stores, images, [images.views()])
    assert len(open_stores(prefix)[0]) == 64


# Kills

DRIVER = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from cvtrain.features import extract as module
from cvtrain.features.store import FeatureStore

here, folder, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
sys.path.insert(0, here)
from test_extract import CHANGES, Images

def forward(images):
    time.sleep(0.002)
    return images.astype(np.float32).reshape(len(images), -1)[:, ::7] ** 0.5

module.backend.inference = lambda prefix, dtype: forward
module._SHARD_BYTES = 3 * 32 * 52 * 2
images = Images(40)
views = images.views(augmentation=CHANGES, num_views=30)

def run(folder):
    store = FeatureStore(folder, shape=(52,))
    module.extract(None, [store], images, [views])

def fork():
    child = os.fork()
    if not child:
        run(folder)
        os._exit(0)
    return child

started = time.monotonic()
run(folder / "clean")
seconds = time.monotonic() - started
expected = FeatureStore(folder / "clean", shape=(52,)).rows(views.keys).take(range(1200))

folder = folder / "killed"
random.seed(0)
landed = 0
for _ in range(kills):
    children = [fork() for _ in range(2)]
    for child in children:
        time.sleep(random.uniform(0, seconds / 4))
        os.kill(child, signal.SIGKILL)
    landed += sum(os.waitpid(child, 0)[1] == signal.SIGKILL for child in children)
    store = FeatureStore(folder, shape=(52,), warn=sys.exit)
    keys = views.keys
    lacking = set(store.missing(keys))
    there = [i for i in range(1200) if i not in lacking]
    found = store.rows([keys[i] for i in there]).take(range(len(there)))
    assert (found == expected[there]).all()
    if not lacking:
        for shard in sorted(folder.glob("*.npy"))[::2]:
            shard.unlink()
run(folder)
store = FeatureStore(folder, shape=(52,), warn=sys.exit)
assert (store.rows(views.keys).take(range(1200)) == expected).all()
assert not list(folder.glob(".cvtrain-tmp-*"))
print(landed)
"""


@pytest.mark.slow
def test_kills_during_extraction_leave_no_wrong_feature(tmp_path):
    command = [sys.executable, "-c", DRIVER, str(Path(__file__).parent), str(tmp_path), "40"]
    landed = int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert landed >= 50

import hashlib
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cvtrain.data import array_files, sources
from cvtrain.data.sources import NAMED_SETS, fetch, is_fetched, locate_source
from cvtrain.errors import ConfigError, DataError, ResourceError, Stopped
from cvtrain.system.outputs import FETCHED_SET
from cvtrain.system.signals import Stop


def write_npz(path, **arrays):
    generator = np.random.default_rng(0)
    content = {
        "x_train": generator.integers(0, 256, (12, 5, 6), np.uint8),
        "y_train": np.arange(12, dtype=np.uint8) % 3,
        "x_test": generator.integers(0, 256, (6, 5, 6), np.uint8),
        "y_test": np.arange(6) % 3,
    }
    content |= arrays
    np.savez_compressed(path, **{name: a for name, a in content.items() if a is not None})
    return content


def images_of(folder):
    return {
        path.relative_to(folder).as_posix(): np.asarray(Image.open(path))
        for path in sorted(folder.rglob("*.png"))
    }


def test_digits_are_those_of_scikit_learn_and_made_once(tmp_path, monkeypatch):
    from sklearn.datasets import load_digits

    digits = load_digits()
    folder = locate_source("digits", data_dir=tmp_path)
    assert folder == tmp_path / "digits"
    found = images_of(folder)
    assert len(found) == 1797
    ours = Counter((name.split("/")[1], image.tobytes()) for name, image in found.items())
    theirs = np.rint(digits.images / 16 * 255).astype(np.uint8)
    labels = digits.target.astype(str)
    assert ours == Counter((t, i.tobytes()) for t, i in zip(labels, theirs, strict=True))
    per_split = Counter(name.rpartition("/")[0] for name in found)
    for label in range(10):
        share = per_split[f"test/{label}"] / (labels == str(label)).sum()
        assert share == pytest.approx(0.2, abs=0.005)
    monkeypatch.setitem(NAMED_SETS, "digits", None)
    assert locate_source("digits", data_dir=tmp_path) == folder


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_npz_becomes_folders(tmp_path, shape):
    x_train = np.random.default_rng(1).integers(0, 256, (12, 5, 6, *shape), np.uint8)
    content = write_npz(tmp_path / "set.npz", x_train=x_train, y_train=np.arange(12)[:, None] % 3)
    folder = locate_source(tmp_path / "set.npz", data_dir=tmp_path / "data")
    found = images_of(folder)
    assert len(found) == 18
    for i, image in enumerate(x_train):
        np.testing.assert_array_equal(found[f"train/{i % 3}/{i:02d}.png"], np.squeeze(image))
    for i, image in enumerate(content["x_test"]):
        np.testing.assert_array_equal(found[f"test/{i % 3}/{i}.png"], image)


def test_another_file_of_the_same_name_is_another_folder(tmp_path):
    write_npz(tmp_path / "set.npz")
    first = locate_source(tmp_path / "set.npz", data_dir=tmp_path)
    write_npz(tmp_path / "set.npz", y_test=np.arange(6) % 2)
    assert locate_source(tmp_path / "set.npz", data_dir=tmp_path) != first


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"y_test": None}, "y_test is not a file in the archive"),
        ({"x_train": np.zeros((12, 5, 6))}, "x_train must be uint8"),
        ({"x_test": np.zeros((6, 5), np.uint8)}, "x_test must be uint8"),
        ({"x_test": np.zeros((6, 5, 5, 2), np.uint8)}, "x_test must be uint8"),
        ({"x_test": np.zeros((0, 5, 5), np.uint8)}, "x_test must be uint8"),
        ({"y_train": np.zeros(5, int)}, "y_train must be 12 integers"),
        ({"y_train": np.zeros(12)}, "y_train must be 12 integers"),
        ({"x_train": np.array([{"a": 1}])}, "Python objects"),
    ],
)
def test_npz_of_another_kind_is_refused(tmp_path, arrays, what):
    write_npz(tmp_path / "set.npz", **arrays)
    with pytest.raises(DataError, match=what):
        locate_source(tmp_path / "set.npz", data_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["set.npz"]


def test_what_is_no_npz_is_refused(tmp_path):
    (tmp_path / "set.npz").write_bytes(b"<html>")
    with pytest.raises(DataError, match="not a zip file"):
        locate_source(tmp_path / "set.npz", data_dir=tmp_path)


def test_huge_npz_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    write_npz(tmp_path / "set.npz")
    monkeypatch.setattr(array_files, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="GiB of arrays"):
        locate_source(tmp_path / "set.npz", data_dir=tmp_path)


def test_a_half_made_folder_never_counts(tmp_path, monkeypatch):
    write_npz(tmp_path / "set.npz")
    write = sources.write_arrays

    def fail_at_the_end(*arguments):
        write(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(sources, "write_arrays", fail_at_the_end)
    with pytest.raises(KeyboardInterrupt):
        locate_source(tmp_path / "set.npz", data_dir=tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []
    monkeypatch.undo()
    assert len(images_of(locate_source(tmp_path / "set.npz", data_dir=tmp_path / "data"))) == 18


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Publish a small mnist.npz at a file URL, with its digest."""
    (tmp_path / "server").mkdir()
    content = write_npz(tmp_path / "server" / "mnist.npz")
    path = tmp_path / "server" / "mnist.npz"
    named = NAMED_SETS["mnist"]
    digest = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    published = replace(named.files[0], url=path.as_uri(), digest=digest, keras="mnist.npz")
    monkeypatch.setitem(NAMED_SETS, "mnist", replace(named, files=(published,)))
    monkeypatch.setenv("CVTRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return path, content


def test_a_source_that_goes_by_a_name_is_fetched_once(tmp_path, publish):
    path, content = publish
    path.rename(tmp_path / "keras-copy")
    (tmp_path / "keras" / "datasets").mkdir(parents=True)
    (tmp_path / "keras-copy").rename(tmp_path / "keras" / "datasets" / "mnist.npz")
    folder = locate_source("mnist", data_dir=tmp_path / "data")
    assert folder == tmp_path / "data" / "mnist"
    found = images_of(folder)
    np.testing.assert_array_equal(found["train/2/05.png"], content["x_train"][5])
    (tmp_path / "keras" / "datasets" / "mnist.npz").unlink()
    assert locate_source("mnist", data_dir=tmp_path / "data") == folder


def test_what_cannot_be_downloaded_says_how_else(tmp_path, publish):
    publish[0].unlink()
    with pytest.raises(DataError, match=r"mnist\.npz cannot be downloaded from file:") as caught:
        locate_source("mnist", data_dir=tmp_path / "data")
    assert "cvtrain data fetch mnist --file mnist.npz" in caught.value.advice
    assert not (tmp_path / "data").exists()


def test_a_local_file_is_taken_at_its_word_and_told(tmp_path, publish):
    write_npz(tmp_path / "mine.npz", y_test=np.arange(6) % 2)
    fetched = fetch("mnist", tmp_path / "images", local=tmp_path / "mine.npz")
    (copy,) = fetched.files
    digest = hashlib.sha256((tmp_path / "mine.npz").read_bytes()).hexdigest()
    assert (copy.is_published, copy.digest) == (False, f"sha256:{digest}")
    assert len(list((tmp_path / "images" / "test").iterdir())) == 2
    mark = json.loads((tmp_path / "images" / FETCHED_SET).read_text())
    assert mark == {"set": "mnist", "subset": None, "files": {"mnist.npz": copy.digest}} | {
        "left_out": []
    }
    assert is_fetched(tmp_path / "images", "mnist", None)
    assert not is_fetched(tmp_path / "images", "digits", None)
    assert not is_fetched(tmp_path, "mnist", None)
    assert fetch("mnist", tmp_path / "more", local=publish[0]).files[0].is_published


@pytest.mark.parametrize(
    ("name", "options", "what"),
    [
        ("mnits", {}, "Did you mean mnist"),
        ("imagenet", {}, "The sets are digits, mnist"),
        ("mnist", {"subset": "book1"}, "mnist has no subset book1"),
        ("cats_vs_dogs", {"subset": "book"}, "Its subsets are book1, book2"),
        ("digits", {"local": "here"}, "digits needs no file"),
        ("fashion_mnist", {"local": "a.gz"}, "Name the folder that holds train-images"),
    ],
)
def test_impossible_wishes_are_told_before_anything_is_done(tmp_path, name, options, what):
    if "local" in options:
        options = {"local": tmp_path / options["local"]}
    with pytest.raises(ConfigError) as caught:
        fetch(name, tmp_path / "images", **options)
    assert what in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.jpg").touch()
    with pytest.raises(ResourceError, match="is not empty"):
        fetch("digits", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.jpg"]


def test_a_stop_leaves_nothing_half_made(tmp_path):
    stop = Stop()
    stop.requested = True
    with pytest.raises(Stopped, match="stopped while writing images"):
        fetch("digits", tmp_path / "images", stop=stop)
    assert list(tmp_path.iterdir()) == []


def test_paths_are_left_as_they_are(tmp_path):
    assert locate_source(str(tmp_path), data_dir=tmp_path / "data") == tmp_path
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("clothng", r"Did you mean .*/clothing\?"),
        ("digit", r"the named set digits\?"),
        ("mnits", r"the named set mnist\?"),
        ("\x1b[31mx", r"one of: digits, mnist"),
        ("cats_and_dogs", r"the named set cats_vs_dogs\?"),
        ("no/such/folder", r"one of: digits, mnist"),
    ],
)
def test_a_missing_path_is_named_with_advice(tmp_path, name, advice):
    (tmp_path / "clothing").mkdir()
    with pytest.raises(DataError, match=advice) as caught:
        locate_source(tmp_path / name, data_dir=tmp_path)
    assert "no such folder or file" in caught.value.message
    assert caught.value.message.isprintable()


@pytest.mark.realdata
def test_a_real_npz_of_mnist(shared, tmp_path):
    with np.load(shared / "data" / "mnist.npz") as arrays:
        small = {name: arrays[name][:200] for name in arrays}
    np.savez(tmp_path / "mnist.npz", **small)
    found = images_of(locate_source(tmp_path / "mnist.npz", data_dir=tmp_path / "data"))
    assert len(found) == 400
    label = small["y_test"][7]
    np.testing.assert_array_equal(found[f"test/{label}/007.png"], small["x_test"][7])

import sys
import types
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from cvtrain.data import sources
from cvtrain.data.sources import NAMED_SETS, locate_source
from cvtrain.errors import DataError


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
        ({"x_train": np.array([{"a": 1}])}, "allow_pickle=False"),
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
    monkeypatch.setattr(sources, "_MAX_NPZ_BYTES", 100)
    with pytest.raises(DataError, match="GiB of arrays"):
        locate_source(tmp_path / "set.npz", data_dir=tmp_path)


def test_a_half_made_folder_never_counts(tmp_path, monkeypatch):
    write_npz(tmp_path / "set.npz")
    write, calls = sources._write, []

    def fail_at_test(folder, *arrays):
        calls.append(folder)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(folder, *arrays)

    monkeypatch.setattr(sources, "_write", fail_at_test)
    with pytest.raises(KeyboardInterrupt):
        locate_source(tmp_path / "set.npz", data_dir=tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []
    assert len(images_of(locate_source(tmp_path / "set.npz", data_dir=tmp_path / "data"))) == 18


def fake_keras(monkeypatch, load_data):
    datasets = types.ModuleType("keras.datasets")
    datasets.mnist = types.SimpleNamespace(load_data=load_data)
    monkeypatch.setitem(sys.modules, "keras", types.ModuleType("keras"))
    monkeypatch.setitem(sys.modules, "keras.datasets", datasets)


def test_mnist_comes_through_keras(tmp_path, monkeypatch):
    content = write_npz(tmp_path / "any.npz")
    train, test = (tuple(content[f"{n}_{s}"] for n in "xy") for s in ("train", "test"))
    fake_keras(monkeypatch, lambda: (train, test))
    folder = locate_source("mnist", data_dir=tmp_path)
    assert folder == tmp_path / "mnist"
    assert len(images_of(folder)) == 18


def test_mnist_without_network_says_what_to_do(tmp_path, monkeypatch):
    def load_data():
        raise Exception("URL fetch failure on https://example.org: None -- no route to host")

    fake_keras(monkeypatch, load_data)
    with pytest.raises(DataError, match="URL fetch failure") as caught:
        locate_source("mnist", data_dir=tmp_path)
    assert "--set data.source=mnist.npz" in caught.value.advice
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

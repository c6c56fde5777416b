import io
import os
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from cvtrain.data import array_datasets as arrays
from cvtrain.data.array_datasets import load_cifar10, write_arrays
from cvtrain.errors import DataError


def cifar_file(seed, images=7, **other):
    generator = np.random.default_rng(seed)
    content = {
        b"data": generator.integers(0, 256, (images, 3072), np.uint8),
        b"labels": generator.integers(0, 10, images).tolist(),
    }
    return pickle.dumps(content | other, protocol=2)


def write_tar(path, files, *, kind=tarfile.REGTYPE):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.type = kind
            archive.addfile(member, io.BytesIO(content))
    return path


CIFAR = {f"cifar-10-batches-py/data_batch_{i}": cifar_file(i) for i in range(1, 6)}
CIFAR["cifar-10-batches-py/test_batch"] = cifar_file(6)


def test_cifar_is_read_as_keras_does(tmp_path):
    read = load_cifar10(write_tar(tmp_path / "c.tar.gz", CIFAR | {"readme.html": b"<html>"}))
    assert read["x_train"].shape == (35, 32, 32, 3)
    # keras.datasets.cifar: data.reshape(n, 3, 32, 32), then transpose(0, 2, 3, 1)
    second = pickle.loads(CIFAR["cifar-10-batches-py/data_batch_2"])
    planes = second[b"data"].reshape(7, 3, 32, 32)
    np.testing.assert_array_equal(read["x_train"][9, :, :, 2], planes[2, 2])
    assert read["y_train"][7:14].tolist() == second[b"labels"]
    assert read["y_test"].tolist() == pickle.loads(cifar_file(6))[b"labels"]


class Exploit:
    def __reduce__(self):
        return os.mkdir, ("exploited",)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (pickle.dumps(Exploit(), protocol=2), "asks for posix.mkdir"),
        (cifar_file(0, **{"b": Exploit()}), "asks for posix.mkdir"),
        (b"nonsense", "not a file of CIFAR-10"),
        (pickle.dumps({b"data": np.zeros((2, 3072))}, protocol=2), "not a file of CIFAR-10"),
        (pickle.dumps({b"labels": [1]}, protocol=2), "not a file of CIFAR-10"),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10]}, 2), "CIFAR"),
    ],
)
def test_a_hostile_cifar_file_runs_nothing(tmp_path, monkeypatch, content, what):
    monkeypatch.chdir(tmp_path)
    files = CIFAR | {"cifar-10-batches-py/data_batch_3": content}
    with pytest.raises(DataError, match=what):
        load_cifar10(write_tar(tmp_path / "c.tar.gz", files))
    assert [path.name for path in tmp_path.iterdir()] == ["c.tar.gz"]


def test_an_archive_that_points_elsewhere_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hostile = {"../outside": b"x", "cifar-10-batches-py/../y": b"x"}
    read = load_cifar10(write_tar(tmp_path / "c.tar.gz", hostile | CIFAR))
    assert len(read["x_test"]) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["c.tar.gz"]
    assert not (tmp_path.parent / "outside").exists()


def test_links_and_bombs_in_the_archive_do_not_count(tmp_path, monkeypatch):
    write_tar(tmp_path / "links.tar.gz", CIFAR, kind=tarfile.SYMTYPE)
    with pytest.raises(DataError, match="data_batch_1 is not in the archive"):
        load_cifar10(tmp_path / "links.tar.gz")
    monkeypatch.setattr(arrays, "_MAX_CIFAR_FILE", 100)
    with pytest.raises(DataError, match="data_batch_1 is not in the archive"):
        load_cifar10(write_tar(tmp_path / "c.tar.gz", CIFAR))


def test_a_damaged_archive_is_told(tmp_path):
    whole = write_tar(tmp_path / "c.tar.gz", CIFAR).read_bytes()
    for content in (whole[: len(whole) // 2], b"no archive", whole[:5000] + whole[6000:]):
        (tmp_path / "c.tar.gz").write_bytes(content)
        with pytest.raises(DataError, match=r"c\.tar\.gz: "):
            load_cifar10(tmp_path / "c.tar.gz")


def test_classes_may_have_names_and_progress_is_told(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 5, 3), np.uint8)
    content = {"x_train": images, "y_train": np.array([0, 1, 0, 1])}
    content |= {"x_test": images[:1], "y_test": np.array([1])}
    told = []
    write_arrays(tmp_path, content, ["cat", "dog"], lambda *done: told.append(done))
    assert told == [(i, 5) for i in range(1, 6)]
    with Image.open(tmp_path / "train" / "dog" / "3.png") as image:
        np.testing.assert_array_equal(np.asarray(image), images[3])
    assert [path.name for path in (tmp_path / "test").iterdir()] == ["dog"]

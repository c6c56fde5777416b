import gzip
import struct

import numpy as np
import pytest

from cvtrain.data.idx import find_idx, load_idx
from cvtrain.errors import DataError


def write_idx(path, values):
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))
    return path


@pytest.fixture
def idx(tmp_path):
    generator = np.random.default_rng(0)
    content = {
        "x_train": generator.integers(0, 256, (9, 4, 5)),
        "y_train": np.arange(9) % 3,
        "x_test": generator.integers(0, 256, (3, 4, 5)),
        "y_test": np.arange(3),
    }
    return content, {name: write_idx(tmp_path / name, a) for name, a in content.items()}


def test_idx_files_are_read(idx):
    content, paths = idx
    for name, values in load_idx(**paths).items():
        np.testing.assert_array_equal(values, content[name])
        assert values.dtype == np.uint8


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"no gzip", "not an IDX file of bytes"),
        (gzip.compress(b"\0\0\x0b\1\0\0\0\1\0"), "not an IDX file of bytes"),
        (gzip.compress(b"\0\0\x08\1\0\0\0\2\0"), "not 2 values"),
        (gzip.compress(b"\0\0\x08\1\0\0\0\2\0\0\0"), "not 2 values"),
        (gzip.compress(b"\0\0\x08\2" + b"\xff" * 8), "GiB of values"),
        (gzip.compress(b"\0\0"), "unpack requires"),
        (gzip.compress(bytes(100))[:-12], "ended before"),
    ],
)
def test_what_is_no_idx_file_is_refused(idx, content, what):
    _, paths = idx
    paths["y_test"].write_bytes(content)
    with pytest.raises(DataError, match=what) as caught:
        load_idx(**paths)
    assert str(paths["y_test"]) in caught.value.message


def test_labels_of_other_images_are_refused(idx, tmp_path):
    _, paths = idx
    write_idx(tmp_path / "y_train", np.arange(8))
    with pytest.raises(DataError, match="y_train must be 9 integers"):
        load_idx(**paths)


def write_set(folder, pattern, *, start="", splits=("train", "t10k"), pack=gzip.compress, seed=0):
    """Write the files of a set; return its arrays by split."""
    generator = np.random.default_rng(seed)
    content = {}
    for split in splits:
        arrays = generator.integers(0, 256, (6, 4, 5)), np.arange(6) % 3
        for values, what in zip(arrays, ("images-idx3", "labels-idx1"), strict=True):
            path = folder / (start + pattern.format(split, what, what.replace("-", ".")))
            path.parent.mkdir(parents=True, exist_ok=True)
            write_idx(path, values)
            path.write_bytes(pack(gzip.decompress(path.read_bytes())))
        content["train" if split == "train" else "test"] = arrays
    return content


@pytest.mark.parametrize(
    ("inside", "pattern", "pack"),
    [
        ("", "{0}-{1}-ubyte.gz", gzip.compress),  # as it was published
        ("", "{0}-{1}-ubyte", bytes),
        ("", "{0}-{2}-ubyte", bytes),  # as Windows' tools unpack it
        ("", "{0}-{1}-ubyte/{0}-{1}-ubyte", bytes),  # as some archives have it
        ("raw", "{0}-{1}-ubyte", bytes),  # as torchvision keeps it
        ("MNIST/raw", "{0}-{1}-ubyte", bytes),
    ],
)
def test_the_files_of_mnist_are_found_however_they_are_kept(tmp_path, inside, pattern, pack):
    content = write_set(tmp_path / inside, pattern, pack=pack)
    arrays = load_idx(**find_idx(tmp_path))
    for split, (images, labels) in content.items():
        np.testing.assert_array_equal(arrays[f"x_{split}"], images)
        np.testing.assert_array_equal(arrays[f"y_{split}"], labels)


def test_a_file_stands_for_its_set(tmp_path):
    letters = write_set(tmp_path, "{}-{}-ubyte.gz", start="emnist-letters-", seed=1)
    write_set(tmp_path, "{}-{}-ubyte.gz", start="emnist-digits-", seed=2)
    with pytest.raises(DataError, match=r"IDX files of 2 sets: emnist-digits-.*, emnist-letters-"):
        find_idx(tmp_path)
    arrays = load_idx(**find_idx(tmp_path / "emnist-letters-t10k-labels-idx1-ubyte.gz"))
    np.testing.assert_array_equal(arrays["x_train"], letters["train"][0])


def test_there_need_be_no_test_but_labels(tmp_path):
    write_set(tmp_path, "{}-{}-ubyte", splits=("train",))
    assert set(load_idx(**find_idx(tmp_path))) == {"x_train", "y_train"}
    write_set(tmp_path, "{}-{}-ubyte")
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="IDX files without the labels of test"):
        find_idx(tmp_path)


def test_other_folders_and_files_have_none(tmp_path):
    (tmp_path / "train-images.jpg").touch()
    (tmp_path / "cat").mkdir()
    assert find_idx(tmp_path) == find_idx(tmp_path / "train-images.jpg") == {}
    assert find_idx(tmp_path / "nowhere") == {}

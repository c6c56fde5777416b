"""Data sets that are published as arrays, and arrays -> folders of PNG files."""

import gzip
import math
import pickle
import struct
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from cvtrain.data.download import Show
from cvtrain.errors import DataError
from cvtrain.files import printable
from cvtrain.npz import read_npz

Arrays = Mapping[str, np.ndarray]
"""x_train, y_train, x_test and y_test, as keras.datasets has them."""

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
FASHION_CLASSES = (
    *("T-shirt", "Trouser", "Pullover", "Dress", "Coat"),  # the first is "T-shirt/top" in full
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

_MAX_BYTES = 4 * 2**30
_CIFAR_IMAGES = 10_000  # in each file of the archive
_MAX_CIFAR_FILE = _MAX_READ = 2**26


def load_digits() -> Arrays:
    """scikit-learn's handwritten digits: 1,797 grey images of 8x8 pixels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    # One in five of each class, in the order of the set: the split needs no random generator.
    is_test = np.zeros(len(images), bool)
    for label in range(10):
        is_test[np.flatnonzero(digits.target == label)[::5]] = True
    return {
        "x_train": images[~is_test],
        "y_train": digits.target[~is_test],
        "x_test": images[is_test],
        "y_test": digits.target[is_test],
    }


def load_npz(path: Path) -> Arrays:
    """The arrays of an .npz file in the layout of keras.datasets.

    Raises:
        DataError: it is another file, or its arrays take more than 4 GiB.
    """
    try:
        stored = read_npz(path, most_bytes=_MAX_BYTES)
        names = ("x_train", "y_train", "x_test", "y_test")
        if missing := [name for name in names if name not in stored]:
            raise ValueError(f"{missing[0]} is not a file in the archive")
        arrays = {name: stored[name] for name in names}
        for split in ("train", "test"):
            _check_arrays(split, arrays[f"x_{split}"], arrays[f"y_{split}"])
    except (OSError, ValueError) as error:
        raise DataError(
            f"{printable(path)}: {printable(error)}",
            "The file must hold x_train, y_train, x_test and y_test, as keras.datasets has them.",
        ) from error
    return arrays


def load_idx(x_train: Path, y_train: Path, x_test: Path, y_test: Path) -> Arrays:
    """The arrays of four gzipped IDX files, the format that MNIST was published in.

    Raises:
        DataError: a file is another one, or two do not belong together.
    """
    paths = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    arrays = {name: _read_idx(path) for name, path in paths.items()}
    for split in ("train", "test"):
        try:
            _check_arrays(split, arrays[f"x_{split}"], arrays[f"y_{split}"])
        except ValueError as error:
            raise DataError(
                f"{printable(paths[f'x_{split}'])}: {error}", "Download it again."
            ) from error
    return arrays


def _read_idx(path: Path) -> np.ndarray:
    """uint8 of any shape. Format: http://yann.lecun.com/exdb/mnist/"""
    try:
        with gzip.open(path) as file:
            zeros, kind, num_axes = struct.unpack(">HBB", file.read(4))
            if zeros or kind != 8 or not 1 <= num_axes <= 4:
                raise ValueError("not an IDX file of bytes")
            shape = struct.unpack(f">{num_axes}I", file.read(4 * num_axes))
            size = math.prod(shape)
            if size > _MAX_BYTES:
                raise ValueError(f"{size / 2**30:.0f} GiB of values")
            content = file.read(size + 1)  # one more, to see that there is none
        if len(content) != size:
            raise ValueError(f"not {size:,} values, as its first bytes say")
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise DataError(f"{printable(path)}: {printable(error)}", "Download it again.") from error
    return np.frombuffer(content, np.uint8).reshape(shape)


def load_cifar10(path: Path) -> Arrays:
    """The arrays of CIFAR-10's archive for Python; nothing in it is executed or written.

    Raises:
        DataError: it is another archive or a damaged one.
    """
    wanted = {f"cifar-10-batches-py/data_batch_{i}": i for i in range(1, 6)}
    wanted["cifar-10-batches-py/test_batch"] = 6
    parts: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    try:
        with _Unpacked(path) as content, tarfile.open(fileobj=content, mode="r:") as archive:
            for member in archive:
                if member.name in wanted and member.isreg() and member.size <= _MAX_CIFAR_FILE:
                    parts[wanted[member.name]] = _read_cifar(archive.extractfile(member))
        if missing := [name for name, part in wanted.items() if part not in parts]:
            raise ValueError(f"{missing[0]} is not in the archive")
    except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{printable(path)}: {printable(error)}", "Download it again.") from error
    return {
        "x_train": np.concatenate([parts[i][0] for i in range(1, 6)]),
        "y_train": np.concatenate([parts[i][1] for i in range(1, 6)]),
        "x_test": parts[6][0],
        "y_test": parts[6][1],
    }


def _read_cifar(file: IO[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 32, 32, 3) and labels (n,) of one file of the archive."""
    try:
        content = _ArraysOnly(file, encoding="bytes").load()
        pixels, labels = content[b"data"], np.asarray(content[b"labels"])
        images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        _check_arrays("batch", images, labels)
    except MemoryError:
        raise
    except Exception as error:  # damaged pickles raise nearly anything
        raise ValueError(f"not a file of CIFAR-10 ({error})") from error
    if len(images) > _CIFAR_IMAGES or labels.min() < 0 or labels.max() > 9:
        raise ValueError("not a file of CIFAR-10")
    return images, labels


class _Unpacked(gzip.GzipFile):
    """Never reads more at once than a file of CIFAR-10 may have, whatever size a header names."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _MAX_READ:
            raise OSError("damaged: a part of it is larger than all of a file of CIFAR-10")
        return super().read(size)


class _ArraysOnly(pickle.Unpickler):
    """Unpickles arrays; whatever else a pickle asks for, it may not run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _bytes_of_python2
        if (module, name) in _OF_ARRAYS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"asks for {module}.{name}")


_OF_ARRAYS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
}


def _bytes_of_python2(text: str, encoding: str) -> bytes:
    """Python 3 writes bytes so where a pickle is for Python 2, and only so."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"asks for the encoding {encoding!r:.40}")
    return text.encode("latin1")


def _check_arrays(split: str, images: np.ndarray, labels: np.ndarray) -> None:
    is_grey = images.ndim == 3 or images.shape[3:] == (1,)
    is_rgb = images.shape[3:] == (3,)
    if images.dtype != np.uint8 or not (is_grey or is_rgb) or images.size == 0:
        raise ValueError(
            f"x_{split} must be uint8 of shape (images, height, width) or (images, height, width, "
            f"1 or 3); received {images.dtype} of shape {images.shape}"
        )
    if labels.dtype.kind not in "iu" or labels.size != len(images):
        raise ValueError(
            f"y_{split} must be {len(images)} integers; "
            f"received {labels.dtype} of shape {labels.shape}"
        )


def write_arrays(
    folder: Path, arrays: Arrays, class_names: Sequence[str] | None, show: Show
) -> None:
    """Write each image as SPLIT/CLASS/NUMBER.png, numbered in the order of the array.

    Args:
        folder: that the splits train and test go into.
        arrays: checked ones.
        class_names: by label; None: the labels themselves.
        show: called after each image.
    """
    total = len(arrays["x_train"]) + len(arrays["x_test"])
    done = 0
    for split in ("train", "test"):
        images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"].ravel()
        names = {int(i): class_names[i] if class_names else str(i) for i in np.unique(labels)}
        for name in names.values():
            (folder / split / name).mkdir(parents=True)
        digits = len(str(len(images) - 1))
        if images.ndim == 4 and images.shape[3] == 1:
            images = images[..., 0]
        for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            # Level 1 takes a fifth of the time. Threads would only wait for each other: Python does
            # most of the work on images this small.
            path = folder / split / names[label] / f"{number:0{digits}d}.png"
            Image.fromarray(image).save(path, compress_level=1)
            done += 1
            show(done, total)

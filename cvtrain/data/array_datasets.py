"""Load data sets that are published as arrays, and write arrays as folders of PNG files."""

import gzip
import pickle
import re
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from cvtrain.data.download import Show
from cvtrain.errors import DataError
from cvtrain.system.text import escape

Arrays = Mapping[str, np.ndarray]
"""x_train and y_train, and optionally x_val, y_val, x_test and y_test: images and labels as
`check_arrays` accepts them."""

SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""Suffix of the names of arrays -> folder of the split."""

MAX_BYTES = 4 * 2**30
"""Largest total size of the arrays of a file."""

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
FASHION_CLASSES = (
    *("T-shirt", "Trouser", "Pullover", "Dress", "Coat"),  # the first is "T-shirt/top" in full
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

_NO_FOLDER = re.compile(r"^$|^\.|/|.{61}")
_CIFAR_IMAGES = 10_000  # largest number in each file of the archive
_MAX_CIFAR_FILE = _MAX_READ = 2**26


def load_digits() -> Arrays:
    """Load scikit-learn's handwritten digits: 1,797 grey images of 8x8 pixels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    # Every fifth image of each class is for the test, so the split needs no random generator.
    is_test = np.zeros(len(images), bool)
    for label in range(10):
        is_test[np.flatnonzero(digits.target == label)[::5]] = True
    return {
        "x_train": images[~is_test],
        "y_train": digits.target[~is_test],
        "x_test": images[is_test],
        "y_test": digits.target[is_test],
    }


def load_cifar10(path: Path) -> Arrays:
    """Load the arrays of CIFAR-10's archive for Python, without executing its pickles.

    Raises:
        DataError: The file is another archive or damaged.
    """
    wanted = {f"cifar-10-batches-py/data_batch_{i}": i for i in range(1, 6)}
    wanted["cifar-10-batches-py/test_batch"] = 6
    parts: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    try:
        with _Unpacked(path) as content, tarfile.open(fileobj=content, mode="r:") as archive:
            for member in archive:
                is_wanted = member.name in wanted and member.isreg()
                if is_wanted and member.size <= _MAX_CIFAR_FILE:
                    file = archive.extractfile(member)
                    assert file is not None  # because the member is a regular file
                    parts[wanted[member.name]] = _read_cifar(file)
        if missing := [name for name, part in wanted.items() if part not in parts]:
            raise ValueError(f"{missing[0]} is not in the archive")
    except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{escape(path)}: {escape(error)}", "Download it again.") from error
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
        check_arrays("data", images, "labels", labels)
    except MemoryError:
        raise
    except Exception as error:  # damaged pickles raise nearly anything
        raise ValueError(f"not a file of CIFAR-10 ({error})") from error
    if len(images) > _CIFAR_IMAGES or labels.min() < 0 or labels.max() > 9:
        raise ValueError("not a file of CIFAR-10")
    return images, labels


class _Unpacked(gzip.GzipFile):
    """Refuses to read more at once than the largest file of CIFAR-10."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _MAX_READ:
            raise OSError("damaged: a part of it is larger than all of a file of CIFAR-10")
        return super().read(size)


class _ArraysOnly(pickle.Unpickler):
    """Unpickles arrays and refuses everything else."""

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
    """Replaces `codecs.encode`, with which Python 3 stores bytes in pickles for Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"asks for the encoding {encoding!r:.40}")
    return text.encode("latin1")


def check_arrays(x_name: str, images: np.ndarray, y_name: str, labels: np.ndarray) -> None:
    """Check that arrays are images and labels.

    Args:
        x_name, y_name: Names of the arrays, for the message.
        images: uint8 of shape (images, height, width) or (images, height, width, 1 or 3).
        labels: One integer for each image in any shape, or strings of shape (images,).

    Raises:
        ValueError: The arrays are something else, or a string cannot be the name of a folder.
    """
    is_grey = images.ndim == 3 or images.shape[3:] == (1,)
    is_rgb = images.shape[3:] == (3,)
    if images.dtype != np.uint8 or not (is_grey or is_rgb) or images.size == 0:
        is_known = images.size and images.dtype.kind in "biuf" and images.dtype != np.uint8
        values = f", {images.min():g} to {images.max():g}" if is_known else ""
        raise ValueError(
            f"{x_name} must be uint8 of shape (images, height, width) or (images, height, width, "
            f"1 or 3); received {images.dtype} of shape {images.shape}{values}"
        )
    if labels.dtype.kind not in "iuU" or labels.size != len(images):
        raise ValueError(
            f"{y_name} must be {len(images)} integers or texts; "
            f"received {labels.dtype} of shape {labels.shape}"
        )
    for name in np.unique(labels) if labels.dtype.kind == "U" else ():
        if not name.isprintable() or name != name.strip() or _NO_FOLDER.search(name):
            raise ValueError(f"{y_name} has {str(name)!r}, which cannot be the name of a folder")


def write_arrays(
    folder: Path, arrays: Arrays, class_names: Sequence[str] | None, show: Show
) -> None:
    """Write each image as SPLIT/CLASS/NUMBER.png, numbered in the order of the array.

    Args:
        folder: Parent folder of the splits.
        arrays: Arrays that `check_arrays` accepts.
        class_names: The name of each label; None: the labels are the names.
        show: Function called after each image with the numbers of written images and of all.
    """
    splits = {key: name for key, name in SPLITS.items() if f"x_{key}" in arrays}
    total = sum(len(arrays[f"x_{key}"]) for key in splits)
    done = 0
    for key, split in splits.items():
        images, labels = arrays[f"x_{key}"], arrays[f"y_{key}"].ravel()
        known = np.unique(labels).tolist()
        names = {label: class_names[label] if class_names else str(label) for label in known}
        for name in names.values():
            (folder / split / name).mkdir(parents=True)
        digits = len(str(len(images) - 1))
        if images.ndim == 4 and images.shape[3] == 1:
            images = images[..., 0]
        for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            # Level 1 takes a fifth of the time. Threads do not help, because small images are
            # mostly work of the interpreter.
            path = folder / split / names[label] / f"{number:0{digits}d}.png"
            Image.fromarray(image).save(path, compress_level=1)
            done += 1
            show(done, total)

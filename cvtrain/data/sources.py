"""Where the images are: a path, or a named data set that becomes a folder of PNG files once."""

import difflib
import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from cvtrain.errors import DataError
from cvtrain.files import disk_errors, printable

_Arrays = Mapping[str, np.ndarray]

_MAX_NPZ_BYTES = 4 * 2**30


def locate_source(source: str | Path, *, data_dir: Path) -> Path:
    """The folder or manifest that `source` stands for.

    `digits` is scikit-learn's set of 1,797 handwritten digits of 8x8 pixels and needs no network;
    `mnist` comes through Keras. Both, and any .npz file with the arrays x_train, y_train, x_test
    and y_test that keras.datasets uses, become folders of PNG files in `data_dir` at first use:
    train/CLASS/ and test/CLASS/. Everything else is a path. `./mnist` is a folder of that name.

    Raises:
        DataError: there is no such thing, or the .npz file is not as described.
        ResourceError: the folder cannot be written.
    """
    if source in NAMED_SETS:
        return _materialised(Path(data_dir) / source, NAMED_SETS[source])
    path = Path(source)
    if not path.exists():
        raise DataError(f"{printable(path)}: no such folder or file", _advice(path))
    if path.suffix.lower() == ".npz" and path.is_file():
        name = f"{path.stem}-{_digest(path)[:8]}"
        return _materialised(Path(data_dir) / name, lambda: _load_npz(path))
    return path


def _advice(path: Path) -> str:
    try:
        neighbours = os.listdir(path.parent)  # noqa: PTH208 - names, not paths
    except OSError:
        neighbours = []
    if near := difflib.get_close_matches(path.name, NAMED_SETS, n=1):
        return f"Did you mean the named set {near[0]}?"
    if near := difflib.get_close_matches(path.name, neighbours, n=1):
        return f"Did you mean {printable(path.parent / near[0])}?"
    return f"Name a folder, a .csv manifest, an .npz file, or one of: {', '.join(NAMED_SETS)}."


def _load_digits() -> _Arrays:
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


def _load_mnist() -> _Arrays:
    # Keras owns the address, the checksum and the cache of this set; only the first use pays
    # for importing it.
    from keras.datasets import mnist

    try:
        (x_train, y_train), (x_test, y_test) = mnist.load_data()
    except Exception as error:  # what urllib and Keras raise without a network is not documented
        raise DataError(
            f"mnist cannot be downloaded: {printable(error)}",
            "Put mnist.npz into ~/.keras/datasets/, or name the file: --set data.source=mnist.npz",
        ) from error
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


NAMED_SETS: dict[str, Callable[[], _Arrays]] = {"digits": _load_digits, "mnist": _load_mnist}
"""Data sets that go by a name."""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load_npz(path: Path) -> _Arrays:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _MAX_NPZ_BYTES:
            raise ValueError(f"{size / 2**30:.0f} GiB of arrays")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("x_train", "y_train", "x_test", "y_test")}
        for split in ("train", "test"):
            _check_arrays(split, arrays[f"x_{split}"], arrays[f"y_{split}"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{printable(path)}: {printable(error)}",
            "The file must hold x_train, y_train, x_test and y_test, as keras.datasets has them.",
        ) from error
    return arrays


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


def _materialised(folder: Path, load: Callable[[], _Arrays]) -> Path:
    """`folder` with one PNG file per image; it exists whole or not at all."""
    if folder.exists():
        return folder
    arrays = load()
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tmp-") as temporary:
            made = Path(temporary) / folder.name
            for split in ("train", "test"):
                _write(made / split, arrays[f"x_{split}"], arrays[f"y_{split}"].ravel())
            os.sync()
            try:
                made.rename(folder)
            except OSError:  # another process was faster
                if not folder.is_dir():
                    raise
    return folder


def _write(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write each image as CLASS/NUMBER.png, numbered in the order of the array."""
    for label in np.unique(labels):
        (folder / str(label)).mkdir(parents=True)
    digits = len(str(len(images) - 1))
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]

    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        # Level 1 takes a fifth of the time. Threads would only wait for each other: Python does
        # most of the work on images this small.
        path = folder / str(label) / f"{number:0{digits}d}.png"
        Image.fromarray(image).save(path, compress_level=1)

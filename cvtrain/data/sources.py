"""Locate the images of a source: a path, or a named data set, which becomes a folder of images."""

import contextlib
import difflib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cvtrain.data.array_datasets import (
    CIFAR10_CLASSES,
    FASHION_CLASSES,
    Arrays,
    load_cifar10,
    load_digits,
    write_arrays,
)
from cvtrain.data.array_files import load_npz
from cvtrain.data.cats_vs_dogs import write_cats_vs_dogs
from cvtrain.data.containers import check_not_container
from cvtrain.data.download import Copy, RemoteFile, Show, Task, download_file, silent_task
from cvtrain.data.idx import find_idx, load_idx
from cvtrain.errors import ConfigError, DataError, ResourceError
from cvtrain.system.files import commit_json, committed_folder, file_digest, sha256_bytes
from cvtrain.system.outputs import FETCHED_SET
from cvtrain.system.signals import Stop
from cvtrain.system.text import escape

_Counts = Mapping[str, int]

_KERAS_FILES = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"


@dataclass(frozen=True)
class NamedSet:
    """A published data set with a name.

    Attributes:
        files: The published files that it is made from.
        load: The function from copies of these files to arrays; None for cats_vs_dogs, which is
            an archive of image files.
        class_names: The name of each label; None: the labels are the names.
        subsets: Images per class in each split, by the name of the subset.
    """

    files: tuple[RemoteFile, ...]
    load: Callable[..., Arrays] | None
    class_names: Sequence[str] | None = None
    subsets: Mapping[str, _Counts] = field(default_factory=dict)

    def write(
        self, folder: Path, copies: Sequence[Path], counts: _Counts | None, show: Show
    ) -> list[str]:
        """Write the image folder from copies of the files; return what is left out, and why."""
        if self.load is None:
            return write_cats_vs_dogs(folder, copies[0], counts, show)
        write_arrays(folder, self.load(*copies), self.class_names, show)
        return []


def _fashion_file(name: str, md5: str) -> RemoteFile:
    # Keras publishes no digests; these are from github.com/zalandoresearch/fashion-mnist.
    return RemoteFile(name, f"{_KERAS_FILES}/{name}", f"md5:{md5}", f"fashion-mnist/{name}")


NAMED_SETS: dict[str, NamedSet] = {
    "digits": NamedSet((), load_digits),
    "mnist": NamedSet(
        (
            RemoteFile(
                "mnist.npz",
                f"{_KERAS_FILES}/mnist.npz",
                "sha256:731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
                "mnist.npz",
            ),
        ),
        load_npz,
    ),
    "fashion_mnist": NamedSet(
        (
            _fashion_file("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            _fashion_file("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
            _fashion_file("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
            _fashion_file("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
        ),
        load_idx,
        FASHION_CLASSES,
    ),
    "cifar10": NamedSet(
        (
            RemoteFile(
                "cifar-10-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
                "cifar-10-batches-py-target_archive",
            ),
        ),
        load_cifar10,
        CIFAR10_CLASSES,
    ),
    "cats_vs_dogs": NamedSet(
        (
            # Microsoft publishes no digest; this one is from TensorFlow Datasets.
            RemoteFile(
                "kagglecatsanddogs_5340.zip",
                "https://download.microsoft.com/download/3/E/1/"
                "3E1C3F21-ECDB-4869-8368-6DEBA77B919F/kagglecatsanddogs_5340.zip",
                "sha256:b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
            ),
        ),
        load=None,
        # F. Chollet, Deep Learning with Python: the first edition's 5.2, the second's 8.2.
        subsets={
            "book1": {"train": 1000, "validation": 500, "test": 500},
            "book2": {"train": 1000, "validation": 500, "test": 1000},
        },
    ),
}
"""The data sets by name."""


@dataclass(frozen=True)
class FetchedDataset:
    """The result of `fetch`.

    Attributes:
        files: The copies of the published files.
        left_out: The images that are not usable, each with the reason.
    """

    files: tuple[Copy, ...]
    left_out: tuple[str, ...]


def locate_source(
    source: str | Path, *, data_dir: Path, stop: Stop | None = None, task: Task = silent_task
) -> Path:
    """The folder or manifest of a source.

    A named set, the arrays of an .npz file, and IDX files become folders of images in `data_dir` at
    first use. Everything else is a path, also `./mnist`.

    Args:
        source: A path or a name.
        data_dir: Parent folder of the folders of named sets.
        stop: Stop request, polled while a set is fetched.
        task: Shows the progress of that.

    Raises:
        DataError: The source does not exist, cannot be downloaded, or has an unsupported format.
        ResourceError: The folder cannot be written.
        Stopped: A stop was requested.
    """
    if source in NAMED_SETS:
        folder = Path(data_dir) / source
        if not folder.exists():
            fetch(str(source), folder, stop=stop, task=task)
        return folder
    path = Path(source)
    if not os.path.exists(path):  # noqa: PTH110 - unlike Path's, it takes a name that is too long
        raise DataError(f"{escape(path)}: no such folder or file", _advice(path))
    if path.suffix.lower() == ".npz" and path.is_file():
        return _unpacked(path, {"": path}, lambda: load_npz(path), data_dir, _stoppable(task, stop))
    if files := find_idx(path):
        return _unpacked(path, files, lambda: load_idx(**files), data_dir, _stoppable(task, stop))
    check_not_container(path)
    return path


def _unpacked(
    source: Path, files: Mapping[str, Path], load: Callable[[], Arrays], data_dir: Path, task: Task
) -> Path:
    """The folder of the images in these files, which is created if necessary."""
    digests = {file.name: file_digest(file) for file in files.values()}
    whole = sha256_bytes("".join(digests.values()).encode()) if len(digests) > 1 else None
    digest = whole or next(iter(digests.values()))
    folder = Path(data_dir) / f"{Path(os.path.abspath(source)).stem}-{digest[:8]}"  # noqa: PTH100
    if not folder.exists():
        arrays = load()
        with _new_folder(folder, task) as (new, show):
            write_arrays(new, arrays, None, show)
            named = {name: f"sha256:{digest}" for name, digest in digests.items()}
            _mark(new, source.name, None, named, [])
    return folder


def fetch(
    name: str,
    folder: Path,
    *,
    subset: str | None = None,
    local: Path | None = None,
    stop: Stop | None = None,
    task: Task = silent_task,
) -> FetchedDataset:
    """Create the image folder of a named set atomically.

    Downloads are kept in the cache folder, resumed after an interruption, and verified; only
    `local` may differ from the published file.

    Args:
        name: Name of the set.
        folder: Folder to create; it must not exist or be empty.
        subset: Name of a subset; None: the whole set.
        local: A copy of the published file, or a folder with copies of all of them.
        stop: Stop request, polled all the time.
        task: Shows the progress.

    Raises:
        ConfigError: The set or subset does not exist, or `local` does not fit it.
        DataError: A file cannot be downloaded or is damaged.
        ResourceError: `folder` is not empty, or cannot be written.
        Stopped: A stop was requested; downloads are kept.
    """
    named = _named(name, subset, local)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ResourceError(f"{escape(folder)} is not empty", "Choose another folder, or move it.")
    task = _stoppable(task, stop)
    copies = tuple(
        download_file(file, local=local, advice=_how_else(name, named), task=task)
        for file in named.files
    )
    with _new_folder(folder, task) as (new, show):
        counts = named.subsets[subset] if subset else None
        left_out = named.write(new, [copy.path for copy in copies], counts, show)
        digests = {file.name: copy.digest for file, copy in zip(named.files, copies, strict=True)}
        _mark(new, name, subset, digests, left_out)
    return FetchedDataset(copies, tuple(left_out))


def _mark(
    folder: Path, name: str, subset: str | None, files: Mapping[str, str], left_out: list[str]
) -> None:
    mark = {"set": name, "subset": subset, "files": dict(files), "left_out": left_out}
    commit_json(folder / FETCHED_SET, mark)


def is_fetched(folder: Path, name: str, subset: str | None) -> bool:
    """Whether `fetch` has created `folder` with this set and subset."""
    try:
        mark = json.loads((folder / FETCHED_SET).read_bytes())
        return (mark["set"], mark["subset"]) == (name, subset)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _named(name: str, subset: str | None, local: Path | None) -> NamedSet:
    if name not in NAMED_SETS:
        near = difflib.get_close_matches(name, NAMED_SETS, n=1)
        raise ConfigError(
            f"there is no set named {escape(name)}",
            f"Did you mean {near[0]}?" if near else f"The sets are {', '.join(NAMED_SETS)}.",
        )
    named = NAMED_SETS[name]
    if subset is not None and subset not in named.subsets:
        raise ConfigError(
            f"{name} has no subset {escape(subset)}",
            f"Its subsets are {', '.join(named.subsets)}."
            if named.subsets
            else "To train on fewer images, set data.train_per_class or data.classes.",
        )
    if local is not None and not named.files:
        raise ConfigError(f"{name} needs no file", "Leave --file out.")
    if local is not None and len(named.files) > 1 and not local.is_dir():
        raise ConfigError(
            f"{name} is made from {len(named.files)} files; received {escape(local)}",
            f"Name the folder that holds {', '.join(file.name for file in named.files)}.",
        )
    return named


def _how_else(name: str, named: NamedSet) -> str:
    what = named.files[0].name if len(named.files) == 1 else "FOLDER"
    names = ", ".join(file.name for file in named.files)
    return f"Get {names} by other means, and name it: cvtrain data fetch {name} --file {what}"


@contextlib.contextmanager
def _new_folder(folder: Path, task: Task) -> Iterator[tuple[Path, Show]]:
    with committed_folder(folder, mark=FETCHED_SET) as new, task(f"writing {folder.name}") as show:
        yield new, show
        if hasattr(os, "sync"):
            os.sync()  # once, which is faster than an fsync of each of thousands of files


def _stoppable(task: Task, stop: Stop | None) -> Task:
    @contextlib.contextmanager
    def stoppable(text: str) -> Iterator[Show]:
        with task(text) as show:

            def step(done: int, total: int) -> None:
                if stop is not None:
                    stop.raise_if_stopped(text)
                show(done, total)

            yield step

    return stoppable


def _advice(path: Path) -> str:
    try:
        neighbours = os.listdir(path.parent)  # noqa: PTH208 - names, not paths
    except OSError:
        neighbours = []
    if near := difflib.get_close_matches(path.name, NAMED_SETS, n=1):
        return f"Did you mean the named set {near[0]}?"
    if near := difflib.get_close_matches(path.name, neighbours, n=1):
        return f"Did you mean {escape(path.parent / near[0])}?"
    return f"Name a folder, a .csv manifest, an .npz file, or one of: {', '.join(NAMED_SETS)}."

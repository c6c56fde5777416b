"""Errors for sources that are neither a folder nor a manifest, such as archives and databases."""

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from cvtrain.errors import DataError
from cvtrain.system.text import escape, shell_quote

_SCRIPT = (
    "Write its images into a folder for each class; docs/data.md has a script for that, under "
    "'Images in other files'."
)
_UNPACK = "Unpack it, and name the folder: "
_KINDS = {
    r"\.zip": ("a ZIP archive", _UNPACK + "python -m zipfile -e {file} {folder}"),
    r"\.(tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))": (
        "a tar archive",
        _UNPACK + "python -m tarfile -e {file} {folder}",
    ),
    r"\.(7z|rar|gz|bz2|xz|zst)": ("a packed file", "Unpack it, and name the folder."),
    r"\.parquet": ("a Parquet file, as of Hugging Face's datasets", _SCRIPT),
    r"\.(arrow|feather)": ("an Arrow file, as of Hugging Face's datasets", _SCRIPT),
    r"\.tfrecords?(-\d+-of-\d+)?": ("a TFRecord file", _SCRIPT),
    r"\.(h5|hdf5|hdf)": ("an HDF5 file", _SCRIPT),
    r"\.(mdb|lmdb)": (
        "an LMDB database",
        "Read it with the package lmdb, and write its images into a folder for each class.",
    ),
    r"\.rec": (
        "a RecordIO file of MXNet",
        "Read it with mxnet.recordio, and write its images into a folder for each class.",
    ),
    r"\.(pkl|pickle)|/(data|test)_batch(_\d)?": (
        "a Python pickle, which can run any code when it is read",
        "Store its images and labels with numpy.savez_compressed(x_train=..., y_train=...); "
        "CIFAR-10 is the named set cifar10.",
    ),
    r"\.mat": (
        "a file of MATLAB",
        "Store its images and labels with numpy.savez_compressed(x_train=..., y_train=...); "
        "scipy.io.loadmat reads it.",
    ),
    r"\.(npy|pt|pth)": (
        "an array without labels",
        "Store images and labels in one file, with numpy.savez_compressed(x_train=..., "
        "y_train=...).",
    ),
}
_FILES_ALONE = {
    r"\.json": (
        "JSON, which may be annotations such as COCO's",
        "Name the folder of images, or list path,label in a CSV manifest.",
    ),
    r"\.(xlsx?|ods)": ("a spreadsheet", "Save it as CSV in UTF-8: path,label."),
    r"\.(jpe?g|png|bmp|gif|webp|tiff?)": (
        "one image",
        "Name a folder of images. To classify one: cvtrain predict {file}",
    ),
    r"\.(mp4|avi|mov|mkv|webm)": (
        "a video",
        "Write its frames as images into a folder for each class, and name the folder of those.",
    ),
    r"\.ya?ml": (
        "a config, not its images",
        "Use it as a config: cvtrain fit {file}",
    ),
}
_DOCUMENTS = re.compile(
    r".*\.(txt|md|json|csv|html?|pdf|ya?ml|meta|info|lock|log|py|ipynb)", re.DOTALL
)
_MOST_FILES = 1000


def check_not_container(source: Path) -> None:
    """Raise DataError if `source` is a file of a known kind, or a folder of such files.

    The message says what the file is, and the advice how to extract its images.
    """
    if source.is_file():
        if kind := _kind_of(source, _KINDS | _FILES_ALONE):
            raise DataError(f"{escape(source)}: {kind[0]}", kind[1])
        return
    found = None
    for path in itertools.islice(_files_below(source), _MOST_FILES):
        if kind := _kind_of(path, _KINDS):
            found = found or (path, *kind)
        elif not _DOCUMENTS.fullmatch(path.name.lower()):
            return
    if found:
        path, what, advice = found
        raise DataError(
            f"{escape(source)}: no images, but {escape(path.relative_to(source))}, {what}",
            advice,
        )


def _kind_of(path: Path, kinds: dict[str, tuple[str, str]]) -> tuple[str, str] | None:
    """Description of a file by its name, and the advice; None for an unknown kind."""
    name = path.name.lower()
    for pattern, (what, advice) in kinds.items():
        if match := re.search(f"(?:{pattern})$", f"/{name}"):
            folder = path.with_name(path.name[: max(0, match.start() - 1)] or "images")
            return what, advice.format(file=shell_quote(path), folder=shell_quote(folder))
    return None


def _files_below(folder: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(here, name) for name in sorted(names) if not name.startswith("."))

"""Read IDX files, the format of MNIST: http://yann.lecun.com/exdb/mnist/."""

import gzip
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from cvtrain.data.array_datasets import MAX_BYTES, Arrays, check_arrays
from cvtrain.errors import DataError
from cvtrain.system.text import escape

_NAME = re.compile(
    r"(?P<set>.*?)(?P<split>train|t10k|test)[-_.](?P<what>images[-_.]idx3|labels[-_.]idx1)"
    r"[-_.]ubyte(?:\.gz)?",
    re.IGNORECASE,
)
_GZIP = b"\x1f\x8b"
_INSIDE = ("", "raw", "MNIST/raw")  # the last two are folders of torchvision


def find_idx(source: Path) -> dict[str, Path]:
    """The IDX files of a folder, or those that belong to a file: {x_train, y_train, ...: path}.

    The result is empty if there are none. A file may lie in a folder of the same name.

    Raises:
        DataError: There are files of several data sets, or a file is missing.
    """
    wanted = _NAME.fullmatch(source.name) if source.is_file() else None
    if wanted is None and not source.is_dir():
        return {}
    folders = [source.parent] if wanted else [source / inside for inside in _INSIDE]
    sets = next(filter(None, map(_sets_in, folders)), {})
    if wanted:
        sets = {wanted["set"]: sets[wanted["set"]]}
    if not sets:
        return {}
    if len(sets) > 1:
        names = ", ".join(escape(min(paths.values()).name) for paths in sets.values())
        raise DataError(
            f"{escape(source)}: IDX files of {len(sets)} sets: {names}", "Name a file of one."
        )
    (paths,) = sets.values()
    splits = {"train", *(name[2:] for name in paths)}
    if missing := [n for split in splits for n in (f"x_{split}", f"y_{split}") if n not in paths]:
        what = "images" if missing[0][0] == "x" else "labels"
        raise DataError(
            f"{escape(source)}: IDX files without the {what} of {missing[0][2:]}",
            f"Put that file beside {escape(min(paths.values()).name)}.",
        )
    return paths


def _sets_in(folder: Path) -> dict[str, dict[str, Path]]:
    """{prefix of the names: {x_train, ...: path}}."""
    sets: dict[str, dict[str, Path]] = {}
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return sets
    for entry in entries:
        path = entry if entry.is_file() else entry / entry.name
        if (match := _NAME.fullmatch(entry.name)) and path.is_file():
            role = "x" if match["what"].lower().startswith("images") else "y"
            split = "train" if match["split"].lower() == "train" else "test"
            sets.setdefault(match["set"], {}).setdefault(f"{role}_{split}", path)
    return sets


def load_idx(
    x_train: Path, y_train: Path, x_test: Path | None = None, y_test: Path | None = None
) -> Arrays:
    """Load the arrays of IDX files, gzipped or not; those of the test are optional.

    Raises:
        DataError: A file has another format, or images and labels do not match.
    """
    paths = {"x_train": x_train, "y_train": y_train}
    if x_test is not None and y_test is not None:
        paths |= {"x_test": x_test, "y_test": y_test}
    arrays = {name: _read_idx(path) for name, path in paths.items()}
    for x in (name for name in arrays if name[0] == "x"):
        y = f"y{x[1:]}"
        try:
            check_arrays(x, arrays[x], y, arrays[y])
        except ValueError as error:
            raise DataError(f"{escape(paths[x])}: {error}", "Download it again.") from error
    return arrays


def _read_idx(path: Path) -> np.ndarray:
    """uint8 of any shape."""
    try:
        with path.open("rb") as file:
            is_packed = file.read(2) == _GZIP
        with gzip.open(path) if is_packed else path.open("rb") as file:
            zeros, kind, num_axes = struct.unpack(">HBB", file.read(4))
            if zeros or kind != 8 or not 1 <= num_axes <= 4:
                raise ValueError("not an IDX file of bytes")
            shape = struct.unpack(f">{num_axes}I", file.read(4 * num_axes))
            size = math.prod(shape)
            if size > MAX_BYTES:
                raise ValueError(f"{size / 2**30:.0f} GiB of values")
            content = file.read(size + 1)  # one byte more, to detect a file that is too long
        if len(content) != size:
            raise ValueError(f"not {size:,} values, as its first bytes say")
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise DataError(f"{escape(path)}: {escape(error)}", "Download it again.") from error
    return np.frombuffer(content, np.uint8).reshape(shape)

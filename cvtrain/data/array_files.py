"""Load images and labels of each split from `.npz` files.

Arrays may have the names of keras.datasets, MedMNIST, scikit-learn and `numpy.savez`; labels may be
numbers, strings or one-hot rows. Pixels are not converted: the error shows a command for that.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cvtrain.data.array_datasets import MAX_BYTES, SPLITS, Arrays, check_arrays
from cvtrain.errors import DataError
from cvtrain.system.npz import read_npz
from cvtrain.system.text import escape, shell_quote

_MOST_LISTED = 12
_STORE = (
    "Store images as x_train, uint8 from 0 to 255, of shape (images, height, width) or (images, "
    "height, width, 3), and one label for each as y_train, whole numbers or texts; so, too, x_val, "
    "y_val, x_test and y_test, where there are such splits."
)
_NO_OBJECTS = " Texts that NumPy holds as objects: store them with .astype(str)."
_LEAST_SIDE = 8
_BYTE = re.compile(r"\s*\d{1,3}(\.0)?\s*")
_BYTES = re.compile(r"(\d{1,3} ){63,}\d{1,3} ?")
_LABEL_NAMES = {"label", "class", "target", "y", "emotion"}
_IMAGES = r"(?P<x>x|images?|imgs?|data|pixels|inputs?|arr_0)"
_LABELS = r"(?P<y>y|labels?|targets?|class(?:es)?|arr_1)"
_SPLIT = r"(?:(?P<train>train(?:ing)?)|(?P<val>val(?:id(?:ation)?)?|dev)|(?P<test>test(?:ing)?))"
_NAMES = [
    re.compile(pattern, re.IGNORECASE)
    for role in (_IMAGES, _LABELS)
    for pattern in (role, f"{_SPLIT}[_. -]?{role}", f"{role}[_. -]?{_SPLIT}")
]


def load_npz(path: Path) -> Arrays:
    """Load the images and labels of an .npz file, under the names of keras.datasets.

    Raises:
        DataError: The file is not an .npz file, its arrays take more than 4 GiB, or they are not
            images and labels; if possible, the advice shows how to convert them.
    """
    try:
        stored = read_npz(path, most_bytes=MAX_BYTES)
    except (OSError, ValueError) as error:
        are_objects = "Python objects" in str(error)
        raise DataError(
            f"{escape(path)}: {escape(error)}", _STORE + _NO_OBJECTS * are_objects
        ) from error
    keys = _usual_names(path, stored)
    arrays = {name: stored[key] for name, key in keys.items()}
    for split in SPLITS:
        if f"x_{split}" in keys:
            x, y = f"x_{split}", f"y_{split}"
            try:
                arrays[y] = _plain_labels(keys[y], arrays[y])
                check_arrays(keys[x], arrays[x], keys[y], arrays[y])
            except ValueError as error:
                raise DataError(
                    f"{escape(path)}: {escape(error)}", _how_to_convert(path, stored, keys)
                ) from error
    return arrays


def how_to_store_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Command that stores a table of pixels as an .npz file; empty for any other table.

    A table of pixels has one column for each pixel of a square, as in Kaggle's MNIST, or one column
    with all pixels as text, as in FER2013, and one column of labels.
    """
    first = rows[0] if rows else header
    texts = [i for i, value in enumerate(first) if _BYTES.fullmatch(value)]
    if all(map(_BYTE.fullmatch, first)) and (side := _side(len(first) - 1)):
        names = [name.strip().lower() for name in header]
        label = next((i for i, name in enumerate(names) if name in _LABEL_NAMES), 0)
        pixels = f"np.delete(np.array(rows, float), {label}, 1)"
    elif texts and len(first) > 1 and (side := _side(len(first[texts[0]].split()))):
        label = min({*range(len(first))} - {*texts})
        pixels = f"np.array([row[{texts[0]}].split() for row in rows], float)"
    else:
        return ""
    num_headers = int(header != first and not all(map(_BYTE.fullmatch, header)))
    code = (
        "import csv, pathlib, numpy as np; "
        f'lines = pathlib.Path({_text(path)}).read_text("utf-8-sig").splitlines(); '
        f"rows = list(csv.reader(lines))[{num_headers}:]; "
        f"np.savez_compressed({_text(path.with_suffix('.npz'))}, "
        f'x_train={pixels}.reshape(-1, {side}, {side}).astype("uint8"), '
        f"y_train=np.array([row[{label}] for row in rows]))"
    )
    return f"python -c {shell_quote(code)}"


def _side(num_pixels: int) -> int:
    """Side of a square image of `num_pixels` pixels; 0 if it is not a square or too small."""
    side = math.isqrt(max(0, num_pixels))
    return side if side**2 == num_pixels and side >= _LEAST_SIDE else 0


def _usual_names(path: Path, stored: Arrays) -> dict[str, str]:
    """{x_train, y_train, x_val, ...: key in the file}, or DataError if they are not clear."""
    keys: dict[str, str] = {}
    unknown = []
    problem = ""
    for key, array in stored.items():
        if name := _usual_name(key, len(stored)):
            if name in keys:
                problem = f"both {keys[name]} and {key} may be {name}"
            keys[name] = key
        elif array.ndim > 2:
            unknown.append(key)
    splits = {"train", *(name[2:] for name in keys)}
    wanted = [f"{role}_{split}" for split in SPLITS if split in splits for role in "xy"]
    if missing := [name for name in wanted if name not in keys]:
        problem = f"{missing[0]} is not a file in the archive"
    elif unknown:
        problem = f"{unknown[0]} may be images, too"
    if problem:
        there = [f"{key} {stored[key].dtype} {stored[key].shape}" for key in stored]
        more = f" and {len(there) - _MOST_LISTED:,} more" if len(there) > _MOST_LISTED else ""
        raise DataError(
            f"{escape(path)}: {escape(problem)}; it holds "
            f"{escape(', '.join(there[:_MOST_LISTED])) or 'nothing'}{more}",
            _how_to_rename(path, stored),
        )
    return keys


def _usual_name(key: str, num_arrays: int) -> str:
    """`x_train` for `train_images`, `X` or `trainX`; empty for an unknown name."""
    if key.startswith("arr_") and num_arrays != len("xy"):  # two unnamed arrays are x and y
        return ""
    found = next((match for p in _NAMES if (match := p.fullmatch(key))), None)
    if found is None:
        return ""
    matched = [name for name, text in found.groupdict().items() if text]
    role = "x" if "x" in matched else "y"
    return f"{role}_{next((split for split in SPLITS if split in matched), 'train')}"


def _plain_labels(name: str, labels: np.ndarray) -> np.ndarray:
    """Convert one-hot rows to integers and bytes to strings; ValueError for multi-hot rows."""
    if labels.dtype.kind == "S":
        try:
            return np.char.decode(labels, "utf-8")
        except UnicodeDecodeError:
            return labels
    if labels.ndim != 2 or labels.shape[1] < 2 or labels.dtype.kind not in "iufb":
        return labels
    ones = labels.sum(axis=1)
    if not np.isin(labels, (0, 1)).all() or not ones.all():
        return labels
    if (ones > 1).any():
        raise ValueError(f"{name} has several ones in a row: several labels are not supported")
    return labels.argmax(axis=1)


def _how_to_rename(path: Path, stored: Arrays) -> str:
    """Advice: a command that names the arrays that look like images and labels."""
    images = next((key for key, array in stored.items() if array.ndim in (3, 4)), "")
    count = len(stored[images]) if images else 0
    labels = (
        key for key, array in stored.items() if array.ndim < 3 and array.shape[:1] == (count,)
    )
    if not images or not (label := next(labels, "")):
        return _STORE
    line = _python(path, f"dict(x_train=d[{_text(images)}], y_train=d[{_text(label)}])")
    return f"If these are the images and labels for training, name them so: {line}"


def _how_to_convert(path: Path, stored: Arrays, keys: Mapping[str, str]) -> str:
    """Advice: a command that converts the arrays to images and labels, or a description."""
    images = [stored[key] for name, key in keys.items() if name[0] == "x"]
    are_numbers = all(array.dtype.kind in "biuf" and array.size for array in images)
    low, high = (
        (min(a.min() for a in images), max(a.max() for a in images)) if are_numbers else (0, 0)
    )
    steps = {}
    for name, key in keys.items():
        value, array = f"d[{_text(key)}]", stored[key]
        if name[0] == "x":
            num_labels = len(stored[keys[f"y{name[1:]}"]])
            shaped = _with_channels_last(value, array.shape, num_labels)
            steps[key] = shaped and _as_bytes(shaped, array.dtype, low, high)
        elif array.dtype.kind == "f" and np.array_equal(array, np.rint(array)) and array.ndim == 1:
            steps[key] = f"{value}.astype(int)"
        if steps.get(key) == value:
            del steps[key]
    if not are_numbers or not steps or not all(steps.values()):
        return _STORE
    changed = ", ".join(f"{_text(key)}: {step}" for key, step in steps.items())
    return f"To convert it: {_python(path, f'd | {{{changed}}}')}"


def _with_channels_last(value: str, shape: tuple[int, ...], num_labels: int) -> str:
    """Expression for images of shape (images, height, width[, channels]); empty if unknown."""
    side = math.isqrt(shape[-1]) if len(shape) == 2 else 0
    if len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3) and shape[0] == num_labels):
        return value
    if len(shape) == 4 and shape[1] in (1, 3):
        return f"{value}.transpose(0, 2, 3, 1)"
    if len(shape) == 4 and shape[2] in (1, 3) and shape[3] == num_labels:  # MATLAB's order
        return f"{value}.transpose(3, 0, 1, 2)"
    if len(shape) == 4 and shape[3] == 4:
        return f"{value}[..., :3]"
    return f"{value}.reshape(-1, {side}, {side})" if side > 1 and side**2 == shape[-1] else ""


def _as_bytes(value: str, dtype: np.dtype, low: float, high: float) -> str:
    """Expression that scales values from `low` to `high` to uint8; empty if unknown."""
    if dtype == np.uint8:
        return value
    if low >= 0 and high <= 1:
        value = f"({value} * 255)"
    elif low >= -1 and high <= 1:
        value = f"(({value} + 1) * 127.5)"
    elif low >= 0 and high > 255 and dtype.kind in "iu":
        value = f"({value} * (255 / {high}))"
    elif not (low >= 0 and high <= 255):
        return ""
    return f'{value}.round().astype("uint8")'


def _python(path: Path, arrays: str) -> str:
    """Command that stores `arrays`, an expression of `d`, the dict of the arrays of the file."""
    new = path.with_name(f"{path.stem}-new.npz")
    code = (
        f"import numpy as np; d = dict(np.load({_text(path)})); "
        f"np.savez_compressed({_text(new)}, **({arrays}))"
    )
    return f"python -c {shell_quote(code)}"


def _text(value: object) -> str:
    """String literal of Python."""
    return json.dumps(str(value), ensure_ascii=False)

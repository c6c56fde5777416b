"""What a finished run has learnt, as digests by name, and nothing of how long that took."""

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

_TIMES = {"seconds", "val_seconds", "images_per_second"}
# `sha256` is of all fields of a record; `rungs` and `estimates` are a ladder's.
_OF_TIMES = {"started", "seconds", "sha256", "rungs", "estimates"}
_UNCOMPARED = {"log.txt", ".lock", "ladder.csv", "ladder.png"}


def run_outcome(run: Path) -> dict[str, str]:
    """The outcome of a finished run of cvtrain, and of the runs in it.

    Every file but logs and tables of times counts, with its content or, where that tells of times,
    with the rest of it. So a file that a kill left behind is a difference, too.
    """
    found = {}
    for path in sorted(run.rglob("*")):
        if path.is_dir() or path.name in _UNCOMPARED:
            continue
        name = str(path.relative_to(run))
        if path.name == "model.keras":
            arrays = model_outcome(path)
            found |= {f"{name}/{array}": digest for array, digest in arrays.items()}
        elif path.name == "history.csv":
            found[name] = history_outcome(path)
        elif path.name == "run.json":
            fields = _record_outcome(json.loads(path.read_text()))
            found |= {f"{name}: {field}": digest for field, digest in fields.items()}
        else:
            found[name] = _sha256(path.read_bytes())
    return found


def model_outcome(path: Path) -> dict[str, str]:
    """All arrays of a `.keras` file, by their names in it: read without Keras.

    Raises:
        OSError, zipfile.BadZipFile, KeyError: the file is damaged.
    """
    found = {}

    def add(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            values = np.asarray(item)
            header = f"{values.dtype.str} {values.shape} ".encode()
            found[name] = _sha256(header + values.tobytes())

    with (
        zipfile.ZipFile(path) as archive,
        h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights,
    ):
        weights.visititems(add)
    return found


def history_outcome(path: Path) -> str:
    """A CSV of epochs without the columns of times."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [{key: value for key, value in row.items() if key not in _TIMES} for row in rows]
    return _sha256(json.dumps(kept).encode())


def _record_outcome(record: Mapping[str, Any]) -> dict[str, str]:
    """The fields of `run.json` but when, how long and how much of it was in the cache."""
    fields = {key: value for key, value in record.items() if key not in _OF_TIMES}
    fields["features"] = {
        layer: {key: value for key, value in found.items() if key != "num_computed"}
        for layer, found in record.get("features", {}).items()
    }
    # Digests of model files: of a ladder they are its own, with ids that Keras makes up.
    fields["identity"] = {**record.get("identity", {}), "weights": None}
    return {
        key: _sha256(json.dumps(value, sort_keys=True).encode()) for key, value in fields.items()
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

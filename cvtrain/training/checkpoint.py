"""Checkpoints: the complete state of a training, each in one atomic file.

A file is an npz of plain arrays and one JSON text, followed by the SHA-256 of all that in 64
hexadecimal digits; `numpy.load` can read it. Nothing in it can run code.
"""

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvtrain.errors import RunError
from cvtrain.system.files import append_checksum, committed, disk_errors, read_checksummed
from cvtrain.system.npz import read_npz

_KEPT = 2
_SECONDS = 60.0
# The training since the last save must have taken this many times as long as that save: 2 %, and
# with the collecting of the arrays, which is not in its time, less than 3 %.
_SPACING = 50


@dataclass(frozen=True)
class Snapshot:
    """The content of one checkpoint: JSON values, and arrays by name."""

    values: dict[str, Any]
    arrays: dict[str, np.ndarray]


class Checkpoints:
    """The checkpoints in one folder; the newest two are kept.

    Args:
        folder: the folder; created when the first checkpoint is saved.
        every_seconds: a fixed interval; None for once a minute and at the end of epochs, but so
            rarely that saving takes at most 3 % of the time.
        warn: called with one line for each damaged checkpoint that is skipped.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every_seconds: float | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ):
        self._folder = Path(folder)
        self._every_seconds = every_seconds
        self._warn = warn
        self._saved_at = time.monotonic()
        self._save_seconds = 0.0

    def due(self, *, at_epoch_end: bool) -> bool:
        """Is it time to save?"""
        if self._every_seconds is not None:
            spacing = self._every_seconds
        else:
            spacing = max(_SPACING * self._save_seconds, 0.0 if at_epoch_end else _SECONDS)
        return time.monotonic() - self._saved_at >= spacing

    def save(self, snapshot: Snapshot) -> None:
        """Commit `snapshot` as the newest checkpoint and drop the oldest.

        Raises:
            ResourceError: it could not be written; the checkpoints before it are intact.
        """
        started = time.monotonic()
        paths = self._paths()
        number = _number(paths[-1]) + 1 if paths else 1
        text = json.dumps({"values": snapshot.values}, allow_nan=False)
        arrays: dict[str, Any] = {"json": np.array(text), **snapshot.arrays}
        with committed(self._folder / f"checkpoint-{number:06d}.npz") as temporary:
            with temporary.open("wb") as file:
                np.savez(file, **arrays)
            append_checksum(temporary)
        with disk_errors(self._folder):
            for path in self._paths()[:-_KEPT]:
                path.unlink(missing_ok=True)
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - started

    def load(self) -> Snapshot | None:
        """The newest checkpoint that is intact; None when there is none at all.

        Raises:
            RunError: every checkpoint is damaged.
        """
        paths = self._paths()
        for path in reversed(paths):
            if snapshot := _snapshot(path):
                return snapshot
            self._warn(f"{path.name} is damaged or unreadable, and passed over")
        if paths:
            raise RunError(
                f"{self._folder}: all {len(paths)} checkpoints are damaged or unreadable",
                "Check the disk; start the training again without --resume.",
            )
        return None

    def _paths(self) -> list[Path]:
        paths = self._folder.glob("checkpoint-*.npz")
        return sorted((path for path in paths if path.stem[11:].isdecimal()), key=_number)


def _snapshot(path: Path) -> Snapshot | None:
    """The content of a checkpoint; None if it is damaged or was not written by `save`."""
    content = read_checksummed(path)
    if content is None:
        return None
    try:
        arrays = read_npz(io.BytesIO(content), most_bytes=len(content))
        values = json.loads(str(arrays.pop("json")))["values"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Snapshot(values, arrays) if isinstance(values, dict) else None


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])

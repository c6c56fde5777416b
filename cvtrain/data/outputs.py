"""Folders that cvtrain itself wrote: what they hold is output, and never data."""

import os
from pathlib import Path

from cvtrain.files import cache_dir

FETCHED_SET = ".cvtrain-set.json"
"""File in each folder that was made from a named set or from arrays: which set, of which files."""

# File that marks a folder -> a key that cvtrain writes near the beginning of that file: another
# program may use the same file name.
_MARKS = {
    "run.json": b'"command"',
    "metrics.json": b'"tta"',
    "stats.json": b'"num_files"',
    "visualize.json": b'"weights_sha256"',
    FETCHED_SET: b'"set"',
}
_TRACKED = "mlruns"  # where MLflow keeps the figures of `log: [mlflow]`, unless it is configured
_MOST_BYTES = 64 * 1024


def mark_of_output(folder: Path) -> str:
    """What marks `folder` as written by cvtrain: a file in it, or its own name; else empty."""
    for name, key in _MARKS.items():
        if key in _beginning(folder / name):
            return name
    if folder.name == _TRACKED or os.path.realpath(folder) == os.path.realpath(cache_dir()):
        return folder.name
    return ""


def _beginning(path: Path) -> bytes:
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer.
        with open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK)) as file:
            return file.read(_MOST_BYTES)
    except OSError:
        return b""

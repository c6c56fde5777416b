"""Recognize files and folders that cvtrain wrote: only these may be replaced by an output.

A file is replaced only if its first lines show that cvtrain wrote it, or with --force. A folder is
replaced only if cvtrain wrote all files in it, even with --force: a folder may hold more files than
the user remembers.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cvtrain.errors import ConfigError, ResourceError
from cvtrain.system.files import cache_dir, commit_json, is_temporary
from cvtrain.system.text import escape
from cvtrain.version import __version__

FETCHED_SET = ".cvtrain-set.json"
"""File in each folder that was made from a named set or from arrays; it names set and sources."""

PAGE = re.compile(rb'<meta name="generator" content="cvtrain [^"]*">')
"""Text at the beginning of every page."""

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
_BEGINNING = 8192  # bytes; a path in it may have 4096
_MOST_NAMED = 3
_OF_FILE_MANAGERS = {".ds_store", ".directory", "thumbs.db", "desktop.ini"}


def check_replaceable(path: Path, *, force: bool, ours: re.Pattern[bytes] | None = None) -> None:
    """Raise ConfigError if `path` exists and must not be replaced.

    Args:
        path: the file to write.
        force: replace any file.
        ours: pattern at the beginning of files of this kind that cvtrain writes; None if they
            cannot be recognized, or if users may have edited them.
    """
    if force or not os.path.lexists(path) or (ours and ours.search(_beginning(path))):
        return
    raise ConfigError(
        f"{escape(path)} is there already",
        f"Add --force to replace it, or choose another: --output FILE{path.suffix}",
    )


def check_own_folder(folder: Path, mark: str) -> None:
    """Raise ResourceError if `folder` holds files that `commit_mark` has not listed there."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    listed = _listed(folder / mark)
    foreign = sorted(name for name in _files_in(folder) if name not in listed)
    if not foreign and listed:
        return
    some = ", ".join(map(escape, foreign[:_MOST_NAMED])) or "folders"
    more = f" and {len(foreign) - _MOST_NAMED:,} more" if len(foreign) > _MOST_NAMED else ""
    raise ResourceError(
        f"{escape(folder)} would be replaced as a whole, and holds what cvtrain is not known to "
        f"have written: {some}{more}",
        "Choose another folder with --output, or move that elsewhere.",
    )


def commit_mark(folder: Path, mark: str, content: Mapping[str, Any]) -> None:
    """Commit the JSON file that lists the files of `folder`, after all of them are written.

    Args:
        folder: a folder that contains only files of cvtrain.
        mark: name of the JSON file.
        content: other values of the JSON file, besides `written_by` and `contents`.
    """
    files = sorted({*_files_in(folder), mark})
    commit_json(
        folder / mark, {**content, "written_by": f"cvtrain {__version__}", "contents": files}
    )


def read_mark(folder: Path) -> str:
    """The file in `folder`, or its own name, that marks it as written by cvtrain; else empty."""
    for name, key in _MARKS.items():
        if key in _beginning(folder / name):
            return name
    if folder.name == _TRACKED or os.path.realpath(folder) == os.path.realpath(cache_dir()):
        return folder.name
    return ""


def _beginning(path: Path) -> bytes:
    try:
        if not path.is_file():  # a pipe would be waited for
            return b""
        with path.open("rb") as file:
            return file.read(_BEGINNING)
    except OSError:
        return b""


def _listed(mark: Path) -> set[str]:
    """The files that a mark lists; none if cvtrain did not write it."""
    try:
        content = json.loads(mark.read_bytes())
        written_by, files = content["written_by"], content["contents"]
        return set(files) if str(written_by).startswith("cvtrain ") else set()
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return set()


def _files_in(folder: Path) -> Iterator[str]:
    """All files below a folder, as POSIX paths from there; those of file managers do not count."""
    for place, _, files in os.walk(folder):
        for name in files:
            if name.lower() not in _OF_FILE_MANAGERS and not is_temporary(name):
                yield Path(place, name).relative_to(folder).as_posix()

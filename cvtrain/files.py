"""Files that matter: committed atomically, named safely, identified by content.

A commit is: write to a temporary file beside the target, fsync it, rename it over the target, fsync
the folder. A reader sees the old content or the new one, never a mixture, also after a power cut.
"""

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cvtrain.errors import ResourceError

TEMPORARY_PREFIX = ".tmp-"
"""Begins the names of unfinished files; those that a kill left, the next writer may remove."""

_DISK = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_DISK[errno.EFBIG] = "the file would exceed the size limit"
_FORMULA = re.compile(r"[=+@\t\r]|-(?![\d.])")


@contextlib.contextmanager
def committed(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block succeeds it becomes `path`.

    The temporary path keeps the suffix of `path`, because Keras and Matplotlib choose by it.

    Raises:
        ResourceError: the disk is full or the folder cannot be written; `path` is untouched.
    """
    path = Path(path)
    temporary = None
    with disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(
                dir=path.parent, prefix=TEMPORARY_PREFIX, suffix=path.suffix
            )
            os.close(handle)
            temporary = Path(name)
            yield temporary
            temporary.chmod(0o666 & ~_UMASK)
            _fsync(temporary)
            temporary.replace(path)
            _fsync(path.parent)
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def committed_folder(path: Path, *, mark: str) -> Iterator[Path]:
    """Yield a new folder beside `path`; when the block succeeds it takes the place of `path`.

    Args:
        path: a folder that is not there yet, is empty, or was written in this way before.
        mark: name of a file that every folder written in this way has.

    Raises:
        ResourceError: `path` holds something else, or cannot be written; it is untouched then.
    """
    # Where a link leads to a folder on another disk, the link stays.
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    with disk_errors(path):
        is_free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
        if not is_free and not (path / mark).is_file():
            raise ResourceError(
                f"{path} holds something else, and would be replaced", "Choose another folder."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=TEMPORARY_PREFIX))
        before = temporary.with_name(f"{temporary.name}-before")
        try:
            yield temporary
            temporary.chmod(0o777 & ~_UMASK)
            if path.exists():
                path.replace(before)
            temporary.replace(path)
            _fsync(path.parent)
        except BaseException:
            if before.exists() and not path.exists():
                before.replace(path)
            raise
        finally:
            for folder in (temporary, before):
                shutil.rmtree(folder, ignore_errors=True)


def commit_bytes(path: Path, content: bytes) -> None:
    """Commit `content` to `path`. Raises ResourceError as `committed` does."""
    with committed(path) as temporary:
        temporary.write_bytes(content)


def commit_text(path: Path, content: str) -> None:
    """Commit `content` to `path` as UTF-8. Raises ResourceError as `committed` does."""
    commit_bytes(path, content.encode("utf-8", errors="surrogateescape"))


def commit_json(path: Path, content: Any) -> None:
    """Commit `content` to `path` as indented JSON; NaN and infinity are refused (ValueError)."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    # A name that is not UTF-8 stays JSON as the escape `\udce9`, which reads back as the name.
    commit_bytes(path, (text + "\n").encode("utf-8", errors="backslashreplace"))


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV, one line each: in texts, control characters are escaped as `printable` does,
    and one that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow(csv_cell(cell) if isinstance(cell, str) else cell for cell in row)
    return text.getvalue()


def csv_cell(cell: str) -> str:
    """`cell` as `csv_text` writes it: harmless to terminals and spreadsheets."""
    return ("'" if _FORMULA.match(cell) else "") + printable(cell)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals while `path` is written into a ResourceError."""
    try:
        yield
    except OSError as error:
        what = _DISK.get(error.errno or 0) or (error.strerror or str(error)).lower()
        raise ResourceError(
            f"cannot write {path}: {what}",
            "Free some room or choose another folder; what was saved before is intact.",
        ) from error


def sha256_bytes(content: bytes) -> str:
    """SHA-256 of `content` in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def printable(name: object) -> str:
    r"""`name` with what a terminal would obey or cannot show escaped: `a\x1b[31m`, `caf\udce9`."""
    text = str(name)
    if text.isprintable():  # at once: a page holds pictures of thousands of characters
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def cache_dir() -> Path:
    """Where measured choices and checked files are kept: `$CVTRAIN_CACHE`, else XDG's cache."""
    if own := os.environ.get("CVTRAIN_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "cvtrain"


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


_UMASK = _umask()

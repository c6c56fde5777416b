"""Files that matter: committed atomically, identified by content.

A commit is: write to a temporary file beside the target, fsync it, rename it over the target, fsync
the folder. A reader sees the old content or the new one, never a mixture, also after a power cut.
The writer of a temporary file holds a lock on it, which the kernel frees with the process. So an
abandoned file is recognized by its free lock, and removed. Windows has no such lock: there, a file
is abandoned if it was not changed for a day.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from cvtrain.errors import ConfigError, DataError, ResourceError
from cvtrain.system.locks import IS_POSIX, lock
from cvtrain.system.text import escape

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
"""Flag of `os.open`: refuse a link. Windows knows no such flag."""
NO_WAIT = getattr(os, "O_NONBLOCK", 0)
"""Flag of `os.open`: do not wait for the writer of a pipe. Windows has no such flag."""

COMMIT_SECONDS = "CVTRAIN_COMMIT_SECONDS"
"""Variable of the environment that `commit_interval` reads."""

_TEMPORARY_PREFIX = ".cvtrain-tmp-"
# The form of `tempfile`'s names: a folder may hold other files of the user.
_TEMPORARY = re.compile(rf"{re.escape(_TEMPORARY_PREFIX)}[a-z0-9_]{{8}}(\..*)?", re.DOTALL)

_ROOM, _RIGHT = "Free some room or choose another folder", "Choose a folder that you may write to"
_PLACE = "Move it elsewhere, or choose another folder"
_REFUSALS = {
    errno.ENOSPC: ("the disk is full", _ROOM),
    errno.EDQUOT: ("the disk quota is used up", _ROOM),
    errno.EFBIG: ("the file would exceed the size limit", "Raise the limit (ulimit -f)"),
    errno.EROFS: ("the file system is read-only", _RIGHT),
    errno.EACCES: ("permission denied", _RIGHT),
    errno.EPERM: ("permission denied", _RIGHT),
    errno.EEXIST: ("a file is in the way", _PLACE),
    errno.ENOTDIR: ("a file is in the way of a folder", _PLACE),
    errno.EISDIR: ("a folder is in the way of a file", _PLACE),
    errno.EIO: ("the disk reports an error", "Check the disk, or choose a folder on another"),
}
_DIGITS = 64  # of a SHA-256
_ABANDONED_AFTER = 86_400  # seconds, where locks do not tell


@contextlib.contextmanager
def committed(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block succeeds it becomes `path`.

    The temporary path keeps the suffix of `path`, because Keras and Matplotlib choose by it.

    Raises:
        ResourceError: the disk is full or the folder cannot be written; `path` is untouched.
    """
    path = Path(path)
    with disk_errors(path):
        make_folder(path.parent)
        with _temporary(path) as temporary:
            yield temporary
            temporary.chmod(0o666 & ~_UMASK)
            _fsync(temporary)
            temporary.replace(path)
            _fsync(path.parent)


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
        restore_folder(path)
        is_free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
        if not is_free and not (path / mark).is_file():
            raise ResourceError(
                f"{escape(path)} holds something else, and would be replaced",
                "Choose another folder.",
            )
        make_folder(path.parent)
        remove_abandoned(path.parent, deep=False)
        with _temporary(path, is_folder=True) as temporary:
            yield temporary
            temporary.chmod(0o777 & ~_UMASK)
            for each in (*temporary.rglob("*"), temporary):
                _fsync(each)
            try:
                temporary.rename(path)  # works where there is none, or an empty one
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                _replace_folder(path, temporary)
            _fsync(path.parent)


def remove_abandoned(folder: Path, *, deep: bool = True) -> None:
    """Remove the unfinished files and folders that killed processes left in `folder`.

    Args:
        folder: the folder; files that are being written or cannot be removed stay.
        deep: include subfolders.
    """
    for place, folders, files in os.walk(folder):
        for name in filter(is_temporary, (*folders, *files)):
            with contextlib.suppress(OSError):
                _remove_if_abandoned(Path(place, name))
        folders[:] = [name for name in folders if deep and not is_temporary(name)]


def is_temporary(name: str) -> bool:
    """Whether a file or folder of that name is unfinished."""
    return _TEMPORARY.fullmatch(name) is not None


def make_folder(path: Path) -> None:
    """Make a folder and its parents, so that they survive a power cut.

    Raises:
        OSError: the folder cannot be made, or a file is in the way.
    """
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        _fsync(path.parent)


def commit_bytes(path: Path, content: bytes) -> None:
    """Commit `content` to `path`. Raises ResourceError as `committed` does."""
    with committed(path) as temporary:
        temporary.write_bytes(content)


def commit_text(path: Path, content: str) -> None:
    """Commit `content` to `path` as UTF-8. Raises ResourceError as `committed` does."""
    commit_bytes(path, content.encode("utf-8", errors="surrogateescape"))


def commit_json(path: Path, content: Any) -> None:
    """Commit `content` to `path` as `json_text` has it."""
    commit_text(path, json_text(content))


def json_text(content: Any) -> str:
    """Indented JSON; NaN and infinity are refused (ValueError)."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A name that is not UTF-8 stays JSON as the escape `\udce9`, which reads back as the name.
    return text.encode("utf-8", errors="backslashreplace").decode()


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of the operating system while `path` is written into a ResourceError."""
    try:
        yield
    except OSError as error:
        unknown = (error.strerror or str(error)).lower(), _ROOM
        what, advice = _REFUSALS.get(error.errno or 0, unknown)
        raise ResourceError(
            f"cannot write {escape(path)}: {what}", f"{advice}; what was saved before is intact."
        ) from error


def append_checksum(path: Path) -> None:
    """Append the SHA-256 of a file to it; NumPy's readers ignore it.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("r+b") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.write(digest.encode())


def read_checksummed(path: Path) -> bytes | None:
    """The content before the checksum; None if the file is damaged or cannot be read."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    body, digest = content[:-_DIGITS], content[-_DIGITS:]
    return body if sha256_bytes(body).encode() == digest else None


def sha256_bytes(content: bytes) -> str:
    """SHA-256 of `content` in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Digest of a file in hexadecimal digits; DataError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise DataError(
            f"{escape(path)}: cannot be read: {(error.strerror or str(error)).lower()}",
            "Check the file and its permissions.",
        ) from error


def commit_interval() -> float | None:
    """Seconds between two commits of unfinished work: `$CVTRAIN_COMMIT_SECONDS`; None if not set.

    For machines that are taken away at short notice, and for tests of what a kill does.

    Raises:
        ConfigError: the value is not a number of seconds.
    """
    text = os.environ.get(COMMIT_SECONDS)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ConfigError(
            f"{COMMIT_SECONDS}: must be seconds, 0 or more; received {text!r}",
            "Such as 10; or unset it: then commits cost little and a kill loses a minute at most.",
        )
    return seconds


def cache_dir() -> Path:
    """The cache folder: `$CVTRAIN_CACHE`, else that of the system, on Linux `~/.cache/cvtrain`."""
    if own := os.environ.get("CVTRAIN_CACHE"):
        return Path(own).expanduser()
    return user_cache_path("cvtrain", appauthor=False)


@contextlib.contextmanager
def _temporary(path: Path, *, is_folder: bool = False) -> Iterator[Path]:
    """A new file or folder beside `path`, locked; what is left of it at the end is removed."""
    temporary, handle = _made_and_locked(path, is_folder=is_folder)
    try:
        yield temporary
    finally:
        # A disk that does not even allow that must not hide what went wrong before.
        with contextlib.suppress(OSError):
            _remove(temporary)
        if handle is not None:
            with contextlib.suppress(OSError):
                os.close(handle)


def _made_and_locked(path: Path, *, is_folder: bool) -> tuple[Path, int | None]:
    """A new file or folder, and the open handle that locks it; None on systems without locks."""
    while True:
        handle = None
        if is_folder:
            name = tempfile.mkdtemp(dir=path.parent, prefix=_TEMPORARY_PREFIX)
            if IS_POSIX:
                handle = os.open(name, os.O_RDONLY)
        else:
            handle, name = tempfile.mkstemp(
                dir=path.parent, prefix=_TEMPORARY_PREFIX, suffix=path.suffix
            )
            if not IS_POSIX:
                os.close(handle)
                handle = None
        if handle is None or _is_locked(handle, name):
            return Path(name), handle
        os.close(handle)


def _is_locked(handle: int, name: str) -> bool:
    """Lock an unfinished file; False if another process is removing it as abandoned."""
    try:
        lock(handle)
    except BlockingIOError:
        return False
    except OSError:
        pass  # without locks, no other process can remove it as abandoned either
    return os.path.lexists(name)


def _remove_if_abandoned(path: Path) -> None:
    if not IS_POSIX:
        if time.time() - path.stat().st_mtime > _ABANDONED_AFTER:
            _remove(path)
        return
    # The path may be a pipe or a link: opening it must neither wait nor lead elsewhere.
    handle = os.open(path, os.O_RDONLY | NO_FOLLOW | NO_WAIT)
    try:
        lock(handle)
        _remove(path)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()


def _replace_folder(old: Path, new: Path) -> None:
    """Let `new` take the name of `old`, which is removed; if it cannot, `old` stays."""
    aside = _aside(old)
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise
    _fsync(old.parent)  # or a power cut could leave neither
    _remove(aside)


def restore_folder(path: Path) -> None:
    """Put back the folder that was put aside when a replacement was killed between two renames."""
    if (aside := _aside(path)).is_dir():
        if path.exists():
            _remove(aside)
        else:
            aside.rename(path)


def _aside(path: Path) -> Path:
    return path.with_name(f".cvtrain-before-{path.name}")


def _fsync(path: Path) -> None:
    if not IS_POSIX and path.is_dir():
        return
    # Windows flushes a file only through a handle that may write.
    handle = os.open(path, os.O_RDONLY if IS_POSIX else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


_UMASK = _umask()

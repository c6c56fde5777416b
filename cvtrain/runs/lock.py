"""A lock for the only writer of a folder; the kernel releases it when the process ends.

`system.locks` explains why filelock is not used.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from cvtrain.errors import ResourceError, RunError
from cvtrain.system.files import NO_FOLLOW, disk_errors, remove_abandoned
from cvtrain.system.locks import IS_POSIX, lock
from cvtrain.system.text import escape

LOCK = ".lock"
"""The file in a folder that is locked. It stays."""

_PID_BYTES = 20


@contextlib.contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Lock a folder while the block runs, and remove abandoned temporary files first.

    Raises:
        RunError: another process has the lock; it is named.
        ResourceError: the folder cannot be written.
    """
    with _locked(path) as handle:
        with disk_errors(path):
            os.write(handle, f"{os.getpid():<{_PID_BYTES}}".encode())
        remove_abandoned(path)
        yield


def raise_if_locked(path: Path) -> None:
    """Raise RunError if a process has the lock of a folder; it is named."""
    if (path / LOCK).is_file():
        with contextlib.suppress(ResourceError), _locked(path, shared=True):
            pass


@contextlib.contextmanager
def _locked(path: Path, *, shared: bool = False) -> Iterator[int]:
    """Lock a folder, exclusively or shared, without waiting; RunError when another process has it.

    Yields:
        The open lock file, in which a writer leaves the number of its process.
    """
    with disk_errors(path):
        # A stranger's folder may have a link there, to a file that is not ours to write.
        handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | NO_FOLLOW, 0o644)
    try:
        with disk_errors(path):
            try:
                lock(handle, shared=shared)
            except BlockingIOError as error:
                raise RunError(
                    f"{escape(path)} is being written by process {_holder(handle)}",
                    "Wait for it to end, or choose another --run-dir.",
                ) from error
        yield handle
    finally:
        with contextlib.suppress(OSError):
            os.close(handle)


def _holder(handle: int) -> str:
    """The process that holds a lock. It says so an instant after it has it; before that, the file
    names one that held it in the past.
    """
    for _ in range(20):
        os.lseek(handle, 0, os.SEEK_SET)
        pid = os.read(handle, _PID_BYTES).decode(errors="replace").strip()
        if not IS_POSIX and pid:
            return pid  # where os.kill sends no signal that only asks
        try:
            os.kill(int(pid), 0)
        except PermissionError:
            return pid  # of somebody else, and alive
        except (ValueError, OverflowError, ProcessLookupError):
            time.sleep(0.05)
        else:
            return pid
    return "unknown"

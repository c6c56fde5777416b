"""One writer of a folder: a lock of the kernel's, which goes with the process, also by a kill."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from cvtrain.errors import ResourceError, RunError
from cvtrain.system.files import disk_errors, printable, remove_abandoned

LOCK = ".lock"
"""The file in a folder that is locked. It stays."""

_PID_BYTES = 20


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Be the only writer of a folder while the block runs, and begin by tidying up.

    Raises:
        RunError: another process is; it is named.
        ResourceError: the folder cannot be written.
    """
    with _lock(path, fcntl.LOCK_EX) as handle:
        with disk_errors(path):
            os.pwrite(handle, f"{os.getpid():<{_PID_BYTES}}".encode(), 0)
        remove_abandoned(path)
        yield


def refuse_held(path: Path) -> None:
    """Raise RunError when a process is the writer of a folder; it is named."""
    if (path / LOCK).is_file():
        with contextlib.suppress(ResourceError), _lock(path, fcntl.LOCK_SH):
            pass


@contextlib.contextmanager
def _lock(path: Path, kind: int) -> Iterator[int]:
    """Lock a folder, exclusively or shared, without waiting; RunError when another process has it.

    Yields:
        The open lock file, in which a writer leaves the number of its process.
    """
    with disk_errors(path):
        # A stranger's folder may have a link there, to a file that is not ours to write.
        handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        with disk_errors(path):
            try:
                fcntl.flock(handle, kind | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(
                    f"{printable(path)} is being written by process {_holder(handle)}",
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
        pid = os.pread(handle, _PID_BYTES, 0).decode(errors="replace").strip()
        try:
            os.kill(int(pid), 0)
        except PermissionError:
            return pid  # of somebody else, and alive
        except (ValueError, OverflowError, ProcessLookupError):
            time.sleep(0.05)
        else:
            return pid
    return "unknown"

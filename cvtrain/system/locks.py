"""Locks of open files that the kernel frees with the process, also when it is killed.

filelock (4.3) is not used: its lock does not name the process that holds it, its lock that readers
share is an SQLite database, and on Windows it locks the first byte of a file, so that nobody can
read what is written there. `import filelock` takes as long as importing all of click (27 to 46 ms
after click), and `cvtrain --help` would pay for it.
"""

import os

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
try:
    import msvcrt
except ImportError:
    msvcrt = None  # type: ignore[assignment]

IS_POSIX = fcntl is not None
"""Whether folders can be opened and locked, and open files renamed and removed: not on Windows."""

# Windows lets nobody else read the byte that is locked: it lies beyond the end of any such file.
_FAR = 2**31 - 1


def lock(handle: int, *, shared: bool = False) -> None:
    """Lock an open file without waiting, until it is closed.

    Args:
        handle: file descriptor, open for reading at least.
        shared: take a lock that several readers can hold, if the system has such locks.

    Raises:
        BlockingIOError: another process has it.
        OSError: the file system has no locks.
    """
    if fcntl is not None:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    elif msvcrt is not None:
        before = os.lseek(handle, 0, os.SEEK_CUR)
        os.lseek(handle, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(error.errno, error.strerror) from error
        finally:
            os.lseek(handle, before, os.SEEK_SET)

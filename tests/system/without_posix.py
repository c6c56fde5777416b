"""Run code as on a system without POSIX: python without_posix.py CODE ARGUMENT...

cvtrain's own imports see modules from which what Windows lacks is missing; an open file can be
neither renamed nor removed, and a folder cannot be opened. Other packages see the real modules.
"""

import builtins
import fcntl
import os
import signal
import sys
import types
from pathlib import Path

MISSING_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"}
MISSING_NAMES = set(
    """
    O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_SYNC WNOHANG chown fchmod fchown fork forkpty
    fwalk getegid geteuid getgid getloadavg getpgid getpgrp getuid killpg lchown lockf mkfifo
    mknod nice openpty pipe2 posix_fadvise posix_fallocate pread preadv pwrite pwritev readv
    sched_getaffinity sched_setaffinity sched_yield sendfile setsid statvfs fstatvfs sync sysconf
    uname wait wait3 wait4 writev
    SIGALRM SIGHUP SIGKILL SIGPIPE SIGUSR1 SIGUSR2 alarm pause setitimer
    """.split()  # noqa: SIM905 - shorter
)


def hide_posix():
    """Let cvtrain see what there is on Windows."""
    seen = {"os": without_posix(os), "signal": without_posix(signal)}
    seen["os"].open, seen["os"].kill = open_file, kill
    seen["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=locking)
    real_import = builtins.__import__

    def import_(name, globals=None, *arguments, **keywords):
        if str((globals or {}).get("__name__")).partition(".")[0] == "cvtrain":
            if name in MISSING_MODULES:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            if name in seen:
                return seen[name]
        return real_import(name, globals, *arguments, **keywords)

    builtins.__import__ = import_
    for name in ("rename", "replace", "unlink"):
        setattr(Path, name, refusing_open_files(getattr(Path, name)))


def without_posix(module):
    """A copy of a module that lacks `MISSING_NAMES`."""
    copy = types.ModuleType(module.__name__)
    vars(copy).update({k: value for k, value in vars(module).items() if k not in MISSING_NAMES})
    return copy


def open_file(path, *arguments, **keywords):
    """`os.open`, but for folders."""
    if Path(path).is_dir():
        raise PermissionError(13, "Permission denied", path)
    return os.open(path, *arguments, **keywords)


def kill(pid, number):
    """Not `os.kill`, which on Windows ends a process or sends it a Ctrl-C, whatever the number."""
    raise AssertionError(f"os.kill({pid}, {number})")


def locking(handle, mode, length):
    """`msvcrt.locking` without waiting, which locks from the current position on."""
    assert mode == 2
    fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, length, 0, os.SEEK_CUR)


def refusing_open_files(method):
    """A method of a path that fails for a file that this process has open."""

    def checked(self, *arguments, **keywords):
        opened = map(os.path.realpath, Path("/proc/self/fd").iterdir())
        if not self.is_symlink() and os.path.realpath(self) in opened:
            raise PermissionError(13, "used by another process", str(self))
        return method(self, *arguments, **keywords)

    return checked


if __name__ == "__main__":
    hide_posix()
    code = sys.argv.pop(1)
    exec(code)

"""Fail the Nth operation on the disk, N = 1, 2, ... until a task completes: SQLite's standard.

A library between this process and the C library (interposer.c, by LD_PRELOAD) sees every operation
that changes the disk, whoever asks for it: Python, HDF5, Arrow, Pillow. `attempt` runs a task in a
fork, where one of these operations is refused, or the process killed before, after or amid it.
A program that uses this begins with `with_interposer()`.
"""

import ctypes
import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

COUNT, FAIL_ONCE, FAIL_FROM_THEN_ON, KILL_BEFORE, KILL_AFTER, KILL_AMID = range(6)  # interposer.c

REFUSALS = {
    name: getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES", "EFBIG")
}
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""With these, files can still be renamed and removed."""
Operation = tuple[str, Path, Path]
"""What was asked for: `write` and the like, where, and of a renaming the new name."""

_SOURCE = Path(__file__).with_name("interposer.c")


@dataclass(frozen=True)
class Fault:
    """What happens to one operation.

    Attributes:
        mode: one of the constants above.
        code: errno of a refusal.
    """

    mode: int = COUNT
    code: int = 0

    def __str__(self) -> str:
        words = ("none", "{} once", "{} from then on", "killed before", "killed after")
        words += ("killed amid",)
        return words[self.mode].format(errno.errorcode.get(self.code, ""))


KILLS = [Fault(mode) for mode in (KILL_BEFORE, KILL_AFTER, KILL_AMID)]
FAILURES = [Fault(FAIL_ONCE, code) for code in REFUSALS.values()]
FAILURES += [Fault(FAIL_FROM_THEN_ON, code) for code in REFUSALS.values()]


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        operations: in order; one that was killed before it began is not among them.
        ended: `done`, `killed`, or what the task says of its failure.
        said: on standard error.
    """

    operations: Sequence[Operation]
    ended: str
    said: str


def missing() -> str:
    """Why there can be no interposer here; empty where there can."""
    if sys.platform != "linux":
        return "interposing needs Linux"
    return "" if shutil.which("cc") else "interposing needs a C compiler, cc"


def with_interposer() -> None:
    """Start this program anew with the interposer, unless it has it."""
    if hasattr(ctypes.CDLL(None), "interpose"):
        return
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    library = Path(tempfile.gettempdir()) / f"cvtrain-interposer-{os.getuid()}-{digest}.so"
    if not library.exists():
        made = library.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", made, _SOURCE], check=True)
        made.rename(library)
    environment = os.environ | {"LD_PRELOAD": str(library)}
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)


def attempt(
    task: Callable[[], object],
    root: Path,
    *,
    at: int = 0,
    fault: Fault = Fault(),
    failure: Callable[[BaseException], str] = repr,
) -> Outcome:
    """Run `task` in a fork where `fault` befalls its operation number `at` below `root`.

    Args:
        task: in a process without other threads.
        root: folder whose operations count, from 1.
        failure: what to call an exception that ends the task.
    """
    with tempfile.TemporaryFile() as journal, tempfile.TemporaryFile() as said:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            _end_as(task, root, at, fault, failure, journal.fileno())
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (journal, said):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    fields = (line.split("\t") for line in texts[0].splitlines())
    operations = [(name, Path(path), Path(other)) for name, path, other in fields]
    words, _, ended = texts[1].rpartition("\0")
    if os.WIFSIGNALED(status):
        words, ended = texts[1], "killed"
    return Outcome(operations, ended, words)


def _end_as(task, root, at, fault, failure, journal) -> None:
    ended = "done"
    arm = ctypes.CDLL(None).interpose
    try:
        arm(os.fsencode(root.resolve()), fault.mode, ctypes.c_long(at), fault.code, journal)
        task()
    except BaseException as error:  # the fork must not go on as its parent
        ended = failure(error)
    finally:
        arm(b"", COUNT, ctypes.c_long(0), 0, -1)
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(2, b"\0" + ended.encode(errors="replace"))
        os._exit(0)


def lose_power(operations: Sequence[Operation]) -> None:
    """Take away what a power cut may: bytes that were not fsynced, and names in folders that were
    not, the latest first, as journals lose them.

    Args:
        operations: of an attempt that has just ended.
    """
    unwritten: set[Path] = set()
    unnamed: list[Operation] = []
    for operation in operations:
        name, path, other = operation
        if name in ("create", "mkdir", "rename"):
            unnamed.append(operation)
        if name in ("create", "empty", "write"):
            unwritten.add(path)
        elif name == "fsync":
            unwritten.discard(path)
            unnamed = [each for each in unnamed if each[1].parent != path]
        elif name in ("rename", "replace"):
            unwritten = {_moved(each, path, other) for each in unwritten}
    for path in unwritten:
        if path.is_file():
            os.truncate(path, 0)
    for name, path, other in reversed(unnamed):
        if name == "rename":
            if other.exists() and not path.exists():
                other.rename(path)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _moved(path: Path, source: Path, target: Path) -> Path:
    return target / path.relative_to(source) if path.is_relative_to(source) else path

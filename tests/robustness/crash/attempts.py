"""One attempt of a program: a process that is killed at some moment, and what it did just then.

Importing TensorFlow takes seconds, so most attempts are forks of this process, which imports all
that they need beforehand (`preload`) and computes nothing itself. Others are new interpreters.
"""

import contextlib
import faulthandler
import importlib
import os
import pkgutil
import re
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[2]
_MOST_SECONDS = 600.0  # then it hangs
_DUMP_SECONDS = 1.0  # that the stack may take to be written, at most
_FRAME = re.compile(r'  File "(.*)", line \d+ in (.+)')

# What is done in a function of a file; of several that are at work the first counts.
_PHASES = (
    ("import", "<frozen importlib._bootstrap>", "_find_and_load"),
    ("checkpoint", "training/checkpoint.py", "save"),
    ("model file", "models/saved_model.py", "save_model"),
    ("restoring", "training/checkpoint.py", "load"),
    ("restoring", "training/loop.py", "_restore"),
    ("validation", "training/loop.py", "_validate"),
    ("training", "training/loop.py", "train"),
    ("precision", "training/precision.py", "choose_precision"),
    ("extraction", "features/extract.py", "extract"),
    ("extraction", "features/store.py", ""),
    ("explaining", "steps/worst_mistakes.py", "explain_mistakes"),
    ("judging", "steps/find_mislabels.py", ""),
    ("evaluation", "steps/cached_features.py", "predict_part"),
    ("evaluation", "steps/inference.py", ""),
    ("drawing", "explain/", ""),
    ("data check", "steps/dataset.py", "open_dataset"),
    ("finishing", "steps/finish.py", "finish"),
    ("building", "commands/", ""),
    ("checkpoint", "callbacks/backup_and_restore.py", "_save_model"),
    ("restoring", "callbacks/backup_and_restore.py", "_load_model"),
    ("model file", "callbacks/model_checkpoint.py", "_save_model"),
    ("validation", "tensorflow/trainer.py", "evaluate"),
    ("training", "tensorflow/trainer.py", "fit"),
    ("evaluation", "tensorflow/trainer.py", "predict"),
    ("building", "crash/stock_keras.py", "main"),
)
START = "start"
"""The phase before any of the others, and between them."""


@dataclass(frozen=True)
class Attempt:
    """How an attempt ended.

    Attributes:
        code: exit code; None where it was killed, -1 where it hung.
        seconds: that it lived.
        phase: what it did when it was killed.
        fresh: it was a new interpreter and no fork.
    """

    code: int | None
    seconds: float
    phase: str
    fresh: bool


def preload(*modules: str) -> None:
    """Import modules, every module of `cvtrain`, and Keras, so that forks need not.

    TensorFlow starts its threads with its first operation, and a thread does not live on in a fork.
    """
    for name in modules:
        module = importlib.import_module(name)
        if name == "cvtrain":
            for each in pkgutil.walk_packages(module.__path__, f"{name}."):
                importlib.import_module(each.name)
            importlib.import_module("cvtrain.backend").load()


def attempt(
    program: str,
    arguments: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    kill_after: float | None = None,
    fresh: bool = False,
) -> Attempt:
    """Run `main()` of the module `program` in a process of its own until it ends or is killed.

    Args:
        arguments: of its command line.
        folder: where it runs; what it writes is added to `output.txt` there.
        environment: more variables.
        kill_after: seconds after which it gets SIGKILL; None for never.
        fresh: in a new interpreter, else in a fork of this one.
    """
    stack = folder / "stack.txt"
    stack.unlink(missing_ok=True)
    with (folder / "output.txt").open("a") as output:
        output.write(f"--- {program} {' '.join(arguments)}\n")
        output.flush()
        begin = _interpreter if fresh else _fork
        started = time.monotonic()
        pid = begin(program, arguments, folder, environment, output.fileno())
        code = _wait(pid, kill_after, stack)
        seconds = time.monotonic() - started
        output.write(f"--- {'killed' if code is None else f'exit code {code}'}\n")
    return Attempt(code, seconds, "" if code is not None else phase_of(stack), fresh)


def phase_of(stack: Path) -> str:
    """What a process did, by the stack of its main thread as `faulthandler` has dumped it."""
    frames = _FRAME.findall(stack.read_text()) if stack.exists() else []
    for phase, where, what in _PHASES:
        if any(where in file and what in ("", function) for file, function in frames):
            return phase
    return START


def _fork(
    program: str,
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    output: int,
) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.chdir(folder)
        os.environ.update(environment)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        _live(program, arguments)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _interpreter(
    program: str,
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    output: int,
) -> int:
    # As if it had been called by name: what it imports counts as its life.
    command = [sys.executable, "-c", "from robustness.crash import attempts; attempts.begin()"]
    path = {"PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"}
    process = subprocess.Popen(
        [*command, program, *arguments],
        cwd=folder,
        env={**os.environ, **path, **environment},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
    )
    process.returncode = 0  # `_wait` reaps it
    return process.pid


def begin() -> None:
    """Be the program that the command line names, in a new interpreter."""
    _live(sys.argv[1], sys.argv[2:])


def _live(program: str, arguments: Sequence[str]) -> None:
    # Open as long as the process lives, and a number, which nothing closes.
    stack = os.open("stack.txt", os.O_WRONLY | os.O_CREAT)
    faulthandler.register(signal.SIGUSR1, file=stack, all_threads=False)
    sys.argv = [program, *arguments]
    importlib.import_module(program).main()


def _wait(pid: int, kill_after: float | None, stack: Path) -> int | None:
    """Wait for a process, and kill it when its time has come: its exit code, or None."""
    process = os.pidfd_open(pid)
    try:
        is_killed = not _has_ended(process, _MOST_SECONDS if kill_after is None else kill_after)
        if is_killed:
            # One that has not come so far that it would dump its stack is killed by this already,
            # and so may be one whose stack is just being changed.
            signal.pidfd_send_signal(process, signal.SIGUSR1)
            _await_dump(process, stack)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(process)
    code = os.waitstatus_to_exitcode(status)
    if is_killed and code < 0:
        return -1 if kill_after is None else None
    return code


def _await_dump(process: int, stack: Path) -> None:
    """Wait until the stack is written, which stops the main thread."""
    ends, size, before = time.monotonic() + _DUMP_SECONDS, 0, -1
    while time.monotonic() < ends and not 0 < size == before:
        if _has_ended(process, 0.002):
            return
        size, before = stack.stat().st_size if stack.exists() else 0, size


def _has_ended(process: int, seconds: float) -> bool:
    return bool(select.select([process], [], [], seconds)[0])

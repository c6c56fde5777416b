"""Targets in a process of their own: native code that crashes there is a finding, not the end."""

import contextlib
import multiprocessing
import resource
import tempfile
import traceback
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

MOST_SECONDS = 60.0
"""For one input; nearly all take milliseconds, and machines are busy."""
MOST_BYTES = 2 * 2**30
"""Of memory beyond what the process begins with: 50 million pixels take most of it for a moment."""


class Child:
    """Runs targets in another process of bounded memory, and starts a new one when it dies.

    Args:
        folder: for the files of the targets.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        # A spawned process is the same whatever was loaded here, and threads cannot spoil it.
        self._context = multiprocessing.get_context("spawn")
        self._process: BaseProcess | None = None

    def check(self, target: str, content: bytes) -> None:
        """Run one target on one input; AssertionError says how it failed."""
        process = self._process or self._start()
        self._connection.send((target, content))
        if not self._connection.poll(MOST_SECONDS):
            process.kill()
            self.close()
            raise AssertionError(f"{target}: no answer after {MOST_SECONDS:.0f} s")
        try:
            failure = self._connection.recv()
        except (EOFError, ConnectionError):
            self.close()
            raise AssertionError(f"{target}: the process died with {process.exitcode}") from None
        assert not failure, failure

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._connection.close()
            self._process.join()
            self._process = None

    def _start(self) -> BaseProcess:
        self._connection, theirs = self._context.Pipe()
        arguments = (theirs, self._folder)
        self._process = self._context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        return self._process


def _serve(connection: Connection, folder: Path) -> None:
    tempfile.tempdir = str(folder)
    from fuzz_targets import TARGETS

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(EOFError):
        while True:
            target, content = connection.recv()
            try:
                TARGETS[target](content)
                failure = ""
            except Exception:  # whatever it is, it is the finding that goes back
                failure = traceback.format_exc()
            connection.send(failure)

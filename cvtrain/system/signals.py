"""Ctrl-C, SIGTERM and SIGHUP request a stop; long phases poll `stop.requested` and end cleanly.

The first signal sets a flag. A second Ctrl-C ends the process at once, but not a second signal of
another kind: supervisors and closing terminals send their signals twice, and mean them once.
"""

import contextlib
import os
import signal
import stat
import threading
from collections.abc import Iterator

from cvtrain.errors import Stopped

_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
_ASKING = tuple(filter(None, (signal.SIGINT, signal.SIGTERM, _HANGUP)))


class Stop:
    """A request to stop: `requested` becomes True once and stays so.

    It is also the handler of the signals that ask for it.

    Attributes:
        requested: whether a stop was requested.
        advice: how to continue later.
    """

    def __init__(self) -> None:
        self.requested = False
        self.advice = "Start the same command again."

    def __call__(self, number: int, _frame: object = None) -> None:
        """Take a signal. Raises KeyboardInterrupt on a Ctrl-C when a stop was requested before."""
        if number == _HANGUP:
            _leave_terminal()
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True

    def raise_if_stopped(self, doing: str) -> None:
        """Raise Stopped if a stop was requested; for phases that leave nothing to commit.

        Args:
            doing: what they do, as in "stopped while ...".
        """
        if self.requested:
            raise Stopped(f"stopped while {doing}", self.advice)

    @contextlib.contextmanager
    def advising(self, advice: str) -> Iterator[None]:
        """Let `advice` be that of what is stopped while the block runs."""
        before, self.advice = self.advice, advice
        try:
            yield
        finally:
            self.advice = before


NEVER = Stop()
"""A `Stop` that is never requested."""


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Yield a `Stop` that SIGINT, SIGTERM and SIGHUP set while the block runs.

    Signals that this process was started to ignore, as `nohup` does it, stay ignored. A block
    within another one has the same `Stop`. Outside the main thread, where Python allows no signal
    handlers, the flag is never set.
    """
    handlers = {number: signal.getsignal(number) for number in _ASKING}
    for handler in handlers.values():
        if isinstance(handler, Stop):
            yield handler
            return
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {n: handler for n, handler in handlers.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_terminal() -> None:
    """Let what is printed go nowhere: the terminal is gone, and writing to it would fail."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode):
                os.dup2(nowhere, stream)
    os.close(nowhere)

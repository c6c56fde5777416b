"""Ctrl-C and SIGTERM ask to stop; long phases poll `stop.requested` and end cleanly.

The first signal sets a flag. A second one gives up at once, for whoever cannot wait.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Stop:
    """A request to stop: `requested` becomes True once and stays so."""

    def __init__(self) -> None:
        self.requested = False


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Yield a `Stop` that SIGINT and SIGTERM set while the block runs.

    Outside the main thread, where Python allows no signal handlers, the flag is never set.
    """
    stop = Stop()

    def handle(*_: object) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

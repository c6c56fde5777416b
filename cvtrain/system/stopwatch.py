"""Where the time of a command goes."""

import contextlib
import time
from collections.abc import Iterator, Mapping


class Stopwatch:
    """Adds up seconds by phase, from the moment it is made.

    Args:
        before: seconds by phase of an earlier part of the same work, `total` among them.
    """

    def __init__(self, before: Mapping[str, float] | None = None):
        self._phases = dict(before or {})
        self._total_before = self._phases.pop("total", 0.0)
        self._started = time.perf_counter()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of the block as `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._phases[name] = self._phases.get(name, 0.0) + time.perf_counter() - started

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by phase so far, and `total`, which also holds what no phase claims."""
        total = self._total_before + time.perf_counter() - self._started
        return {name: round(s, 3) for name, s in {"total": total, **self._phases}.items()}

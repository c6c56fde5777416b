"""The trackers that a config names, as one: a tracker that fails is told of once, and left out."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cvtrain.errors import ConfigError
from cvtrain.runs.run import Run
from cvtrain.system.text import reason_of
from cvtrain.tracking.mlflow import MLflow
from cvtrain.tracking.tensorboard import TensorBoard
from cvtrain.tracking.tracker import Tracker


class Tracking:
    """Several trackers as one, none of which can stop what is tracked.

    Args:
        trackers: by the names that a person knows them by.
        warn: called with one line when a tracker fails; it is asked nothing more then.
    """

    def __init__(
        self,
        trackers: Mapping[str, Callable[[], Tracker]] | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ):
        self._warn = warn
        self._trackers: dict[str, Tracker] = {}
        for name, start in (trackers or {}).items():
            with self._leaving_out(name):
                self._trackers[name] = start()

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Keep a finished epoch: a line of `history.csv`, epochs from 1."""
        for name, tracker in list(self._trackers.items()):
            with self._leaving_out(name):
                tracker.log_epoch(row)

    def end(self) -> None:
        """Keep how it ended."""
        for name, tracker in list(self._trackers.items()):
            with self._leaving_out(name):
                tracker.end()

    @contextlib.contextmanager
    def _leaving_out(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # A server may be away, a disk full: training goes on.
            reason = reason_of(error)
            self._warn(f"{name} failed, and is left out from here on: {reason}")
            self._trackers.pop(name, None)


@contextlib.contextmanager
def tracked(
    names: Sequence[str],
    run: Run,
    settings: Mapping[str, Any],
    warn: Callable[[str], None],
) -> Iterator[Tracking]:
    """Track what the block does, and at its end how it ended.

    Args:
        names: `tensorboard`, `mlflow`.
        run: what is tracked.
        settings: the config as plain values, sections in sections.
        warn: called with one line when a tracker fails.
    """
    starts: dict[str, Callable[[], Tracker]] = {
        "tensorboard": lambda: TensorBoard(run),
        "mlflow": lambda: MLflow(run, settings),
    }
    tracking = Tracking({name: starts[name] for name in names}, warn)
    try:
        yield tracking
    finally:
        tracking.end()


def require_trackers(names: Sequence[str]) -> None:
    """Raise ConfigError when a tracker needs what is not installed."""
    if "mlflow" in names and importlib.util.find_spec("mlflow") is None:
        raise ConfigError(
            "log: mlflow is not installed",
            "Install it, pip install 'cvtrain[mlflow]', or leave it out: --set log=[]",
        )

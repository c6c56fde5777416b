"""Trackers that show a training as it goes, in TensorBoard and MLflow; none of them can stop it."""

import contextlib
import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from cvtrain.backend.event_files import EventFile
from cvtrain.errors import ConfigError
from cvtrain.evaluation.metrics import measured
from cvtrain.runs.run import Run
from cvtrain.runs.settings import flat_settings
from cvtrain.system.files import disk_errors
from cvtrain.system.text import reason_of

_MLFLOW_STATUS = {"finished": "FINISHED", "stopped": "KILLED"}


class Tracker(Protocol):
    """Logs a training outside of the run folder. Both functions may raise any exception."""

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Log a finished epoch: a line of `history.csv`, epochs from 1."""

    def end(self) -> None:
        """Log the final state of the run, whatever its status."""


class TensorBoard:
    """Writes RUN/tensorboard/: `tensorboard --logdir runs` shows all runs as they go.

    Unlike other files of a run this one is appended to, a record at a time, because TensorBoard
    keeps it open. A run that is resumed begins a second file, as TensorBoard expects.
    """

    def __init__(self, run: Run):
        self._run = run
        self._epoch = 0
        self._file: EventFile | None = None

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Append the scalars of an epoch."""
        self._epoch = int(row["epoch"])
        tags = {name: name for name in ("learning_rate", "images_per_second")}
        for name in measured(row):
            tags |= {name: f"{name}/train", f"val_{name}": f"{name}/validation"}
        self._append({tag: row[key] for key, tag in tags.items() if key in row})

    def end(self) -> None:
        """Append the final metrics of a run that is finished, and close the file."""
        scalars = {f"final/{name}": value for name, value in _final_metrics(self._run).items()}
        # A run that was stopped after its last epoch has none in this process.
        self._epoch = max(self._epoch, self._run.record.epochs or 0)
        if scalars:
            self._append(scalars)
        if self._file:
            self._file.close()

    def _append(self, scalars: Mapping[str, float]) -> None:
        if self._file is None:
            # TensorBoard reads the files of a folder in the order of their names.
            name = f"events.out.tfevents.{time.time_ns() // 1000:016d}.cvtrain"
            path = self._run.path / "tensorboard" / name
            with disk_errors(path):
                path.parent.mkdir(exist_ok=True)
            self._file = EventFile(path)
        self._file.write(self._epoch, scalars)


class MLflow:
    """Logs a run as a run of MLflow: parameters, metrics by epoch, final metrics, figures.

    The environment of MLflow configures it: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and others.
    A resumed run continues the run of MLflow that it began.

    Args:
        run: the logged run; its record gets the id of the run of MLflow.
        settings: the config as plain, nested values.
    """

    def __init__(self, run: Run, settings: Mapping[str, Any]):
        import mlflow  # an extra

        self._mlflow, self._run = mlflow, run
        known = run.record.mlflow.get("run_id")
        # Nested, because a ladder is a run around the runs of its rungs.
        active = mlflow.start_run(run_id=known, run_name=run.path.name, nested=True)
        run.update(mlflow={"run_id": active.info.run_id})
        if known is None:  # MLflow refuses to change them, and a resumed run may differ in some.
            mlflow.log_params(flat_settings(settings))
        path = str(run.path.absolute())
        mlflow.set_tags({"cvtrain.command": run.record.command, "cvtrain.run": path})

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Log the metrics of a line of `history.csv`; the step is the epoch."""
        metrics = {key: float(row[key]) for key in row if key not in ("epoch", "step")}
        self._mlflow.log_metrics(metrics, step=int(row["epoch"]))

    def end(self) -> None:
        """Log final metrics, figures and the path of the model; end the run of MLflow."""
        if metrics := _final_metrics(self._run):
            self._mlflow.log_metrics(metrics)
        if self._run.figures.is_dir():
            self._mlflow.log_artifacts(str(self._run.figures), "figures")
        if self._run.model_path.exists():
            self._mlflow.set_tag("cvtrain.model", str(self._run.model_path.absolute()))
        self._mlflow.end_run(_MLFLOW_STATUS.get(self._run.record.status, "FAILED"))


class Tracking:
    """Several trackers as one, none of which can stop the training.

    Args:
        trackers: functions that start a tracker, by its name.
        warn: called with one line when a tracker fails; it is not called again after that.
    """

    def __init__(
        self,
        trackers: Mapping[str, Callable[[], Tracker]] | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ):
        self._warn = warn
        self._trackers: dict[str, Tracker] = {}
        for name, start in (trackers or {}).items():
            with self._dropping(name):
                self._trackers[name] = start()

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Log a finished epoch: a line of `history.csv`, epochs from 1."""
        for name, tracker in list(self._trackers.items()):
            with self._dropping(name):
                tracker.log_epoch(row)

    def end(self) -> None:
        """Log the final state of the run."""
        for name, tracker in list(self._trackers.items()):
            with self._dropping(name):
                tracker.end()

    @contextlib.contextmanager
    def _dropping(self, name: str) -> Iterator[None]:
        """Warn of a tracker that fails, and use it no longer."""
        try:
            yield
        except Exception as error:  # A server may be away, a disk full: training goes on.
            self._warn(f"{name} failed, and is left out from here on: {reason_of(error)}")
            self._trackers.pop(name, None)


@contextlib.contextmanager
def tracked(
    names: Sequence[str],
    run: Run,
    settings: Mapping[str, Any],
    warn: Callable[[str], None],
) -> Iterator[Tracking]:
    """Track the training in the block, and its end.

    Args:
        names: `tensorboard`, `mlflow`.
        run: the tracked run.
        settings: the config as plain, nested values.
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
    """Raise ConfigError if the library of a tracker is not installed."""
    if "mlflow" in names and importlib.util.find_spec("mlflow") is None:
        raise ConfigError(
            "log: mlflow is not installed",
            "Install it, pip install 'cvtrain[mlflow]', or leave it out: --set log=[]",
        )


def _final_metrics(run: Run) -> dict[str, float]:
    """`test_accuracy`, `validation_loss` and others of a finished run; else empty."""
    return {
        f"{split}_{name}": value
        for split, scores in run.record.metrics or ()
        if scores
        for name, value in {
            "accuracy": scores.accuracy,
            "loss": scores.loss,
            **scores.chosen,
        }.items()
    }

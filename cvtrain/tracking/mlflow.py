"""A run as a run of MLflow: parameters, metrics by epoch, final metrics, figures.

Where it goes, MLflow's own environment says: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and such.
MLflow is imported when it is asked for; cvtrain works without it.
"""

import json
from collections.abc import Mapping
from typing import Any

from cvtrain.runs.run import Run
from cvtrain.tracking.tracker import final_metrics

_STATUS = {"finished": "FINISHED", "stopped": "KILLED"}
_NOT_METRICS = ("epoch", "step")


class MLflow:
    """Keeps a run in MLflow; one that is resumed goes on in the run that it began.

    Args:
        run: what is kept; its record learns the id of the run of MLflow.
        settings: the config as plain values, sections in sections.
    """

    def __init__(self, run: Run, settings: Mapping[str, Any]):
        import mlflow

        self._mlflow, self._run = mlflow, run
        known = run.record.mlflow.get("run_id")
        # Nested, because a ladder is a run around the runs of its rungs.
        active = mlflow.start_run(run_id=known, run_name=run.path.name, nested=True)
        run.update(mlflow={"run_id": active.info.run_id})
        if known is None:  # MLflow refuses others later, and a resumed run may have some
            mlflow.log_params(flattened(settings))
        mlflow.set_tags({"cvtrain.command": run.record.command, "cvtrain.run": _absolute(run)})

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Log what a line of `history.csv` measures; the step is the epoch."""
        metrics = {key: float(row[key]) for key in row if key not in _NOT_METRICS}
        self._mlflow.log_metrics(metrics, step=int(row["epoch"]))

    def end(self) -> None:
        """Log final metrics, figures and where the model is; end the run of MLflow."""
        if metrics := final_metrics(self._run):
            self._mlflow.log_metrics(metrics)
        if self._run.figures.is_dir():
            self._mlflow.log_artifacts(str(self._run.figures), "figures")
        if self._run.model_path.exists():
            self._mlflow.set_tag("cvtrain.model", f"{_absolute(self._run)}/model.keras")
        self._mlflow.end_run(_STATUS.get(self._run.record.status, "FAILED"))


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Sections in sections as `fit.optimizer.name`; lists as JSON; what is None is left out."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, list) else str(value)
    return flat


def _absolute(run: Run) -> str:
    return str(run.path.absolute())

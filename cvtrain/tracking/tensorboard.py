"""Epochs as event files, which TensorBoard reads."""

import time
from collections.abc import Mapping

from cvtrain.backend.event_files import EventFile
from cvtrain.evaluation.metrics import measured
from cvtrain.runs.run import Run
from cvtrain.system.files import disk_errors
from cvtrain.tracking.tracker import final_metrics


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
        scalars = {f"final/{name}": value for name, value in final_metrics(self._run).items()}
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

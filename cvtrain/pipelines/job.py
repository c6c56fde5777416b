"""A command at work: its config, its images, its run folder, and how it is watched and stopped."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cvtrain.config import Config, config_values, dump_config
from cvtrain.console import Console
from cvtrain.errors import RunError
from cvtrain.files import commit_json, commit_text, sha256_bytes
from cvtrain.pipelines.dataset import Dataset, open_dataset
from cvtrain.run import Run
from cvtrain.signals import Stop, stop_on_signals
from cvtrain.stopwatch import Stopwatch
from cvtrain.tracking.tracked import Tracking, refuse_missing, tracked


@dataclass(frozen=True)
class Job:
    """What every step of a command that writes a run needs.

    Attributes:
        config: checked.
        dataset: the images, which have passed the check.
        run: the folder, locked by this process.
        watch: adds up where the time goes.
        stop: polled by long phases.
        console: what the person sees.
        tracking: what keeps each epoch elsewhere, too.
    """

    config: Config
    dataset: Dataset
    run: Run
    watch: Stopwatch
    stop: Stop
    console: Console
    tracking: Tracking = field(default_factory=Tracking)

    @property
    def identity(self) -> dict[str, str]:
        """Digests of what a continued run must find unchanged."""
        text = dump_config(self.config, self.run.record["command"])
        return {"config": sha256_bytes(text.encode()), "data": self.dataset.digest}


def refuse_changes(job: Job) -> None:
    """Raise RunError when a run is continued with another config or other images; else record them.

    For commands whose results so far are in `run.json`; where there are checkpoints, they know.
    """
    for what, digest in job.run.record.get("identity", {}).items():
        if digest != job.identity[what]:
            raise RunError(
                f"{job.run.path}: the {what} changed since the run was started",
                f"Resume with the same {what}, or start a new run.",
            )
    job.run.update(identity=job.identity)


def finished_run(path: Path, *, resume: bool, console: Console) -> Run | None:
    """The run at `path` where `resume` finds it finished: there is nothing to do then."""
    if not resume:
        return None
    run = Run.open(path)
    if run.record["status"] != "finished":
        return None
    console.result(f"{path} is finished; there is nothing to resume")
    return run


@contextlib.contextmanager
def start_job(
    command: str, config: Config, path: Path, *, name: str, resume: bool, console: Console
) -> Iterator[Job]:
    """Check the images, make or reopen the run, record what is known, and load the engine.

    An error inside the block is recorded in the run before it goes on.

    Args:
        command: of the command line.
        config: the checked config.
        path: the run folder to write, or to continue.
        name: of the config, for the record.
        resume: continue the run at `path`.

    Raises:
        ConfigError: a tracker is not installed; no run was made.
        DataError: the images are unusable; no run was made.
        RunError: the folder is another run's, or another process writes it.
        Stopped: on request.
    """
    refuse_missing(config.log)
    run = Run.open(path) if resume else None
    watch = Stopwatch(run.record.get("seconds") if run else None)
    with stop_on_signals() as stop:
        with watch.phase("data"):
            dataset = open_dataset(config, stop, console)
        run = run or Run.create(path, command)
        settings = config_values(config, command)
        with (
            run.locked(),
            tracked(config.log, run, settings, console.warn) as tracking,
            run.recording_failure(watch),
        ):
            console.log_to(run.path / "log.txt")
            console.remark(f"run: {run.path}")
            run.record.pop("error", None)
            commit_text(run.path / "config.yaml", dump_config(config, command))
            commit_json(run.path / "split.json", dataset.index.by_class())
            run.update(
                name=name,
                status="running",
                seed=config.seed,
                class_names=list(dataset.index.class_names),
                image_size=list(config.data.image_size),
                decoder={
                    "resize": config.data.resize,
                    "background": list(config.data.background),
                },
                data=dataset.describe(),
            )
            with watch.phase("import"):
                from cvtrain import backend
            device = backend.set_up(seed=config.seed, device=config.device)
            run.update(device=device, versions=backend.versions())
            yield Job(config, dataset, run, watch, stop, console, tracking)

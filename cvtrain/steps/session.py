"""The session of a command that writes a run: config, images, run folder, time and signals."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cvtrain import backend
from cvtrain.config import Config, config_values, dump_config
from cvtrain.errors import RunError
from cvtrain.runs.moved_images import require_images
from cvtrain.runs.run import Run, RunRequest
from cvtrain.steps.dataset import Dataset, decoder_of, open_dataset
from cvtrain.steps.environment import environment, library_versions
from cvtrain.steps.provenance import (
    accept,
    changes_since_start,
    engine_changes,
    identity_of,
    weights_digests,
)
from cvtrain.system.console import Console
from cvtrain.system.files import commit_text, json_text
from cvtrain.system.signals import Stop, stop_on_signals
from cvtrain.system.stopwatch import Stopwatch
from cvtrain.system.text import escape, shell_quote
from cvtrain.tracking import Tracking, require_trackers, tracked


@dataclass(frozen=True)
class RunSession:
    """The objects that every step of a command that writes a run needs.

    Attributes:
        config: the checked config.
        dataset: the checked images.
        run: the run folder, locked by this process.
        watch: the stopwatch that sums the time of each phase.
        stop: the request to stop, polled by long phases.
        console: the output for the user.
        tracking: the trackers, such as TensorBoard, that record each epoch.
    """

    config: Config
    dataset: Dataset
    run: Run
    watch: Stopwatch
    stop: Stop
    console: Console
    tracking: Tracking = field(default_factory=Tracking)


def finished_run(request: RunRequest, console: Console) -> Run | None:
    """The run to resume if it is already finished, else None."""
    if not request.resume:
        return None
    run = Run.open(request.path)
    if run.record.status != "finished":
        return None
    if run.checkpoints.exists():
        with run.locked():  # A kill as soon as it was finished may have left them.
            shutil.rmtree(run.checkpoints, ignore_errors=True)
    console.print(f"{run.path} is finished; there is nothing to resume")
    return run


def check_command_of_run(run: Run, command: str) -> None:
    """Raise RunError if `command` cannot resume the run."""
    started_by = escape(run.record.command)
    if started_by != command:
        raise RunError(
            f"{run.path} is a run of {started_by}, not of {command}",
            f"Go on: cvtrain {started_by} {shell_quote(run.path)} --resume",
        )
    if run.record.status == "finished":
        raise RunError(
            f"{run.path} was finished by another process just now", "There is nothing to resume."
        )


@contextlib.contextmanager
def open_session(
    command: str,
    config: Config,
    request: RunRequest,
    console: Console,
    *,
    source: Run | None = None,
) -> Iterator[RunSession]:
    """Check the images, make or reopen the run, record what is known, and load the engine.

    An error inside the block is recorded in the run and raised again. A run that cannot be resumed
    is not changed.

    Args:
        command: the name of the command.
        config: the checked config.
        request: the run folder to write, or to continue.
        source: the run whose model is the start.

    Raises:
        ConfigError: a tracker is not installed; no run was made.
        DataError: the images are unusable; no run was made.
        ResourceError: the device is not available; no run was made.
        RunError: the folder belongs to another run, another process writes it, or the inputs of
            the run have changed.
        Stopped: on request.
    """
    require_trackers(config.log)
    with stop_on_signals() as stop, contextlib.ExitStack() as held:
        run = held.enter_context(Run.open(request.path).locked()) if request.resume else None
        if run:
            check_command_of_run(run, command)
            moved = "If it has moved, add where it is now: --set data.source=FOLDER"
            require_images(config.data.source, moved)
        watch = Stopwatch(run.record.seconds if run else None)
        with watch.phase("data"):
            dataset = open_dataset(config, stop, console)
        text, places = dump_config(config, command), dataset.index.by_class()
        weights = weights_digests(config, command, source)
        known = changes_since_start(run, config, places, dataset.digest, weights) if run else []
        if run:
            if "exact" not in run.content:
                console.info(f"{run.path} was begun by an earlier version: not all is comparable")
            accept(run, known, accepted=request.accept_changes, warn=console.warning)
        with watch.phase("import"):
            backend.load()
        device = backend.set_up(seed=config.seed, device=config.device)
        engine = {"device": device, "versions": backend.versions() | library_versions()}
        if run:
            new = engine_changes(run, engine, known)
            accept(run, new, accepted=request.accept_changes, warn=console.warning)
        fields = engine | {
            "name": request.name,
            **description(config, dataset),
            "identity": identity_of(text, dataset.digest, weights),
            "environment": environment(),
        }
        if source is not None:
            fields["source"] = {
                "run": str(source.path.absolute()),
                "weights": source.require("weights_sha256").weights_sha256,
            }
        files = {"config.yaml": text, "split.json": json_text(places)}
        if run is None:
            begun = Run.begin(request.path, command, files=files, exact=True, **fields)
            run = held.enter_context(begun)
        held.enter_context(
            stop.advising(f"Go on: cvtrain {command} {shell_quote(run.path)} --resume")
        )
        with (
            tracked(config.log, run, config_values(config, command), console.warning) as tracking,
            run.recording_failure(watch),
        ):
            console.log_to(run.path / "log.txt")
            console.info(f"run: {run.path}")
            if request.resume:
                run.content.pop("error", None)
                for file, content in files.items():
                    commit_text(run.path / file, content)
                run.update(status="running", **fields)
            yield RunSession(config, dataset, run, watch, stop, console, tracking)


def description(config: Config, dataset: Dataset) -> dict[str, Any]:
    """The fields of `run.json` about the images and their decoder."""
    return {
        "seed": config.seed,
        "class_names": list(dataset.index.class_names),
        "image_size": list(config.data.image_size),
        "decoder": decoder_of(config).settings(),
        "data": dataset.describe(),
    }

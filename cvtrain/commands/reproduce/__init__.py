"""`cvtrain reproduce`: repeat a run from its recorded config, and compare the results."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cvtrain import backend
from cvtrain.commands.extract_features import extract_features
from cvtrain.commands.finetune import finetune
from cvtrain.commands.fit import fit
from cvtrain.commands.reproduce.run_diff import compare_runs, rows_of
from cvtrain.config import Config, dump_config, load_config
from cvtrain.data.sources import NAMED_SETS
from cvtrain.errors import DataError, NotReproduced, RunError, Stopped
from cvtrain.models.saved_model import weights_digest
from cvtrain.reports.run_files import measured_record
from cvtrain.runs.commands import MODEL_COMMANDS, NAME_A_MODEL_RUN
from cvtrain.runs.moved_images import MOVED, require_images
from cvtrain.runs.run import Run, RunRequest, new_run_path, newest_run
from cvtrain.steps.cached_features import open_model
from cvtrain.steps.dataset import open_dataset
from cvtrain.steps.environment import (
    differences,
    environment,
    installed_versions,
    processor_as_device,
)
from cvtrain.steps.provenance import (
    data_changes,
    was_edited,
    weights_changes,
    weights_digests,
)
from cvtrain.system.console import Console
from cvtrain.system.files import cache_dir, commit_json, sha256_bytes
from cvtrain.system.signals import stop_on_signals
from cvtrain.system.text import escape, shell_quote


def reproduce(
    first: Run,
    path: Path,
    console: Console,
    *,
    source: str | None,
    resume: bool,
    accept_changes: bool,
) -> Run:
    """Repeat a run in a new folder, and report and record all differences.

    The caches of the first run are not used: the images are checked and the features computed
    again, in a cache that is removed at the end.

    Args:
        first: a finished run of fit, extract-features or finetune.
        path: the run folder to write, or to continue.
        source: the new location of the images (default: the recorded one).
        resume: whether to continue the reproduction at `path`.
        accept_changes: whether to continue with other images, or on another machine.

    Returns:
        The new run, which has a `reproduction.json`.

    Raises:
        DataError: the images are not those of the first run.
        NotReproduced: the new run is finished, but differs.
        RunError: the run cannot be reproduced, is not finished, or is damaged.
        Stopped: on request; `resume` continues.
    """
    check_reproducible(first)
    config = config_of(first, source)
    require_images(config.data.source, MOVED)
    do_again = command_of(first, config)
    name = first.record.name
    if resume:
        check_same_reproduction(Run.open(path), mark_of(first))
    else:
        print_changes(first, config, accept_changes=accept_changes, console=console)
        begin(first, path, config)
    cache = cache_dir() / "reproductions" / sha256_bytes(os.fsencode(path.absolute()))[:16]
    try:
        with caching_in(cache), console.part_of_a_whole():
            request = RunRequest(path, name, resume=True, accept_changes=accept_changes)
            again = do_again(config, request, console)
    except Stopped as error:
        moved = f" --data {shell_quote(source)}" if source else ""
        command = f"cvtrain reproduce {shell_quote(first.path)}{moved}"
        raise_if_stopped = f"Go on: {command} --run-dir {shell_quote(path)} --resume"
        raise Stopped(error.message, raise_if_stopped) from error
    comparison = compare_runs(first, again)
    changed = changes_between(first, again)
    content = mark_of(first) | {"changed": changed} | comparison
    commit_json(path / "reproduction.json", content)
    shutil.rmtree(cache, ignore_errors=True)
    show(first, again, comparison, changed, console)
    return again


def reproduction_path(first: Run, *, resume: bool) -> Path:
    """A new run folder beside `first`; to resume, the newest reproduction of it there.

    Raises:
        RunError: there is none to resume.
    """
    is_rung = (first.path.parent / "run.json").is_file()
    runs_dir = first.path.parent.parent if is_rung else first.path.parent
    if resume:
        return newest_run(runs_dir, reproduces=mark_of(first)).path
    return new_run_path(runs_dir, "reproduce", first.record.name)


def mark_of(first: Run) -> dict[str, str]:
    """The field `reproduces` of run.json: the first run and the digest of its weights."""
    weights = first.require("weights_sha256").weights_sha256
    return {"run": str(first.path.absolute()), "weights": weights}


def check_reproducible(first: Run) -> None:
    """Raise RunError unless the run can be repeated and compared."""
    command = first.record.command
    if command not in MODEL_COMMANDS:
        is_ladder = command == "ladder"
        raise RunError(
            f"{first.path} is a run of {escape(command)}, which cannot be reproduced as a whole",
            f"Reproduce its stages: cvtrain reproduce {shell_quote(first.path / 'scratch')}"
            if is_ladder
            else NAME_A_MODEL_RUN,
        )
    first.require_model()
    measured_record(first)


def config_of(first: Run, source: str | None) -> Config:
    """The config of a run, with the images at `source` if it is given.

    Raises:
        ConfigError: config.yaml is missing or damaged.
    """
    config = load_config(first.path / "config.yaml")
    if source is None:
        return config
    where = source if source in NAMED_SETS else str(Path(source).expanduser().absolute())
    return config.model_copy(update={"data": config.data.model_copy(update={"source": where})})


def begin(first: Run, path: Path, config: Config) -> None:
    """Create the run folder with the choices that the first run measured.

    Raises:
        RunError: `path` is there already.
    """
    command = first.record.command
    Run.create(
        path,
        command,
        files={"config.yaml": dump_config(config, command)},
        name=first.record.name,
        exact=True,
        reproduces=mark_of(first),
        **{key: first.content[key] for key in ("precision", "features") if key in first.content},
    )


def command_of(first: Run, config: Config) -> Callable[..., Run]:
    """The function that repeats a run.

    Raises:
        RunError: the model that fine-tuning started from is missing or has changed.
    """
    if first.record.command != "finetune":
        return {"fit": fit, "extract-features": extract_features}[first.record.command]
    recorded = first.require_source()
    path = Path(recorded.run)
    # If both were moved, they are still in the same folder; the weights are compared below.
    start = Run.open(path if path.exists() else first.path.parent / path.name)
    check_same_weights(start, recorded.weights, config)
    return partial(finetune, source=start)


def check_same_weights(run: Run, digest: str, config: Config) -> None:
    """Raise RunError unless the weights of `run` have this digest."""
    backend.set_up(seed=config.seed, device=config.device)
    if weights_digest(open_model(run, image_size=config.data.image_size)) != digest:
        raise RunError(
            f"{run.model_path}: not the weights that fine-tuning started from",
            "Reproduce that run first, or restore it from a copy.",
        )


def check_same_reproduction(run: Run, mark: Mapping[str, str]) -> None:
    """Raise RunError unless `run` is a reproduction of the run in `mark`."""
    if run.content.get("reproduces") != mark:
        raise RunError(
            f"{run.path} is not a reproduction of {mark['run']}",
            "Name the folder of the reproduction, or leave --resume out.",
        )


def print_changes(first: Run, config: Config, *, accept_changes: bool, console: Console) -> None:
    """Warn of all changes since the run that are known before training.

    Raises:
        DataError: the images have changed, and `accept_changes` is not given.
    """
    start = first.record
    now = {
        "versions": installed_versions(start.versions),
        "environment": environment(),
        "device": processor_as_device(start.device, config.device),
    }
    weights = weights_digests(config, first.record.command)
    for line in (
        *flaws(first),
        *weights_changes(start.identity.weights, weights),
        *differences(start.model_dump(), now),
    ):
        console.warning(line)
    with stop_on_signals() as stop:
        dataset = open_dataset(config, stop, console)
    changes = [
        change.what for change in data_changes(first, dataset.index.by_class(), dataset.digest)
    ]
    if changes and not accept_changes:
        raise DataError(
            f"{first.path} was trained on other images:\n  " + "\n  ".join(changes),
            "Name their folder with --data. Or train on these images with --accept-changes.",
        )
    for line in changes:
        console.warning(line)


def changes_between(first: Run, again: Run) -> list[str]:
    """The differences between the starts of two runs, by their records."""
    before, after = first.record, again.record
    images = data_changes(first, again.read_json("split.json"), after.data.digest)
    return [
        *flaws(first),
        *weights_changes(before.identity.weights, after.identity.weights),
        *differences(before.model_dump(), after.model_dump()),
        *(change.what for change in images),
    ]


def flaws(first: Run) -> Iterator[str]:
    """The reasons why a recorded run may not be reproducible."""
    if was_edited(first):
        yield "config.yaml: edited in the run folder since the run was started"
    for accepted in first.record.accepted_changes:
        yield f"the run is not exact, because it was continued with: {'; '.join(accepted.changes)}"


@contextlib.contextmanager
def caching_in(folder: Path) -> Iterator[None]:
    """Use `folder` as the cache of this process in the block."""
    before = os.environ.get("CVTRAIN_CACHE")
    os.environ["CVTRAIN_CACHE"] = str(folder)
    try:
        yield
    finally:
        del os.environ["CVTRAIN_CACHE"]
        if before is not None:
            os.environ["CVTRAIN_CACHE"] = before


def show(
    first: Run, again: Run, comparison: dict[str, Any], changed: list[str], console: Console
) -> None:
    """Print the comparison, and raise NotReproduced if anything differs."""
    console.table(("what", "reproduced", "largest difference"), rows_of(comparison))
    if comparison["identical"]:
        console.print(f"{first.path} is reproduced bit for bit by {again.path}")
        return
    because = f"; changed since then: {'; '.join(changed)}" if changed else ""
    raise NotReproduced(
        f"{first.path} is not reproduced bit for bit{because}",
        f"The differences are in {again.path}/reproduction.json",
    )

"""`cvtrain reproduce`: a run is done again from what it recorded, and compared with itself."""

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
    """Do a run again in a folder of its own, and tell and record what differs.

    Nothing comes from the caches of the first run: the images are checked and features computed
    anew, in a cache that is removed at the end.

    Args:
        first: a finished run of fit, extract-features or finetune.
        path: the run folder to write, or to continue.
        source: where its images are now; None for where they were.
        resume: continue the reproduction at `path`.
        accept_changes: go on with other images, or continue on another machine.
        console: for the person.

    Returns:
        The new run, which has a `reproduction.json`.

    Raises:
        DataError: the images are not those of the first run.
        NotReproduced: the new run is done, and something differs.
        RunError: the run is of another kind, not finished, or damaged.
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
    """The field `reproduces` of run.json: the run that is done again, and what came out of it."""
    weights = first.require("weights_sha256").weights_sha256
    return {"run": str(first.path.absolute()), "weights": weights}


def check_reproducible(first: Run) -> None:
    """Raise RunError unless the run can be done again and compared."""
    command = first.record.command
    if command not in MODEL_COMMANDS:
        is_ladder = command == "ladder"
        raise RunError(
            f"{first.path} is a run of {escape(command)}, which cannot be done again as one",
            f"Its rungs can: cvtrain reproduce {shell_quote(first.path / 'scratch')}"
            if is_ladder
            else NAME_A_MODEL_RUN,
        )
    first.require_model()
    measured_record(first)


def config_of(first: Run, source: str | None) -> Config:
    """The config that a run was started with, of the images at `source` where that is given.

    Raises:
        ConfigError: config.yaml is missing or damaged.
    """
    config = load_config(first.path / "config.yaml")
    if source is None:
        return config
    where = source if source in NAMED_SETS else str(Path(source).expanduser().absolute())
    return config.model_copy(update={"data": config.data.model_copy(update={"source": where})})


def begin(first: Run, path: Path, config: Config) -> None:
    """Make the run folder, with what the first run measured and then kept, and nothing else of it.

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
    """The function that does a run again.

    Raises:
        RunError: the model that fine-tuning started from is missing or another by now.
    """
    if first.record.command != "finetune":
        return {"fit": fit, "extract-features": extract_features}[first.record.command]
    recorded = first.require_source()
    path = Path(recorded.run)
    # Where both have moved, they still lie beside each other; the weights say whether it is it.
    start = Run.open(path if path.exists() else first.path.parent / path.name)
    check_same_weights(start, recorded.weights, config)
    return partial(finetune, source=start)


def check_same_weights(run: Run, digest: str, config: Config) -> None:
    """Raise RunError unless the model of `run` has the weights of that digest."""
    backend.set_up(seed=config.seed, device=config.device)
    if weights_digest(open_model(run, image_size=config.data.image_size)) != digest:
        raise RunError(
            f"{run.model_path}: other weights than those that fine-tuning started from",
            "Reproduce that run first, or restore it from a copy.",
        )


def check_same_reproduction(run: Run, mark: Mapping[str, str]) -> None:
    """Raise RunError unless `run` was begun as a reproduction of the run that `mark` names."""
    if run.content.get("reproduces") != mark:
        raise RunError(
            f"{run.path} is no reproduction of {mark['run']}",
            "Name the folder that was begun for it, or leave --resume out.",
        )


def print_changes(first: Run, config: Config, *, accept_changes: bool, console: Console) -> None:
    """Warn of everything that is not as the run had it, as far as that is known beforehand.

    Raises:
        DataError: the images are others, and nobody accepted that.
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
        console.warn(line)
    with stop_on_signals() as stop:
        dataset = open_dataset(config, stop, console)
    changes = [
        change.what for change in data_changes(first, dataset.index.by_class(), dataset.digest)
    ]
    if changes and not accept_changes:
        raise DataError(
            f"{first.path} was trained on other images:\n  " + "\n  ".join(changes),
            "Name the folder where they are: --data. Or add --accept-changes, and see what the "
            "same recipe makes of these.",
        )
    for line in changes:
        console.warn(line)


def changes_between(first: Run, again: Run) -> list[str]:
    """What two runs were not started with alike, by their records."""
    before, after = first.record, again.record
    images = data_changes(first, again.read_json("split.json"), after.data.digest)
    return [
        *flaws(first),
        *weights_changes(before.identity.weights, after.identity.weights),
        *differences(before.model_dump(), after.model_dump()),
        *(change.what for change in images),
    ]


def flaws(first: Run) -> Iterator[str]:
    """Why what a run recorded may not lead to what came out of it."""
    if was_edited(first):
        yield "config.yaml: edited in the run folder since the run was started"
    for accepted in first.record.accepted_changes:
        yield f"the run is not exact, it was continued with: {'; '.join(accepted.changes)}"


@contextlib.contextmanager
def caching_in(folder: Path) -> Iterator[None]:
    """Let `folder` be the cache of this process while the block runs."""
    before = os.environ.get("CVTRAIN_CACHE")
    os.environ["CVTRAIN_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["CVTRAIN_CACHE"]
        else:
            os.environ["CVTRAIN_CACHE"] = before


def show(
    first: Run, again: Run, comparison: dict[str, Any], changed: list[str], console: Console
) -> None:
    """Print what was compared; NotReproduced when something differs."""
    console.table(("what", "reproduced", "largest difference"), rows_of(comparison))
    if comparison["identical"]:
        console.result(f"{first.path} is reproduced bit for bit by {again.path}")
        return
    because = f", with what is not as it was then: {'; '.join(changed)}" if changed else ""
    raise NotReproduced(
        f"{first.path} is not reproduced bit for bit{because}",
        f"Where they differ: {again.path}/reproduction.json",
    )

"""The inputs on which a run depends, and their changes since the run was started.

A run is resumed only if its inputs are the same, so that its results are those of an uninterrupted
run. Otherwise it is refused with a list of the changes. The user can accept them; `run.json` then
records that the run is not exact.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from cvtrain.config import Config, config_values, load_config
from cvtrain.config.project import makes_new_run
from cvtrain.errors import RunError
from cvtrain.runs.commands import RUN_COMMANDS
from cvtrain.runs.run import Run
from cvtrain.runs.settings import flat_settings
from cvtrain.steps.environment import (
    differences,
    environment,
    installed_versions,
    processor_as_device,
)
from cvtrain.system.files import file_digest
from cvtrain.system.text import escape

Places = Mapping[str, Mapping[str, Sequence[str]]]
"""{split: {class: [path, ...]}}, as split.json has it."""

_OPTION = "--accept-changes"
_NO_FILE = {"imagenet", "none"}  # `weights:` that are words of the config
_WITHOUT_EFFECT = {"log", "data.source"}  # the content of images is compared, not where they lie


class Change(NamedTuple):
    """One changed input.

    Attributes:
        what: the change as one line: `fit.epochs: 10 -> 20`.
        is_other_run: whether the change cannot be accepted, because the results so far are useless
            with it.
    """

    what: str
    is_other_run: bool = False


def identity_of(
    config_text: str, data_digest: str, weights: Mapping[str, str]
) -> dict[str, str | dict[str, str]]:
    """The field `identity` of run.json.

    Args:
        config_text: the content of config.yaml.
        data_digest: the digest of the images, as in `data.digest`.
        weights: the digests of weights, as returned by `weights_digests`.
    """
    config = hashlib.sha256(config_text.encode()).hexdigest()
    return {"config": config, "data": data_digest, "weights": dict(weights)}


def weights_digests(config: Config, command: str, source: Run | None = None) -> dict[str, str]:
    """SHA-256 of each file of weights that a run starts from, by the key of the config that names
    it; `source` is the model of the run that fine-tuning starts from.

    A missing file is left out; opening it later raises a clear error.
    """
    named = dict(_weights_in(config_values(config, command)))
    if source is not None:
        named["source"] = str(source.path)
    files = {key: _weights_file(Path(name)) for key, name in named.items() if name not in _NO_FILE}
    words = {key: name for key, name in named.items() if name in _NO_FILE}
    return words | {key: file_digest(file) for key, file in files.items() if file.is_file()}


def changes_since_start(
    run: Run,
    config: Config,
    places: Places,
    data_digest: str,
    weights: Mapping[str, str],
) -> list[Change]:
    """The changes that are found before the engine is loaded, compared with the record of the run.

    Args:
        run: the run to resume.
        config: the config to resume it with.
        places: the current images of each split and class.
        data_digest: the digest of these images.
        weights: the digests of the initial weights, as returned by `weights_digests`.

    Raises:
        RunError: its split.json is damaged.
    """
    before = run.record
    changes = [*config_changes(run, config)]
    changes += map(Change, weights_changes(before.identity.weights, weights))
    changes += data_changes(run, places, data_digest)
    now = {
        "versions": installed_versions(before.versions),
        "environment": environment(),
        "device": processor_as_device(before.device, config.device),
    }
    return changes + [Change(line) for line in differences(before.model_dump(), now)]


def weights_changes(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """A line for each changed file of weights."""
    for key, digest in before.items():
        if now.get(key, digest) != digest:
            yield f"{key}: other weights than at the start"


def engine_changes(run: Run, engine: Mapping[str, Any], known: Sequence[Change]) -> list[Change]:
    """The changes that are found once the engine is loaded, without those already `known`.

    Args:
        engine: `versions` and `device` as in run.json.
    """
    versions = dict.fromkeys(run.record.versions, "not used") | engine["versions"]
    lines = differences(run.record.model_dump(), {**engine, "versions": versions})
    return [Change(line) for line in lines if Change(line) not in known]


def config_changes(run: Run, config: Config) -> Iterator[Change]:
    """The keys whose values differ from those in config.yaml of the run."""
    path, before = run.path / "config.yaml", run.record
    if not path.exists():
        return
    old = flat_settings(config_values(load_config(path), before.command))
    new = flat_settings(config_values(config, before.command))
    if was_edited(run):
        yield Change("config.yaml: edited in the run folder since the run was started")
    compared_by_content = _WITHOUT_EFFECT | set(before.identity.weights)
    for key in [*old, *(key for key in new if key not in old)]:
        if old.get(key) != new.get(key) and key not in compared_by_content:
            values = (escape(each.get(key, "not set")) for each in (old, new))
            yield Change(f"{key}: {' -> '.join(values)}", makes_new_run(key))


def was_edited(run: Run) -> bool:
    """Does config.yaml in the run folder differ from the recorded digest?"""
    recorded = run.record.identity.config
    return recorded not in ("", file_digest(run.path / "config.yaml"))


def data_changes(run: Run, places: Places, data_digest: str) -> list[Change]:
    """The changes of images and classes since the run was started.

    Raises:
        RunError: split.json is missing or damaged.
    """
    start = run.record
    if start.data.digest in ("", data_digest):
        return []
    names = list(next(iter(places.values())))
    if names != list(start.class_names):
        both = (escape(", ".join(each)) for each in (start.class_names, names))
        return [Change(f"classes: {' -> '.join(both)}", is_other_run=True)]
    before, now = dict(_by_path(run.read_json("split.json"))), dict(_by_path(places))
    seen = {path for path, (split, _) in before.items() if split == "train"}
    moved = [path for path in before if path in now and before[path] != now[path]]
    spoilt = [path for path in moved if path in seen and now[path][0] != "train"]
    found = {
        "added": [path for path in now if path not in before],
        "removed": [path for path in before if path not in now],
        "moved to another split or class": moved,
        "trained on, and now in validation or test": spoilt,
    }
    in_table = RUN_COMMANDS[start.command].result == "table"
    changes = [
        Change(
            f"images: {len(paths):,} {what}, such as {escape(paths[0])}",
            in_table or paths is spoilt,
        )
        for what, paths in found.items()
        if paths
    ]
    return changes or [Change("images: the content of files changed", in_table)]


def accept(
    run: Run, changes: Sequence[Change], *, accepted: bool, warn: Callable[[str], None]
) -> None:
    """Refuse changes, or record in `run.content` that they were accepted.

    Args:
        run: the run; its `run.json` is committed by the next update.
        accepted: whether the user accepts changes.
        warn: called with a line for each accepted change.

    Raises:
        RunError: changes are refused; it lists one per line, and nothing was written.
    """
    if not changes:
        return
    impossible = [change for change in changes if change.is_other_run]
    if impossible or not accepted:
        lines = [f"{c.what}{' (cannot be accepted)' * c.is_other_run}" for c in changes]
        raise RunError(
            f"{run.path}: its inputs have changed since it was started:\n  " + "\n  ".join(lines),
            "Resume as it was started, or start a new run."
            if impossible
            else f"Resume as it was started, start a new run, or add {_OPTION}: the run then goes "
            "on, and says that it is not exact.",
        )
    for change in changes:
        warn(f"accepted: {change.what}")
    warn("from here on, the results will differ from those of an uninterrupted run")
    entry = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "changes": [change.what for change in changes],
    }
    earlier = run.content.get("accepted_changes", [])
    run.content |= {"exact": False, "accepted_changes": [*earlier, entry]}


def _weights_in(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every `weights` of a config by its full key."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        if key == "weights" and isinstance(inner, str):
            yield f"{name}{key}", inner
        elif isinstance(inner, dict | list):
            yield from _weights_in(inner, f"{name}{key}.")


def _weights_file(path: Path) -> Path:
    return path / "model.keras" if path.is_dir() else path


def _by_path(places: Places) -> Iterator[tuple[str, tuple[str, str]]]:
    """Path -> its split and class."""
    for split, classes in places.items():
        for name, paths in classes.items():
            for path in paths:
                yield path, (split, name)

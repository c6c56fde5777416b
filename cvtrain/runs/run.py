"""A Run: one output folder with all results of a command.

`run.json` has the schema of `runs.record`. It is written when the run starts and after each update,
each time as one atomic commit.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cvtrain.errors import CvtrainError, ResourceError, RunError, Stopped
from cvtrain.runs.commands import NAME_A_MODEL_RUN
from cvtrain.runs.lock import LOCK, folder_lock, raise_if_locked
from cvtrain.runs.record import FORMAT, RunRecord, Source, read_record
from cvtrain.runs.validation import check_no_links, check_split
from cvtrain.system.files import (
    commit_json,
    commit_text,
    disk_errors,
    is_temporary,
    make_folder,
    sha256_bytes,
)
from cvtrain.system.stopwatch import Stopwatch
from cvtrain.system.text import escape

_MAX_BYTES = 64_000_000
FIRST_FILES = "config.yaml", "split.json"
"""The files that are written before `run.json`, which makes a folder a run."""

_SEAL = "sha256"


@dataclass(frozen=True)
class RunRequest:
    """A request for a run folder to write or to resume.

    Attributes:
        path: the path of the folder.
        name: the name of the config, for the record.
        resume: whether to continue the run at `path`.
        accept_changes: whether to continue it with another config, other images or on another
            machine.
        config: the config file; None if a run is resumed by its folder.
    """

    path: Path
    name: str
    resume: bool = False
    accept_changes: bool = False
    config: Path | None = None


class Run:
    """One run folder.

    Attributes:
        path: the folder.
        content: the content of `run.json` as JSON values, with keys of later versions.
        record: the same content, checked.
    """

    def __init__(self, path: Path, content: dict[str, Any]):
        self.path = path
        self.content = content
        self.record: RunRecord = read_record(content, f"{escape(path)}/run.json")

    @classmethod
    @contextlib.contextmanager
    def begin(
        cls, path: Path, command: str, *, files: Mapping[str, str] | None = None, **fields: Any
    ) -> Iterator["Run"]:
        """Create a run folder, and lock it while the block runs.

        If several processes create one folder at once, one of them succeeds. A folder whose
        creation was interrupted counts as empty.

        Args:
            path: the folder; it must not exist, or be empty.
            command: the command that creates it.
            files: the text of each of `FIRST_FILES`, by name.
            fields: the first fields of its record.

        Raises:
            RunError: `path` exists and is not empty, or another process creates a run in it.
            ResourceError: the folder cannot be created.
        """
        check_not_existing(path)
        with disk_errors(path):
            make_folder(path)
        with folder_lock(path):
            if not _is_free(path):
                raise _is_there(path)
            for name, text in (files or {}).items():
                commit_text(path / name, text)
            # Last, because this makes it a run.
            run = cls(path, begun(command) | fields)
            run.update()
            yield run

    @classmethod
    def create(
        cls, path: Path, command: str, *, files: Mapping[str, str] | None = None, **fields: Any
    ) -> "Run":
        """Create a run folder as `begin` does, without keeping the lock."""
        with cls.begin(path, command, files=files, **fields) as run:
            return run

    @classmethod
    def open(cls, path: Path) -> "Run":
        """Open an existing run folder.

        Raises:
            RunError: there is no run, or its `run.json` is damaged or of a later version.
        """
        return cls(path, _read_content(path))

    @property
    def model_path(self) -> Path:
        """The path of the saved model, whether it exists or not."""
        return self.path / "model.keras"

    def require_model(self) -> Path:
        """The path of the saved model; RunError if the run has none."""
        if self.model_path.exists():
            return self.model_path
        inside = [str(each.parent) for each in sorted(self.path.glob("*/model.keras"))]
        if inside:
            advice = f"Name one of the runs in it: {', '.join(inside)}"
        elif self.record.weights_sha256:
            advice = "Its model.keras is gone: restore it from a copy, or train again."
        elif self.record.status == "finished":
            advice = NAME_A_MODEL_RUN
        elif self.has_diverged:
            advice = "Its training diverged before an epoch had ended; train again more slowly."
        else:
            advice = "The run did not finish; continue it with --resume."
        what = f"there is no model in this run of {self.record.command}"
        raise RunError(f"{self.path}: {what}", advice)

    @property
    def has_diverged(self) -> bool:
        """Whether training diverged, so that the run cannot be resumed."""
        return self.record.status == "failed" and self.record.outcome == "diverged"

    @property
    def figures(self) -> Path:
        """The folder of the figures."""
        return self.path / "figures"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    def update(self, **fields: Any) -> None:
        """Merge `fields` into `run.json` and commit it, sealed by a digest of all fields."""
        self.content = self.content | fields
        self.record = RunRecord.model_validate(self.content)
        commit_json(self.path / "run.json", {_SEAL: _digest(self.content)} | self.content)

    def require(self, *names: str) -> RunRecord:
        """The record; RunError if `run.json` lacks one of these fields."""
        for name in names:
            if name not in self.content:
                raise RunError(
                    f"{escape(self.path)}/run.json: {name} is missing",
                    "The run did not finish, or the file was edited. Train again, or use another "
                    "run.",
                )
        return self.record

    def require_source(self) -> Source:
        """The run that fine-tuning started from; RunError if `run.json` lacks it."""
        source = self.require("source").source
        assert source is not None
        return source

    def read_json(self, name: str) -> Any:
        """The content of another JSON file of the run; RunError if it is damaged."""
        content = _read_json(self.path / name)
        if name == "split.json":
            check_split(content, escape(self.path / name))
        return content

    @contextlib.contextmanager
    def recording_failure(self, stopwatch: Stopwatch) -> Iterator[None]:
        """Record an error of the block as `stopped` or `failed`, with its message."""
        try:
            yield
        except BaseException as error:
            is_stop = isinstance(error, Stopped | KeyboardInterrupt)
            message = error.message if isinstance(error, CvtrainError) else repr(error)
            # The user must see the first error.
            with contextlib.suppress(ResourceError):
                self.update(
                    status="stopped" if is_stop else "failed",
                    error=message,
                    seconds=stopwatch.seconds,
                )
            raise

    @contextlib.contextmanager
    def locked(self) -> Iterator["Run"]:
        """Lock the folder while the block runs; the kernel releases it when the process ends.

        The record is read again, because another process may have changed it.

        Raises:
            RunError: another process holds it, or `run.json` is not what cvtrain wrote.
        """
        with folder_lock(self.path):
            now = Run(self.path, _read_content(self.path, is_trusted=False))
            self.content, self.record = now.content, now.record
            yield self


def begun(command: str) -> dict[str, Any]:
    """The first fields of `run.json` of a run that starts now."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"format": FORMAT, "command": command, "status": "running", "started": now}


def check_not_existing(path: Path) -> None:
    """Raise RunError if `path` exists and is not an empty folder.

    A folder whose creation was interrupted counts as empty.
    """
    if _is_free(path):
        return
    raise_if_locked(path)
    raise _is_there(path)


def _is_free(path: Path) -> bool:
    if not os.path.lexists(path):
        return True
    if not path.is_dir():
        return False
    names = {name for name in os.listdir(path) if not is_temporary(name)}  # noqa: PTH208
    return not names or (LOCK in names and names <= {LOCK, *FIRST_FILES})


def _is_there(path: Path) -> RunError:
    return RunError(
        f"{escape(path)} is there already",
        "Choose another --run-dir, or add --resume to continue the run in it.",
    )


def new_run_path(runs_dir: Path, command: str, name: str) -> Path:
    """A free path `runs_dir/DATE-TIME-COMMAND-NAME`."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    word = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "config"
    path = runs_dir / f"{stamp}-{command}-{word}"
    number = 2
    while path.exists():
        path = runs_dir / f"{stamp}-{command}-{word}-{number}"
        number += 1
    return path


def newest_run(runs_dir: Path, **wanted: Any) -> Run:
    """The newest run in `runs_dir` whose record has the `wanted` fields.

    `has_model=True` requires a saved model. `unfinished=True` prefers runs that are not finished.
    Damaged folders are skipped.

    Raises:
        RunError: there is none.
    """
    has_model, unfinished = wanted.pop("has_model", False), wanted.pop("unfinished", False)
    found = []
    for path in sorted(runs_dir.glob("*/run.json")):
        with contextlib.suppress(RunError):
            run = Run.open(path.parent)
            if all(run.content.get(key) == value for key, value in wanted.items()) and (
                run.model_path.exists() or not has_model
            ):
                found.append(run)
    if unfinished:
        found = [run for run in found if run.record.status != "finished"] or found
    if not found:
        what = "run with a model" if has_model else "run to continue"
        raise RunError(
            f"{runs_dir}: there is no {what}",
            "Name a run folder, or train one first: cvtrain fit config.yaml",
        )
    return max(found, key=lambda run: (run.content["started"], run.path.name))


def _read_content(path: Path, *, is_trusted: bool = True) -> dict[str, Any]:
    shown = escape(path)
    if not path.is_dir():
        raise RunError(
            f"{shown}: there is no such run folder",
            "Run folders lie in ./runs; without RUN the newest one is taken.",
        )
    check_no_links(path)
    if not (path / "run.json").exists():
        raise RunError(
            f"{shown}: not a run folder: it has no run.json",
            "A run folder is what `cvtrain fit` writes, by default under ./runs.",
        )
    content = _read_json(path / "run.json")
    seal = content.pop(_SEAL, None) if isinstance(content, dict) else None
    # Earlier versions have no seal. A run that is only read may have been edited.
    if not is_trusted and seal not in (None, _digest(content)):
        raise RunError(
            f"{shown}/run.json: damaged or edited, it is not what cvtrain wrote",
            f"Restore it from a copy. If you edited it, also delete its line {_SEAL}.",
        )
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return sha256_bytes(json.dumps(content).encode())


def _read_json(path: Path) -> Any:
    shown = escape(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise RunError(f"{shown}: larger than any that cvtrain writes")
        return json.loads(path.read_bytes(), parse_constant=_reject_constant)
    except OSError as error:
        raise RunError(f"{shown}: cannot be read: {(error.strerror or '').lower()}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(
            f"{shown}: damaged, not valid JSON", "Restore it from a copy, or train again."
        ) from error


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")

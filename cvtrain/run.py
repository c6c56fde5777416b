"""A Run: one output folder. Everything a command learns goes into it.

`run.json` is its contract, described in docs/run-folder.md. It is written when the run starts, and
again whenever something in it becomes known, each time as one atomic commit.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cvtrain.errors import CvtrainError, ResourceError, RunError, Stopped
from cvtrain.files import TEMPORARY_PREFIX, commit_json, disk_errors, printable
from cvtrain.stopwatch import Stopwatch

FORMAT = 1
_MAX_BYTES = 64_000_000
_REQUIRED = {"format": int, "command": str, "status": str, "started": str}


class Run:
    """One run folder.

    Attributes:
        path: the folder.
        record: the content of `run.json`.
    """

    def __init__(self, path: Path, record: dict[str, Any]):
        self.path = path
        self.record = record

    @classmethod
    def create(cls, path: Path, command: str) -> "Run":
        """Make a new run folder.

        Raises:
            RunError: `path` is there and not empty.
            ResourceError: it cannot be made.
        """
        refuse_existing(path)
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        run = cls(path, {"format": FORMAT, "command": command, "status": "running"})
        run.update(started=started)
        return run

    @classmethod
    def open(cls, path: Path) -> "Run":
        """Open a run folder that a command has made.

        Raises:
            RunError: there is none, or its `run.json` is damaged or of a later version.
        """
        return cls(path, _read_record(path))

    @property
    def model_path(self) -> Path:
        """Where the saved model is, or will be."""
        return self.path / "model.keras"

    def require_model(self) -> Path:
        """Where the saved model is; RunError when the run has none."""
        if self.model_path.exists():
            return self.model_path
        finished = self.record["status"] == "finished"
        raise RunError(
            f"{self.path}: there is no model in this run of {self.record['command']}",
            "Name a run of fit, extract-features or finetune."
            if finished
            else "The run did not finish; continue it with --resume.",
        )

    @property
    def figures(self) -> Path:
        """The folder of the pictures."""
        return self.path / "figures"

    @property
    def checkpoints(self) -> Path:
        """The folder of what a resumed run continues from."""
        return self.path / "checkpoints"

    def update(self, **fields: Any) -> None:
        """Merge `fields` into `run.json` and commit it."""
        self.record.update(fields)
        commit_json(self.path / "run.json", self.record)

    def field(self, name: str, kind: type) -> Any:
        """A field of `run.json`; RunError when it is missing or of another type."""
        value = self.record.get(name)
        if not isinstance(value, kind):
            raise RunError(
                f"{self.path}/run.json: {name} must be a {kind.__name__}; received {value!r:.80}",
                "The run did not finish, or the file was edited. Train again, or use another run.",
            )
        return value

    def read_json(self, name: str) -> Any:
        """The content of another JSON file of the run; RunError when it cannot be read."""
        return _read_json(self.path / name)

    @contextlib.contextmanager
    def recording_failure(self, stopwatch: Stopwatch) -> Iterator[None]:
        """Record how the block ends when it does not end well: `stopped` or `failed`, and why."""
        try:
            yield
        except BaseException as error:
            is_stop = isinstance(error, Stopped | KeyboardInterrupt)
            message = error.message if isinstance(error, CvtrainError) else repr(error)
            # The first error is the one that a person must see.
            with contextlib.suppress(ResourceError):
                self.update(
                    status="stopped" if is_stop else "failed",
                    error=message,
                    seconds=stopwatch.seconds,
                )
            raise

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against other writers; the kernel frees it when the process ends.

        Raises:
            RunError: another process holds it.
        """
        with disk_errors(self.path):
            handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(handle, 20).decode(errors="replace").strip()
                raise RunError(
                    f"{self.path} is being written by process {holder or 'unknown'}",
                    "Wait for it to end, or choose another --run-dir.",
                ) from error
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            for left_by_a_kill in self.path.rglob(f"{TEMPORARY_PREFIX}*"):
                if left_by_a_kill.is_dir():
                    shutil.rmtree(left_by_a_kill, ignore_errors=True)
                else:
                    left_by_a_kill.unlink(missing_ok=True)
            yield
        finally:
            os.close(handle)


def refuse_existing(path: Path) -> None:
    """Raise RunError when `path` is there and is anything but an empty folder."""
    if path.is_dir() and not any(path.iterdir()):
        return
    if os.path.lexists(path):
        raise RunError(
            f"{path} is there already",
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
    """The run in `runs_dir` that started last, of those whose record has the `wanted` fields.

    `has_model=True` asks for a saved model. Damaged folders are passed over.

    Raises:
        RunError: there is none.
    """
    has_model = wanted.pop("has_model", False)
    found = []
    for path in sorted(runs_dir.glob("*/run.json")):
        with contextlib.suppress(RunError):
            run = Run.open(path.parent)
            if all(run.record.get(key) == value for key, value in wanted.items()) and (
                run.model_path.exists() or not has_model
            ):
                found.append(run)
    if not found:
        what = "run with a model" if has_model else "run to continue"
        raise RunError(
            f"{runs_dir}: there is no {what}",
            "Name a run folder, or train one first: cvtrain fit config.yaml",
        )
    return max(found, key=lambda run: (run.record["started"], run.path.name))


def _read_record(path: Path) -> dict[str, Any]:
    shown = printable(path)
    if not path.is_dir():
        raise RunError(
            f"{shown}: there is no such run folder",
            "Run folders lie in ./runs; without RUN the newest one is taken.",
        )
    if not (path / "run.json").exists():
        raise RunError(
            f"{shown}: not a run folder, it has no run.json",
            "A run folder is what `cvtrain fit` writes, by default under ./runs.",
        )
    record = _read_json(path / "run.json")
    _check_record(record, f"{shown}/run.json")
    return record


def _read_json(path: Path) -> Any:
    shown = printable(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise RunError(f"{shown}: larger than any that cvtrain writes")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise RunError(f"{shown}: cannot be read: {(error.strerror or '').lower()}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(
            f"{shown}: damaged, not valid JSON", "Restore it from a copy, or train again."
        ) from error


def _check_record(record: Any, shown: str) -> None:
    fields: Mapping[str, Any] = record if isinstance(record, dict) else {}
    for name, kind in _REQUIRED.items():
        if not isinstance(fields.get(name), kind):
            raise RunError(f"{shown}: not written by cvtrain, it has no usable '{name}'")
    if fields["format"] > FORMAT:
        raise RunError(
            f"{shown}: format {fields['format']}, and this cvtrain reads up to {FORMAT}",
            "Update cvtrain: pip install --upgrade cvtrain",
        )

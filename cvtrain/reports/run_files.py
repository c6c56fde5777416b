"""The other files of a run folder as a report reads them; what a run lacks is None or empty."""

import csv
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from cvtrain.errors import RunError
from cvtrain.runs.commands import MODEL_COMMANDS, NAME_A_MODEL_RUN
from cvtrain.runs.record import RunRecord, Scores, Share
from cvtrain.runs.run import Run
from cvtrain.runs.validation import FileName, JsonObject, Text, checked
from cvtrain.system.text import csv_cell, escape, shell_quote

_MOST_BYTES = 1_000_000  # of a config, as when it is loaded


class Mistake(JsonObject):
    """One entry of `mistakes/mistakes.json`; pictures are files beside it."""

    file: Text
    true: Text
    predicted: Text
    p_true: Share
    p_predicted: Share
    picture: FileName
    map_true: FileName | None = None
    map_predicted: FileName | None = None


class Answered(JsonObject):
    """What a threshold does to some images."""

    coverage: Share
    risk: Share | None


class Abstaining(JsonObject):
    """`abstention.json`: below which confidence the run answers "unknown"."""

    threshold: Share
    test: Answered


class Measurement(Scores):
    """`evaluate/NAME/metrics.json`: the run on other images."""

    split: Text
    source: Text


def measured_record(run: Run) -> RunRecord:
    """The record of a run with a model that was measured.

    Raises:
        RunError: the run is of another kind, is not finished, or its `run.json` is damaged.
    """
    where, command = escape(run.path), escape(run.record.command)
    if command == "ladder":
        folder = shell_quote(run.path)
        raise RunError(
            f"{where}: a ladder has no predictions of its own, its rungs have",
            f"All of them: cvtrain compare {folder}   One of them: cvtrain report {folder}/RUNG",
        )
    if command not in MODEL_COMMANDS:
        raise RunError(
            f"{where}: a run of {command} has no predictions",
            f"{NAME_A_MODEL_RUN} What this one found is in its CSV files and figures/.",
        )
    if run.record.metrics is None:
        raise RunError(
            f"{where}: no model was measured in this run, its status is "
            f"'{escape(run.record.status)}'",
            "Its training diverged: train again at a lower learning rate, or name another run."
            if run.has_diverged
            else "Continue it with --resume, or name another run.",
        )
    test, names = (
        run.record.metrics.test,
        run.require("class_names", "image_size", "data").class_names,
    )
    lengths = [len(row) for row in test.confusion_matrix]
    if set(test.per_class) != set(names) or lengths != [len(names)] * len(names):
        raise RunError(
            f"{where}/run.json: metrics.test: not of this run's classes",
            "The file was edited or is damaged. Restore it from a copy, or train again.",
        )
    return run.record


def read_history(run: Run) -> dict[str, list[float]]:
    """`history.csv` by column, one value an epoch; empty where nothing was trained by epochs."""
    path = run.path / "history.csv"
    if not path.exists():
        return {}
    rows = _csv_rows(path)
    with _readable(path):
        columns = {name: [float(row[name]) for row in rows] for name in rows[0]} if rows else {}
        if not all(map(math.isfinite, itertools.chain(*columns.values()))):
            raise ValueError("it has values that are not finite")
        if missing := {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"} - set(columns):
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    return columns


def read_mistakes(run: Run) -> list[Mistake] | None:
    """`mistakes/mistakes.json`, the worst first; None where the run has none."""
    path = run.path / "mistakes" / "mistakes.json"
    if not path.exists():
        return None
    content = run.read_json("mistakes/mistakes.json")
    if not isinstance(content, list):
        raise RunError(f"{escape(path)}: not a list", "Delete it, or train again.")
    return [checked(Mistake, entry, escape(path)) for entry in content]


def read_abstention(run: Run) -> Abstaining | None:
    """`abstention.json`; None where the run answers every image."""
    path = run.path / "abstention.json"
    if not path.exists():
        return None
    return checked(Abstaining, run.read_json(path.name), escape(path))


def read_measurements(run: Run) -> dict[str, Measurement]:
    """What `cvtrain evaluate` left in the run, by the name of its folder."""
    paths = sorted(run.path.glob("evaluate/*/metrics.json"))
    return {
        path.parent.name: checked(
            Measurement, run.read_json(str(path.relative_to(run.path))), escape(path)
        )
        for path in paths
    }


def read_config(run: Run) -> str:
    """The text of `config.yaml`; empty where there is none."""
    path = run.path / "config.yaml"
    if not path.exists():
        return ""
    with _readable(path):
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("it is larger than a config may be")
        return path.read_text("utf-8")


def read_settings(run: Run) -> dict[str, Any]:
    """The sections of `config.yaml`; empty where there is none."""
    text = read_config(run)
    path = run.path / "config.yaml"
    with _readable(path):
        sections = yaml.load(text, _Loader) or {}
        if not isinstance(sections, dict):
            raise ValueError("it has no sections")
    return sections


def image_paths(run: Run, root: Path) -> dict[str, Path]:
    """Where the image is that a CSV file of the run names, by that name.

    Args:
        root: that the paths in split.json count from.
    """
    with _readable(run.path / "split.json"):
        names = [
            name
            for classes in run.read_json("split.json").values()
            for files in classes.values()
            for name in files
        ]
        return {csv_cell(name): root / name for name in names}


class _Loader(yaml.SafeLoader):
    """Of YAML without aliases: a few of them stand for more than any memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases, and cvtrain writes none")
        return super().compose_node(parent, index)


def _csv_rows(path: Path) -> list[dict[str, str]]:
    with _readable(path), path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


_UNREADABLE = (
    *(OSError, ValueError, TypeError, AttributeError, RecursionError),
    *(csv.Error, yaml.YAMLError),
)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what reading a missing or damaged file raises into a RunError that names it."""
    try:
        yield
    except _UNREADABLE as error:
        what = (error.strerror or "") if isinstance(error, OSError) else str(error)
        raise RunError(
            f"{escape(path)}: cannot be used: {escape(what.partition(chr(10))[0]).lower()}",
            "Restore it from a copy, or train again.",
        ) from error

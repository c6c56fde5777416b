"""`cvtrain compare`: several runs side by side, on a page and as a table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from cvtrain.errors import ConfigError
from cvtrain.evaluation.metrics import mcnemar
from cvtrain.reports import text as words
from cvtrain.reports.plots import plot_validation_curves
from cvtrain.reports.run_files import measured_record, read_history, read_settings
from cvtrain.runs.predictions import Predictions, read_predictions
from cvtrain.runs.record import RunRecord
from cvtrain.runs.run import Run
from cvtrain.runs.settings import flat_settings
from cvtrain.system.console import Console
from cvtrain.system.files import commit_text
from cvtrain.system.html import render
from cvtrain.system.outputs import PAGE, check_replaceable
from cvtrain.system.text import escape
from cvtrain.version import __version__

LEVEL = 0.05
"""The significance level of the paired test."""


Answers = Mapping[str, tuple[str, str]]
"""File -> (true class, predicted class)."""


@dataclass(frozen=True)
class ComparedRun:
    """One of the compared runs.

    Attributes:
        name: unique name.
        record: record of `run.json`.
        settings: config keys and values.
        history: columns of `history.csv`; may be empty.
        answers: true and predicted class of each test image.
    """

    name: str
    record: RunRecord
    settings: Mapping[str, str]
    history: Mapping[str, Sequence[float]]
    answers: Answers

    @property
    def minutes(self) -> str:
        """Minutes that the whole command took; empty if unknown."""
        return f"{self.record.seconds['total'] / 60:.1f}" if "total" in self.record.seconds else ""


@dataclass(frozen=True)
class Pair:
    """The comparison of two runs on the same test images.

    Attributes:
        only_first, only_second: number of images that only this run classifies correctly.
        p: p value of McNemar's exact test, two-sided.
        agreement: share of images with the same predicted class.
    """

    only_first: int
    only_second: int
    p: float
    agreement: float


def compare(runs: Sequence[Run], *, output: Path, console: Console, force: bool = False) -> None:
    """Print a table of runs and write a page about them; the others are tested against the first.

    Args:
        runs: runs with an evaluated model; a ladder is replaced by its rungs.
        output: file to write.
        force: whether any file is replaced; else only pages of cvtrain are.

    Raises:
        ConfigError: there are fewer than two runs, or the file is not a page of cvtrain.
        RunError: a run is of another kind, not finished, or damaged.
        ResourceError: the page cannot be written.
    """
    check_replaceable(output, force=force, ours=PAGE)
    contenders = open_runs(runs)
    if len(contenders) < 2:
        raise ConfigError(
            f"compare: needs at least two runs; received {len(contenders)}",
            "For example: cvtrain compare runs/scratch runs/augmented",
        )
    pairs = all_pairs(contenders)
    show(contenders, pairs, console)
    commit_text(output, render_comparison(contenders, pairs))
    console.print(f"written to {output}")


def open_runs(runs: Sequence[Run]) -> list[ComparedRun]:
    """The runs with unique names, ladders replaced by their rungs."""
    folders = [folder for run in runs for folder in _with_rungs(run)]
    return [_contender(run, name) for run, name in zip(folders, _names(folders), strict=True)]


def all_pairs(contenders: Sequence[ComparedRun]) -> dict[tuple[str, str], Pair | None]:
    """Each run compared with those after it, by name; None where their test images differ."""
    return {
        (one.name, other.name): compare_pair(one.answers, other.answers)
        for one, other in combinations(contenders, 2)
    }


def compare_pair(first: Answers, second: Answers) -> Pair | None:
    """Compare two runs; None where their test images or labels differ."""
    if {file: true for file, (true, _) in first.items()} != {
        file: true for file, (true, _) in second.items()
    }:
        return None
    rows = np.array([(*first[file], second[file][1]) for file in first], object)
    true, one, other = rows.T
    test = mcnemar(one == true, other == true)
    return Pair(test["only_a"], test["only_b"], test["p"], float(np.mean(one == other)))


def differing_settings(contenders: Sequence[ComparedRun]) -> list[tuple[str, list[str]]]:
    """The config keys that differ between the runs, with the value in each."""
    keys = dict.fromkeys(key for one in contenders for key in one.settings)
    rows = [(key, [one.settings.get(key, "") for one in contenders]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def in_words(one: str, other: str, pair: Pair) -> str:
    """The result of the paired test as a sentence."""
    better, worse = (one, other) if pair.only_first >= pair.only_second else (other, one)
    more, fewer = sorted((pair.only_first, pair.only_second), reverse=True)
    said = (
        f"Only {better} is correct on {_images(more)}, only {worse} on {_images(fewer)} "
        f"(p {'= ' * (pair.p >= 0.001)}{words.p_value(pair.p)})"
    )
    if pair.p < LEVEL:
        return f"{said}: the difference is significant."
    return f"{said}: the difference may be chance."


def show(
    contenders: Sequence[ComparedRun],
    pairs: Mapping[tuple[str, str], Pair | None],
    console: Console,
) -> None:
    """Print one line per run."""
    first = contenders[0].name
    columns = ("run", "accuracy", "95 % interval", "p", "agreement", "minutes", "parameters")
    rows = []
    for one in contenders:
        test, pair = one.record.test, pairs.get((first, one.name))
        low, high = test.accuracy_interval
        rows.append(
            (
                escape(one.name),
                f"{test.accuracy:.4f}",
                f"{low:.4f} to {high:.4f}",
                words.p_value(pair.p) if pair else "",
                f"{pair.agreement:.4f}" if pair else "",
                one.minutes,
                "" if one.record.num_parameters is None else f"{one.record.num_parameters:,}",
            )
        )
    console.table(columns, rows)
    for one in contenders:
        if said := words.what_it_learnt(one.record):
            console.warning(f"{escape(one.name)}: {said[0].lower()}{said[1:]}")
    others = [name for (one, name), pair in pairs.items() if one == first and pair is None]
    if others:
        console.warning(
            f"not compared with {escape(first)}, because the test images or labels differ: "
            f"{', '.join(map(escape, others))}"
        )
    if len(others) < len(contenders) - 1:
        console.print(
            f"p: McNemar's exact test against {escape(first)} on the same test images; above "
            f"{LEVEL} the difference may be chance. agreement: share of images with the same "
            "predicted class."
        )


def render_comparison(
    contenders: Sequence[ComparedRun], pairs: Mapping[tuple[str, str], Pair | None]
) -> str:
    """The page; it ranks runs only where all were tested on the same images and labels."""
    known = {names: pair for names, pair in pairs.items() if pair is not None}
    unpaired = [names for names, pair in pairs.items() if pair is None]
    best, second, *_ = sorted(contenders, key=lambda one: -one.record.test.accuracy)
    first_two = next(names for names in pairs if set(names) == {best.name, second.name})
    return render(
        "cvtrain.reports",
        "compare.html.j2",
        title=f"{len(contenders)} runs compared",
        version=__version__,
        contenders=contenders,
        what=[words.what_was_trained(one.record, one.settings) for one in contenders],
        learnt=[words.what_it_learnt(one.record) for one in contenders],
        best=best,
        verdict="" if unpaired else in_words(*first_two, known[first_two]),
        pairs=known,
        unpaired=unpaired,
        level=LEVEL,
        curves=plot_validation_curves({c.name: c.history for c in contenders if c.history}),
        num_epochs=max((len(one.history["epoch"]) for one in contenders if one.history), default=0),
        classes=_scores_by_class(contenders),
        differences=differing_settings(contenders),
        percent=words.percent,
        interval=words.interval,
        p_value=words.p_value,
    )


def _with_rungs(run: Run) -> list[Run]:
    if run.record.command != "ladder":
        return [run]
    return [Run.open(run.path / rung.run) for rung in run.record.rungs]


def _contender(run: Run, name: str) -> ComparedRun:
    record = measured_record(run)
    predictions = read_predictions(run.path / "predictions-test.csv", record.class_names)
    answers = _answers(predictions, record.class_names)
    return ComparedRun(name, record, flat_settings(read_settings(run)), read_history(run), answers)


def _answers(predictions: Predictions, class_names: Sequence[str]) -> Answers:
    """Names instead of indices: runs may have their classes in another order."""
    pairs = zip(predictions.labels, predictions.predicted, strict=True)
    return {
        file: (class_names[true], class_names[predicted])
        for file, (true, predicted) in zip(predictions.files, pairs, strict=True)
    }


def _names(runs: Sequence[Run]) -> list[str]:
    """The name of each folder, with that of the folder above where two are called the same."""
    paths = [run.path.resolve() for run in runs]
    counts = Counter(path.name for path in paths)
    names = [p.name if counts[p.name] == 1 else f"{p.parent.name}/{p.name}" for p in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise ConfigError(f"compare: {escape(twice)} is named twice", "Name each run once.")
    return names


def _scores_by_class(contenders: Sequence[ComparedRun]) -> list[tuple[str, list[float | None]]]:
    """F1 of each class in each run; none where the runs have different classes."""
    tables = [one.record.test.per_class for one in contenders]
    if any(set(table) != set(tables[0]) for table in tables):
        return []
    return [(name, [table[name].f1 for table in tables]) for name in tables[0]]


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"

"""`cvtrain compare`: several runs side by side, on a page and as a table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from cvtrain.errors import ConfigError
from cvtrain.reports import text as words
from cvtrain.reports.paired_test import Answers, Pair, answers, paired
from cvtrain.reports.plots import plot_validation_curves
from cvtrain.reports.run_files import flat, measured_record, read_history, read_settings
from cvtrain.runs.predictions import read_predictions
from cvtrain.runs.record import RunRecord
from cvtrain.runs.run import Run
from cvtrain.system.console import Console
from cvtrain.system.files import commit_text
from cvtrain.system.html import render
from cvtrain.system.outputs import PAGE, check_replaceable
from cvtrain.system.text import escape
from cvtrain.version import __version__

LEVEL = 0.05
"""A difference with a smaller p is called more than chance."""


@dataclass(frozen=True)
class ComparedRun:
    """One of the runs.

    Attributes:
        name: unique among them.
        record: of `run.json`.
        settings: every key of its config.
        history: its curves; empty where it has none.
        answers: what it says of each test image.
    """

    name: str
    record: RunRecord
    settings: Mapping[str, str]
    history: Mapping[str, Sequence[float]]
    answers: Answers

    @property
    def minutes(self) -> str:
        """How long training took, with all that belongs to it."""
        return f"{self.record.seconds['total'] / 60:.1f}" if "total" in self.record.seconds else ""


def compare(runs: Sequence[Run], *, output: Path, console: Console, force: bool = False) -> None:
    """Print a table of runs and write a page about them; the first is what others are held against.

    Args:
        runs: with models that were measured; a ladder stands for its rungs.
        output: the file to write.
        force: let it take the place of any file; else only of a page of ours.

    Raises:
        ConfigError: there are fewer than two, or the file is somebody's.
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
    console.result(f"written to {output}")


def open_runs(runs: Sequence[Run]) -> list[ComparedRun]:
    """The runs, ladders replaced by their rungs, with names that tell them apart."""
    folders = [folder for run in runs for folder in _with_rungs(run)]
    return [_contender(run, name) for run, name in zip(folders, _names(folders), strict=True)]


def all_pairs(contenders: Sequence[ComparedRun]) -> dict[tuple[str, str], Pair | None]:
    """Each run against those after it, by their names; None where their test images differ."""
    return {
        (one.name, other.name): paired(one.answers, other.answers)
        for one, other in combinations(contenders, 2)
    }


def differing_settings(contenders: Sequence[ComparedRun]) -> list[tuple[str, list[str]]]:
    """The keys of the configs that are not the same in all runs, with the value in each."""
    keys = dict.fromkeys(key for one in contenders for key in one.settings)
    rows = [(key, [one.settings.get(key, "") for one in contenders]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def in_words(one: str, other: str, pair: Pair) -> str:
    """What the paired test of two runs says."""
    better, worse = (one, other) if pair.only_first >= pair.only_second else (other, one)
    more, fewer = sorted((pair.only_first, pair.only_second), reverse=True)
    said = (
        f"{better} alone is right on {_images(more)}, {worse} alone on {_images(fewer)} "
        f"(p {'= ' * (pair.p >= 0.001)}{words.p_value(pair.p)})"
    )
    if pair.p < LEVEL:
        return f"{said}: more than chance would explain."
    return f"{said}: that may be chance."


def show(
    contenders: Sequence[ComparedRun],
    pairs: Mapping[tuple[str, str], Pair | None],
    console: Console,
) -> None:
    """Print one line a run."""
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
            console.warn(f"{escape(one.name)}: {said[0].lower()}{said[1:]}")
    others = [name for (one, name), pair in pairs.items() if one == first and pair is None]
    if others:
        console.warn(
            f"tested on other images than {escape(first)}, so not paired with it: "
            f"{', '.join(map(escape, others))}"
        )
    if len(others) < len(contenders) - 1:
        console.result(
            f"p: McNemar's exact test against {escape(first)} on the same test images; above "
            f"{LEVEL} the difference may be chance. agreement: images that both take for the same "
            "class."
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
    said = answers(predictions, record.class_names)
    return ComparedRun(name, record, flat(read_settings(run)), read_history(run), said)


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

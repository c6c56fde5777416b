"""`cvtrain data check`: list every damaged or doubtful file, with advice."""

from cvtrain.config import Config
from cvtrain.data.check import how_to_continue
from cvtrain.errors import DataError
from cvtrain.steps.dataset import check, decoder_of, find_to_look, show_notes, summary
from cvtrain.system.console import Console
from cvtrain.system.signals import stop_on_signals
from cvtrain.system.text import escape


def data_check(config: Config, *, console: Console) -> None:
    """Check the images of a config, and list all problems.

    Raises:
        DataError: at least one file is bad, or there are too few images to be split; all problems
            have been listed.
    """
    with stop_on_signals() as stop:
        index, unsplit = find_to_look(config, stop, console)
        _, report = check(index, decoder_of(config), stop, console, on_leak=config.data.on_leak)
    index = report.index
    show_notes(index, (), console)
    problems = sorted(report.problems, key=lambda problem: (problem.severity, problem.path))
    if problems:
        rows = [(escape(p.path), p.severity, p.what, p.advice) for p in problems]
        console.table(("file", "is", "because", "advice"), rows)
    console.print(f"{report.num_files:,} files checked: {summary(index.counts)}")
    paths: dict[str, set[str]] = {severity: set() for severity in ("bad", "doubtful")}
    for problem in problems:
        paths[problem.severity].add(problem.path)
    num_bad = len(paths["bad"])
    console.print(f"{num_bad:,} bad, {len(paths['doubtful']):,} doubtful")
    if report.same_classes:
        raise report.same_classes
    too_few = unsplit or report.too_few
    if num_bad and too_few:
        console.warning(too_few.message)
    if num_bad:
        bad = [problem for problem in problems if problem.severity == "bad"]
        raise DataError(f"files that cannot be used: {num_bad:,}", how_to_continue(bad, too_few))
    if too_few:
        raise too_few

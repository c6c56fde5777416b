"""`cvtrain data check`: every bad or doubtful file by name, with what to do about it."""

from cvtrain.config import Config
from cvtrain.console import Console
from cvtrain.errors import DataError
from cvtrain.files import printable
from cvtrain.pipelines.dataset import scan, summary
from cvtrain.signals import stop_on_signals


def data_check(config: Config, *, console: Console) -> None:
    """Check the images of a config and list what is wrong with them.

    Raises:
        DataError: at least one file is bad; everything has been listed before.
    """
    with stop_on_signals() as stop:
        index, _, report = scan(config, stop, console)
    for note in index.notes:
        console.warn(note)
    problems = sorted(report.problems, key=lambda problem: (problem.severity, problem.path))
    if problems:
        rows = [(printable(p.path), p.severity, p.what, p.advice) for p in problems]
        console.table(("file", "is", "because", "advice"), rows)
    for reason, count in index.ignored.items():
        console.remark(f"ignored: {count:,} {reason}")
    console.result(f"{report.num_files:,} files checked: {summary(index.counts)}")
    num_bad = sum(problem.severity == "bad" for problem in problems)
    console.result(f"{num_bad:,} bad, {len(problems) - num_bad:,} doubtful")
    if num_bad:
        raise DataError(
            f"files that cannot be used: {num_bad:,}",
            "Mend or remove them, or go on without them: --set data.on_bad=skip",
        )

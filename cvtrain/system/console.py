"""Output for users: lines, tables and progress, formatted on a terminal and plain when piped.

Results go to standard output; progress and warnings go to standard error, so that a pipe holds
results alone. Every line also goes to the log of the run, once there is one. Rich is imported when
there is something to show; errors in a config are printed without it.

Names that are shown are untrusted: everything that a terminal would obey is escaped, except for the
line breaks of a text.
"""

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cvtrain.system.text import escape

if TYPE_CHECKING:
    from logging import Logger

    from rich.console import Console as RichConsole
    from rich.console import RenderableType
    from rich.progress import Progress, ProgressColumn

_NOT_METRICS = {"epoch", "step", "learning_rate", "images_per_second", "seconds", "val_seconds"}
"""Of the row of an epoch; all else in it is a metric."""
_NUMBER = re.compile(r"[-+]?\d|-?$")  # or none, in a column of numbers


class Console:
    """Prints results, remarks, warnings and progress.

    Args:
        quiet: print only results and warnings.
    """

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self._log: Path | None = None
        self._unlogged: list[str] = []
        self._part = False

    @contextlib.contextmanager
    def part_of_a_whole(self) -> Iterator[None]:
        """While the block runs, results are logged but not printed."""
        self._part = True
        try:
            yield
        finally:
            self._part = False

    def log_to(self, path: Path) -> None:
        """Append every line to `path` with the time, beginning with those printed before."""
        self._log = path
        self._write_log()

    def print(self, text: str) -> None:
        """Print a result to standard output, also when quiet."""
        self._write_log(text)
        if not self._part:
            self._out.print(escape_lines(text), markup=False)

    def info(self, text: str, *, always: bool = False) -> None:
        """Print a message to standard error, not when quiet.

        Args:
            always: print it also when quiet, such as a choice made for the user.
        """
        self._write_log(text)
        if always or not self.quiet:
            self._err.print(escape_lines(text), markup=False)

    def warning(self, text: str) -> None:
        """Print a warning to standard error, also when quiet."""
        self._write_log(f"warning: {text}")
        from rich.text import Text

        self._err.print(Text.assemble(("warning:", "yellow"), f" {escape_lines(text)}"))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
        """Print a table, numbers aligned right; lines with tabs when piped."""
        columns, *rows = ([escape(cell) for cell in row] for row in (columns, *rows))
        for row in rows:
            self._write_log("  ".join(row))
        if self._part:
            return
        if not self._out.is_terminal:
            self._out.file.write("".join("\t".join(row) + "\n" for row in (columns, *rows)))
            self._out.file.flush()
            return
        from rich import markup
        from rich.table import Table

        def shown(cell: str) -> str:
            # Before it is laid out: an escape is wider than the character that it stands for.
            return markup.escape(encodable(cell, self._out.encoding))

        table = Table(title=title or None, title_justify="left", header_style="bold")
        for i, column in enumerate(columns):
            are_numbers = i > 0 and all(_NUMBER.match(row[i]) for row in rows)
            table.add_column(
                shown(column), justify="right" if are_numbers else "left", overflow="fold"
            )
        for row in rows:
            table.add_row(*map(shown, row))
        self._out.print(table)

    @contextlib.contextmanager
    def task(self, text: str) -> Iterator[Callable[[int, int], None]]:
        """Show a progress bar while the block runs; the block calls the yielded function with
        (done, total).
        """
        if not self._is_live:
            yield lambda _done, _total: None
            return
        from rich.progress import TimeRemainingColumn

        with self._progress(TimeRemainingColumn()) as progress:
            what = encodable(escape(text), self._err.encoding)
            task = progress.add_task(what, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    @contextlib.contextmanager
    def training(self, epochs: int) -> Iterator["TrainingView"]:
        """Show the progress of a training: a live line on a terminal, and one line per epoch."""
        if not self._is_live:
            yield TrainingView(self, epochs, None)
            return
        from rich.progress import TextColumn

        with self._progress(TextColumn("{task.fields[detail]}")) as progress:
            yield TrainingView(self, epochs, progress)

    @cached_property
    def _out(self) -> "RichConsole":
        return self._rich_console(stderr=False)

    @cached_property
    def _err(self) -> "RichConsole":
        return self._rich_console(stderr=True)

    @property
    def _is_live(self) -> bool:
        return self._err.is_terminal and not self.quiet

    def _progress(self, last_column: "ProgressColumn") -> "Progress":
        from rich.constrain import Constrain
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.table import Column

        console = self._err

        class Bar(Progress):
            def get_renderables(self) -> "Iterator[RenderableType]":
                # The terminal writes the ^C of a stop behind the bar. Without room for it, it
                # would go on in the next line, and the bar would be sought there to be cleared.
                for each in super().get_renderables():
                    yield Constrain(each, console.width - len("^C^C"))

        steps = MofNCompleteColumn(table_column=Column(no_wrap=True))
        what = TextColumn("{task.description}", markup=False)
        columns = (what, BarColumn(), steps, last_column)
        return Bar(*columns, console=console, transient=True)

    def _rich_console(self, *, stderr: bool) -> "RichConsole":
        from rich.console import Console as RichConsole

        def may_go_unread() -> bool:
            # Who wants no more results wants no command either. But a run that is being written
            # goes on, though nobody reads of it any more, as in `2>&1 | head`.
            return stderr or self._log is not None

        stream: Any = _Stream("stderr" if stderr else "stdout", may_go_unread)
        # Texts are shown as they are: a file may be called :smile:.jpg.
        return RichConsole(file=stream, highlight=False, soft_wrap=True, emoji=False)

    def _write_log(self, text: str = "") -> None:
        stamp = datetime.now().isoformat(sep=" ", timespec="seconds")
        self._unlogged += [f"{stamp}  {line}\n" for line in escape_lines(text).splitlines()]
        if self._log is not None:
            # A log that cannot be written must not end a training that can.
            with contextlib.suppress(OSError), self._log.open("a", encoding="utf-8") as file:
                file.writelines(self._unlogged)
            self._unlogged.clear()


class LoggingConsole(Console):
    """Prints nothing: every line is a record of `logger`, at the level INFO or WARNING.

    Args:
        logger: receives the lines.
        quiet: leave out results and remarks.
    """

    def __init__(self, logger: "Logger", quiet: bool = False):
        super().__init__(quiet)
        self._logger = logger

    def print(self, text: str) -> None:
        """Log a result."""
        self._write_log(text)
        if not (self._part or self.quiet):
            self._logger.info("%s", escape_lines(text))

    def info(self, text: str, *, always: bool = False) -> None:
        """Log a message."""
        self._write_log(text)
        if always or not self.quiet:
            self._logger.info("%s", escape_lines(text))

    def warning(self, text: str) -> None:
        """Log a warning."""
        self._write_log(f"warning: {text}")
        self._logger.warning("%s", escape_lines(text))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
        """Log the title, the columns and each row as one record each."""
        for line in filter(None, (title, "  ".join(columns), *map("  ".join, rows))):
            self.print(line)

    @property
    def _is_live(self) -> bool:
        return False


class _Stream:
    """A standard stream that discards its output once it can no longer be written.

    The reader of a pipe may have ended, a terminal may be closed, a disk may be full.

    Args:
        name: `stdout` or `stderr`, looked up in `sys` at each write.
        may_go_unread: whether a failed write is ignored; else it raises.
    """

    def __init__(self, name: str, may_go_unread: Callable[[], bool]):
        self._name, self._may_go_unread = name, may_go_unread

    def write(self, text: str) -> int:
        """Write or discard a text; return its length."""
        self._or_nowhere(lambda stream: stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Write or discard the buffer of the stream."""
        self._or_nowhere(lambda stream: stream.flush())

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        stream = self._stream()
        return stream is not None and stream.isatty()

    def __getattr__(self, name: str) -> Any:
        if name == "rich_proxied_file":  # rich would take that stream in place of this one
            raise AttributeError(name)
        return getattr(self._stream(), name)

    def _stream(self) -> Any:
        """The current stream; None if it was closed when this process was started."""
        stream = getattr(sys, self._name)
        return getattr(stream, "rich_proxied_file", stream)  # while a bar is shown

    def _or_nowhere(self, act: Callable[[Any], object]) -> None:
        stream = self._stream()
        try:
            if stream is not None:
                act(stream)
        except OSError:
            # What is left in its buffer must not fail once more, when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if not self._may_go_unread():
                raise


class ProgressOfTraining(Protocol):
    """The fields of `training.state.Progress` that are shown; epochs and steps count from 1."""

    epoch: int
    epochs: int
    step: int
    steps_per_epoch: int
    metrics: dict[str, float]
    images_per_second: float


class TrainingView:
    """Shows epoch, step, images/s, time left and metrics of a training."""

    def __init__(self, console: Console, epochs: int, bar: "Progress | None"):
        self._console = console
        self._bar = bar
        self._task = bar.add_task("", total=None, detail="") if bar else None
        self._epochs = epochs
        self._first: tuple[float, int] | None = None
        self._seconds_left = 0.0

    def start(self, validated: Mapping[str, float]) -> None:
        """Print the metrics of the model before training."""
        self._console.info(f"before: {_described(validated)}")

    def step(self, now: ProgressOfTraining) -> None:
        """Show the current progress."""
        self._epochs = now.epochs
        self._seconds_left = self._estimate(now)
        if self._bar is None or self._task is None:
            return
        detail = (
            f"{now.images_per_second:,.0f} images/s  {duration(self._seconds_left)} left  "
            f"{_described(now.metrics)}"
        )
        self._bar.update(
            self._task,
            description=f"epoch {now.epoch}/{now.epochs}",
            completed=now.step,
            total=now.steps_per_epoch,
            detail=detail,
        )

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Print the line of a finished epoch."""
        metrics = {name: value for name, value in row.items() if name not in _NOT_METRICS}
        self._console.info(
            f"epoch {row['epoch']:>{len(str(self._epochs))}}/{self._epochs}  "
            f"{_described(metrics)}  "
            f"{row['images_per_second']:,.0f} images/s  {duration(self._seconds_left)} left"
        )

    def _estimate(self, now: ProgressOfTraining) -> float:
        """Estimated seconds left, from the steps since the first one, including validation."""
        done = (now.epoch - 1) * now.steps_per_epoch + now.step
        clock = time.monotonic()
        if self._first is None:
            # The first step also compiles; it says nothing about the others.
            self._first = (clock, done)
        started, done_before = self._first
        left = now.epochs * now.steps_per_epoch - done
        return (clock - started) / max(1, done - done_before) * left


def _described(metrics: Mapping[str, float]) -> str:
    """Metrics as text; losses have one digit more."""
    digits = {name: 4 if name.endswith("loss") else 3 for name in metrics}
    return "  ".join(f"{name} {value:.{digits[name]}f}" for name, value in metrics.items())


def escape_lines(text: str) -> str:
    """`text` with everything but line breaks escaped that a terminal would obey."""
    return "\n".join(map(escape, text.split("\n")))


def encodable(text: str, encoding: str) -> str:
    r"""`text` with the characters escaped that `encoding` lacks: `\U0001f600` in Latin-1."""
    return text.encode(encoding, errors="backslashreplace").decode(encoding)


def duration(seconds: float) -> str:
    """Seconds as text: `45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"

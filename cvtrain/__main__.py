"""`cvtrain` and `python -m cvtrain`: the one place where an error becomes text and an exit code."""

import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from typing import TextIO

import click

from cvtrain.cli import cli
from cvtrain.errors import CvtrainError, ResourceError

INTERRUPTED = 130
COMPLETE = "_CVTRAIN_COMPLETE"
"""What a shell sets when it asks for completions, as click names it."""


def main() -> None:
    """Run the command line and exit with the code of what happened (see `errors`)."""
    # Pydantic would look for plugins in every package that is installed; a config needs none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    for stream in (sys.stdout, sys.stderr):
        _escape_what_it_cannot_say(stream)
    if instruction := os.environ.get(COMPLETE):
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(cli, {}, "cvtrain", COMPLETE, instruction))
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        # Where nothing polls yet, it ends as Ctrl-C does, and nothing unfinished is left behind.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    meta: dict[str, bool] = {}
    try:
        with cli.make_context("cvtrain", sys.argv[1:]) as context:
            meta = context.meta
            cli.invoke(context)
        sys.exit(0)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.message = _harmless(error.message)  # type: ignore[misc]
        with _as_far_as_possible(sys.stderr):
            error.show(sys.stderr)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _print("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has what it wanted.
        _discard(sys.stdout)
        sys.exit(0)
    except Exception as error:
        if meta.get("cvtrain.debug") or "--debug" in sys.argv:
            raise
        known = _as_known(error)
        if isinstance(error, OSError):
            _discard(sys.stdout)
        _print(f"{'' if isinstance(error, CvtrainError) else 'error: '}{known}")
        sys.exit(known.exit_code)


def _as_known(error: Exception) -> CvtrainError:
    if isinstance(error, CvtrainError):
        return error
    if isinstance(error, MemoryError):
        return ResourceError("out of memory", "Lower fit.batch_size or data.image_size.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        where = error.filename or "what this command prints"
        return ResourceError(f"cannot write {where}: {(error.strerror or '').lower()}")
    kind = type(error).__name__
    return CvtrainError(
        f"unexpected {kind}: {str(error).strip()[:300]}",
        "This is a defect of cvtrain. Add --debug for the traceback, and please report it.",
    )


def _print(text: str) -> None:
    with _as_far_as_possible(sys.stderr):
        # Named, because click takes UTF-8 for a stream whose encoding is ASCII.
        click.echo(_harmless(text), sys.stderr, err=True)


def _escape_what_it_cannot_say(stream: TextIO) -> None:
    r"""Let a stream write `\U0001f600` where its encoding, a terminal's or not, has no emoji."""
    if isinstance(stream, io.TextIOWrapper):  # or None, where whoever started us had closed it
        stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _as_far_as_possible(stream: TextIO) -> Iterator[None]:
    """Print to a stream in the block; where that fails, the exit code still says it."""
    try:
        yield
    except OSError:
        _discard(stream)


def _discard(stream: TextIO) -> None:
    """Let what is printed, or still in a buffer, go nowhere: Python must not fail at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _harmless(text: str) -> str:
    from cvtrain.system.console import escape_lines  # not for --help, which has nothing to escape

    return escape_lines(text)


if __name__ == "__main__":
    main()

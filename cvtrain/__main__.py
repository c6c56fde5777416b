"""`cvtrain` and `python -m cvtrain`: run a command, and print an error with its exit code."""

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
"""The environment variable with which a shell asks click for completions."""


def main() -> None:
    """Run the command line, and exit with the code of its result (see `errors`)."""
    # Otherwise Pydantic searches all installed packages for plugins.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    for stream in (sys.stdout, sys.stderr):
        _escape_unencodable(stream)
    if instruction := os.environ.get(COMPLETE):
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(cli, {}, "cvtrain", COMPLETE, instruction))
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        # Until a command polls for a stop, SIGTERM ends it as Ctrl-C does.
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
        # Click declares it final, and prints it as it is.
        error.message = _escaped(error.message)  # type: ignore[misc]
        with _ignoring_errors(sys.stderr):
            error.show(sys.stderr)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _print("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe.
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
        where = error.filename or "the output of this command"
        return ResourceError(f"cannot write {where}: {(error.strerror or '').lower()}")
    kind = type(error).__name__
    return CvtrainError(
        f"unexpected {kind}: {str(error).strip()[:300]}",
        "This is a defect of cvtrain. Please report it with the traceback that --debug prints.",
    )


def _print(text: str) -> None:
    with _ignoring_errors(sys.stderr):
        # The stream is passed, because click replaces an ASCII stream by a UTF-8 one.
        click.echo(_escaped(text), sys.stderr, err=True)


def _escape_unencodable(stream: TextIO) -> None:
    r"""Let a stream write `\U0001f600` if its encoding has no such character."""
    if isinstance(stream, io.TextIOWrapper):  # or None, if the parent process closed it
        stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _ignoring_errors(stream: TextIO) -> Iterator[None]:
    """Ignore errors of printing to a stream in the block; the exit code is kept."""
    try:
        yield
    except OSError:
        _discard(stream)


def _discard(stream: TextIO) -> None:
    """Redirect a stream to nowhere, so that Python does not fail when it flushes it."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _escaped(text: str) -> str:
    from cvtrain.system.console import escape_lines  # lazy, because --help does not need it

    return escape_lines(text)


if __name__ == "__main__":
    main()

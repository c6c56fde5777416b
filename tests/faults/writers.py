"""Several processes that start on one run folder at once: one of them gets it.

`python tests/faults/writers.py --rounds 20 --at-once 8` prints a table; with `-- fit CONFIG ...`
the processes are those of the real command, in folders of their own for each round.
"""

import argparse
import contextlib
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cvtrain.errors import RunError
from cvtrain.run import Run

WON = 0


@dataclass(frozen=True)
class Ended:
    """A process that did not get the folder.

    Attributes:
        pid: its number.
        code: its exit code.
        said: why.
    """

    pid: int
    code: int
    said: str


def begin(path: Path) -> contextlib.AbstractContextManager[Run]:
    """Be the one who makes a run."""
    return Run.begin(path, "fit", name="tiny")


def resume(path: Path) -> contextlib.AbstractContextManager[Run]:
    """Be the one who continues it."""
    return Run.open(path).locked()


def start_at_once(
    path: Path, take: Callable[[Path], contextlib.AbstractContextManager[Run]], at_once: int
) -> tuple[list[int], list[Ended]]:
    """Let processes take a folder at the same moment.

    Returns:
        Those that hold it, which is to be one, and those that have ended.
    """
    moment = time.monotonic() + 0.1
    pipes = {}
    for _ in range(at_once):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _take_and_wait(path, take, moment, writing)
        os.close(writing)
        pipes[child] = reading
    winners, others = [], []
    for child, reading in pipes.items():
        with os.fdopen(reading) as pipe:
            said = pipe.readline()
        if said == "won\n":
            winners.append(child)
        else:
            _, status = os.waitpid(child, 0)
            others.append(Ended(child, os.waitstatus_to_exitcode(status), said))
    return winners, others


def _take_and_wait(path, take, moment, writing) -> None:
    code = 1
    try:
        time.sleep(max(0.0, moment - time.monotonic()))
        with take(path):
            os.write(writing, b"won\n")
            signal.pause()
    except RunError as error:
        os.write(writing, error.message.encode())
        code = error.exit_code
    finally:
        os._exit(code)


def what_is_wrong(winners: list[int], others: list[Ended]) -> str:
    """Empty when one process has won and all others say so."""
    if len(winners) != 1:
        return f"{len(winners)} processes have the folder; the others: {others}"
    for each in others:
        named = re.search(r"is being written by process (\d+)$", each.said)
        if each.code != RunError.exit_code or not named or int(named[1]) != winners[0]:
            return f"{each} does not name {winners[0]}"
    return ""


def rounds(folder: Path, number: int, at_once: int) -> list[str]:
    """In each round processes begin a run, the winner is killed, and others resume it."""
    wrong = []
    for i in range(number):
        path = folder / f"run-{i}"
        for take in (begin, resume, resume):
            winners, others = start_at_once(path, take, at_once)
            wrong.append(what_is_wrong(winners, others))
            for winner in winners:
                os.kill(winner, signal.SIGKILL)
                os.waitpid(winner, 0)
    return [text for text in wrong if text]


def main() -> int:
    """Print how many rounds had one winner."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong = rounds(Path(folder), options.rounds, options.at_once)
    print(f"{options.rounds} rounds of {options.at_once} new runs, twice resumed after a kill")
    print(f"{3 * options.rounds - len(wrong)} of {3 * options.rounds} had one writer")
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

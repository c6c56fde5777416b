"""Several processes that start on one run folder at once: one of them gets it.

python tests/robustness/faults/writers.py             20 rounds of 8 processes that only lock
python tests/robustness/faults/writers.py --command   of `cvtrain fit`
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

sys.path.insert(0, str(Path(__file__).parents[2]))
from robustness.crash.attempts import preload
from tiny_images import make_images

from cvtrain.__main__ import main as cvtrain
from cvtrain.errors import RunError
from cvtrain.runs.run import Run

CONFIG = """
precision: float32
data: {source: images, image_size: 16}
fit: {model: {filters: [4], dense: []}, epochs: 1000, batch_size: 4}
"""
SPLITS = "train", "validation", "test"


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


def command_rounds(folder: Path, number: int, at_once: int) -> list[str]:
    """In each round commands start a run, the winner is killed, others resume it, and so again."""
    make_images(folder / "images", {f"{s}/{n}": 6 for s in SPLITS for n in "ab"}, size=(16, 16))
    config = folder / "tiny.yaml"
    config.write_text(CONFIG)
    wrong = []
    for i in range(number):
        path = folder / f"run-{i}"
        for arguments in (["tiny.yaml", "--run-dir", str(path)], [str(path), "--resume"]):
            ended = _commands(["fit", *arguments], folder, at_once)
            winners = [each.pid for each in ended if each.code == -signal.SIGKILL]
            losers = [each for each in ended if each.pid not in winners]
            wrong.append(what_is_wrong(winners, losers))
    return [text for text in wrong if text]


def _commands(arguments: list[str], folder: Path, at_once: int) -> list[Ended]:
    """How commands end that are started at once; the one that remains is killed."""
    outputs, ended = {}, []
    for _ in range(at_once):
        output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        child = os.fork()
        if child == 0:
            os.chdir(folder)
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            os.environ.update(CVTRAIN_CACHE=str(folder / "cache"), CVTRAIN_COMMIT_SECONDS="0")
            sys.argv = ["cvtrain", *arguments]
            code = 1
            try:
                cvtrain()
            except SystemExit as error:
                code = error.code
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        outputs[child] = output
    while outputs:
        if len(outputs) == 1:
            os.kill(*outputs, signal.SIGKILL)
        child, status = os.wait()
        with outputs.pop(child) as output:
            output.seek(0)
            said = [line for line in output.read().splitlines() if "is being written" in line]
        ended.append(Ended(child, os.waitstatus_to_exitcode(status), "".join(said)))
    return ended


def main() -> int:
    """Print how many rounds had one winner."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--command", action="store_true", help="the real command, in minutes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.command:
            preload("cvtrain")
            each, play = ["begin", "resume"], command_rounds
        else:
            each, play = ["begin", "resume", "resume"], rounds
        wrong = play(Path(folder), options.rounds, options.at_once)
    total = len(each) * options.rounds
    print(f"{options.rounds} rounds of {options.at_once} at once: {', '.join(each)}")
    print(f"{total - len(wrong)} of {total} had one writer")
    print(*(f"{text}\n" for text in wrong), sep="", end="", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

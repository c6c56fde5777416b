"""Where do commands look for a request to stop, and what becomes of one at each of these places?

    python tests/robustness/faults/stops.py              a request at each place of each command
    python tests/robustness/faults/stops.py fit          of this one
    python tests/robustness/faults/stops.py -- ...       how long a command does not look

`watched` takes the place of the flag that signals set: it counts who looks at it, and can be told
to be a request from the Nth look on. A command that finds one must end with exit code 75; the same
command, with --resume where there is a run, must then end as if nothing had been.
"""

import contextlib
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from robustness.crash.outcomes import run_outcome
from tiny_images import make_images

from cvtrain.__main__ import main as cvtrain
from cvtrain.system import signals

STOPPED = 75
_PACKAGE = str(Path(signals.__file__).parents[1])
_PASSING_ON = {"raise_if_stopped", "_raise_if_stopped", "<lambda>", "one_pass"}
_CONFIG = """
seed: 3
precision: float32
data: {source: images, image_size: 32}
augment: {flip: horizontal, rotate: 15}
fit:
  model: {filters: [8, 8], padding: same, dense: [16], dropout: 0.1}
  epochs: 3
  batch_size: 4
  optimizer: {learning_rate: 0.01}
  schedule: {name: plateau, patience: 1}
extract_features:
  backbone: {weights: base}
  views: 2
  epochs: 3
  batch_size: 4
  optimizer: {learning_rate: 0.01}
finetune: {unfreeze_blocks: 1, epochs: 1, batch_size: 8}
probe: {folds: 2}
learning_curve: {shares: [0.5, 1.0], seeds: 1}
"""
_SPLITS = {"train": 12, "validation": 4, "test": 5}
# "ab" and "ba" look alike to `make_images`: the network learns to tell "c", and makes mistakes.
_IMAGES = {f"{split}/{name}": n for split, n in _SPLITS.items() for name in ("ab", "ba", "c")}

TRAINING = {"loop"}
FEATURES = {"check", "extract", "cached_features"}
MISTAKES = {"worst_mistakes", "cams"}


@dataclass(frozen=True)
class Command:
    """A command, and what it stands on.

    Attributes:
        line: its arguments.
        looks: modules in which it has to look.
        after: the command that comes before it.
        run: the run folder that it writes, and can resume; empty where it writes none.
    """

    line: str
    looks: set[str]
    after: str = ""
    run: str = ""


COMMANDS = {
    "fit": Command(
        "fit tiny.yaml --run-dir fit",
        {"check", "inference"} | TRAINING | MISTAKES,
        run="fit",
    ),
    "find-lr": Command(
        "fit tiny.yaml --find-lr --set precision=auto",
        {"precision", "find_lr"},
    ),
    "base": Command("fit tiny.yaml --run-dir base", set()),
    "extract-features": Command(
        "extract-features tiny.yaml --run-dir head",
        FEATURES | TRAINING | MISTAKES | {"linear_probe"},
        "base",
        run="head",
    ),
    "logistic head": Command(
        "extract-features tiny.yaml --set extract_features.head.name=logistic "
        "--set extract_features.views=1 --run-dir logistic",
        FEATURES | {"linear_probe"},
        "base",
        run="logistic",
    ),
    "finetune": Command(
        "finetune tiny.yaml --from head --run-dir tuned",
        FEATURES | TRAINING | MISTAKES,
        "extract-features",
        run="tuned",
    ),
    "probe": Command(
        "probe tiny.yaml --run-dir probe",
        {"check", "extract", "probe", "linear_probe"},
        "base",
        run="probe",
    ),
    "learning-curve": Command(
        "learning-curve tiny.yaml --run-dir curve",
        {"check", "extract", "learning_curve", "linear_probe"},
        "base",
        run="curve",
    ),
    "ladder": Command(
        "ladder tiny.yaml --run-dir ladder", {"precision"} | TRAINING, "base", run="ladder"
    ),
    "evaluate": Command("evaluate base --tta 2", {"check", "inference"}, "base"),
    "predict": Command("predict base images/test", {"inference", "predict"}, "base"),
    "visualize": Command("visualize base --cam --evaluate --sanity", {"cams"}, "base"),
    "activations": Command("visualize base --activations", {"layers"}, "base"),
    "filters": Command("visualize base --filters", {"precision"}, "base"),
    "depth": Command("visualize base --depth", {"layer_statistics"}, "base"),
    "report": Command("report base", {"thumbnails"}, "base"),
    "data check": Command("data check images", {"check"}),
    "data stats": Command("data stats images --output stats", {"statistics"}),
    "data split": Command("data split images --output split.csv", {"check"}),
    "data fetch": Command("data fetch digits digits", {"sources"}),
}


@dataclass
class Looks:
    """Who looked, in order.

    Attributes:
        stop_at: the look that is the first to find a request, from 1; 0 for none.
        places: function of each look, as `loop.train`.
        times: of each, in seconds.
    """

    stop_at: int = 0
    places: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def first_looks(self) -> dict[str, int]:
        """The number of the first look of each place."""
        return {place: self.places.index(place) + 1 for place in dict.fromkeys(self.places)}


@contextlib.contextmanager
def watched(stop_at: int = 0) -> Iterator[Looks]:
    """Watch all looks while the block runs."""
    looks, lock = Looks(stop_at), threading.Lock()

    class Watched(signals.Stop):
        """A request that is made by being looked for."""

        @property
        def requested(self) -> bool:
            with lock:
                looks.places.append(_place())
                looks.times.append(time.monotonic())
                return self._requested or 0 < looks.stop_at <= len(looks.places)

        @requested.setter
        def requested(self, value: bool) -> None:
            self._requested = value

    with mock.patch.object(signals, "Stop", Watched):
        yield looks


def _place() -> str:
    """The function of the package that looks, but for those that only pass it on."""
    frame = sys._getframe(2)
    while frame.f_code.co_name in _PASSING_ON or not frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}"


def run(place: Path, line: str, stop_at: int = 0) -> tuple[int, Looks]:
    """The exit code of a command in the folder `place`, and who looked."""
    with pytest.MonkeyPatch.context() as patch, watched(stop_at) as looks:
        patch.chdir(place)
        patch.setenv("CVTRAIN_CACHE", str(place / "cache"))
        patch.setenv("CVTRAIN_COMMIT_SECONDS", "0")
        patch.setattr(sys, "argv", ["cvtrain", *line.split()])
        try:
            cvtrain()
        except SystemExit as ended:
            return int(ended.code or 0), looks
    raise AssertionError("a command ends with an exit code")


def prepared(work: Path, name: str) -> Path:
    """A folder in which a command can be run: with images, a config, and what comes before it."""
    place = work / "prepared" / (name or "nothing").replace(" ", "-")
    if not place.exists():
        if not name:
            make_images(place / "images", _IMAGES, size=(32, 32))
            (place / "tiny.yaml").write_text(_CONFIG)
        else:
            shutil.copytree(prepared(work, COMMANDS[name].after), place)
            code, _ = run(place, COMMANDS[name].line)
            assert code == 0, name
            shutil.rmtree(place / "cache")
    return place


def stop_everywhere(work: Path, name: str, most: int | None = None) -> tuple[list[str], Looks]:
    """Stop a command at its first look at each place; what went wrong, and where it looks.

    Args:
        work: for all folders; the same one for all commands.
        most: places at which to stop it, evenly spread over all; None for all.
    """
    command, place = COMMANDS[name], work / "place"

    def start_again() -> None:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(prepared(work, command.after), place)

    start_again()
    code, looks = run(place, command.line)
    if code:
        return [f"{name}: exit code {code}"], looks
    wrong = []
    modules = {place.partition(".")[0] for place in looks.places}
    if missing := command.looks - modules:
        wrong.append(f"{name}: does not look in {missing}, but in {modules}")
    expected = run_outcome(place / command.run) if command.run else {}
    stops = list(looks.first_looks().items())
    chosen = range(0, len(stops), -(-len(stops) // (most or len(stops))))
    for where, number in (stops[i] for i in chosen):
        start_again()
        code, _ = run(place, command.line, number)
        if code != STOPPED:
            wrong.append(f"{name}: a stop in {where} ends with {code}")
        is_there = command.run and (place / command.run / "run.json").exists()
        code, _ = run(place, command.line + " --resume" * bool(is_there))
        if code or (command.run and run_outcome(place / command.run) != expected):
            wrong.append(f"{name}: after a stop in {where} it ends otherwise, with {code}")
    return wrong, looks


def longest_gaps(looks: Looks, started: float, ended: float) -> list[tuple[float, str, str]]:
    """Seconds between two looks and who they were by, the longest first."""
    times, places = [started, *looks.times, ended], ["start", *looks.places, "end"]
    gaps = ((times[i + 1] - times[i], places[i], places[i + 1]) for i in range(len(times) - 1))
    return sorted(gaps, reverse=True)


def _tell_gaps(line: str) -> int:
    started = time.monotonic()
    code, looks = run(Path.cwd(), line)
    print("looks", "place", sep="\t")
    for place, count in Counter(looks.places).most_common():
        print(count, place, sep="\t")
    print("seconds", "between", sep="\t")
    for seconds, place, other in longest_gaps(looks, started, time.monotonic())[:12]:
        print(f"{seconds:.2f}", f"{place} and {other}", sep="\t")
    return code


def main(arguments: Sequence[str]) -> int:
    """Print a table."""
    if arguments[:1] == ["--"]:
        return _tell_gaps(" ".join(arguments[1:]))
    all_wrong = []
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments or [name for name in COMMANDS if name != "base"]:
            wrong, looks = stop_everywhere(Path(folder).resolve(), name)
            rows.append((name, len(looks.places), len(looks.first_looks()), len(wrong)))
            print(*(f"{each}\n" for each in wrong), sep="", end="", file=sys.stderr, flush=True)
            all_wrong += wrong
    print("command", "looks", "stopped at places", "wrong", sep="\t")
    for row in rows:
        print(*row, sep="\t")
    return 1 if all_wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

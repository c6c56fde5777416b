"""Whole commands on a disk that refuses an operation: one line, nothing lost, and it goes on.

    python tests/robustness/faults/commands.py                        all commands, 40 faults each
    python tests/robustness/faults/commands.py --sample 3 fit report  these, with 3

Each command is run once to count its operations. Some of these, evenly spread, are then refused, by
each refusal in its turn, once or from then on. The command must end with exit code 5 and one line,
or, where it can do without what was refused, go on. Without the fault the same command, with
--resume where there is a run, must end as if nothing had been: with the same files, and those of a
run bit by bit.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import interposed
from interposed import FAILURES, Fault, Outcome, attempt

sys.path.insert(0, str(Path(__file__).parents[2]))
from robustness.crash.attempts import preload
from robustness.crash.outcomes import run_outcome
from tiny_images import make_images

_CONFIG = """
seed: 3
precision: float32
data: {{source: {images}, image_size: 32}}
log: [tensorboard]
augment: {{flip: horizontal, rotate: 15}}
fit:
  model: {{filters: [4, 8], padding: same, dense: [8], dropout: 0.3, batch_normalization: true}}
  epochs: 2
  batch_size: 8
  ema: 0.9
extract_features:
  backbone: {{weights: runs/base}}
  views: 2
  head: {{dense: [8]}}
  epochs: 2
  batch_size: 8
finetune: {{unfreeze_blocks: 1, epochs: 2, batch_size: 8}}
"""
_SPLITS = {"train": 8, "validation": 3, "test": 4}
_IMAGES = {f"{split}/{name}": n for split, n in _SPLITS.items() for name in ("ab", "ba")}
_REFUSED = 5


@dataclass(frozen=True)
class Command:
    """A command and what it stands on.

    Attributes:
        line: its arguments.
        after: commands that come before it.
        run: the run folder that it writes; empty where it writes none.
    """

    line: str
    after: Sequence[str] = ()
    run: str = ""


COMMANDS = {
    "fit": Command("fit tiny.yaml --run-dir runs/fit", run="runs/fit"),
    "extract-features": Command(
        "extract-features tiny.yaml --run-dir runs/head", ["base"], run="runs/head"
    ),
    "features-only": Command(
        "extract-features tiny.yaml --features-only --run-dir runs/only", ["base"]
    ),
    "finetune": Command(
        "finetune tiny.yaml --from runs/head --run-dir runs/tuned",
        ["base", "extract-features"],
        run="runs/tuned",
    ),
    "probe": Command("probe tiny.yaml --set probe.folds=2 --run-dir runs/probe", ["base"]),
    "learning-curve": Command("learning-curve tiny.yaml --run-dir runs/curve", ["base"]),
    "evaluate": Command("evaluate runs/base", ["base"]),
    "calibrate": Command("calibrate runs/base --coverage 0.9", ["base"]),
    "predict": Command("predict runs/base images/test --output said.csv", ["base"]),
    "report": Command("report runs/base", ["base"]),
    "visualize": Command("visualize runs/base --cam", ["base"]),
    "visualize again": Command("visualize runs/base --cam", ["base", "visualize"]),
    "filters": Command("visualize runs/base --filters", ["base"]),
    "data split": Command("data split images --output split.csv --force"),
    "data stats": Command("data stats images --output stats"),
    "data fetch": Command("data fetch digits data/digits"),
    "base": Command("fit tiny.yaml --run-dir runs/base", run="runs/base"),
}

_WITHOUT_ENGINE = {"data split", "data stats", "data fetch"}


def run_line(line: str, place: Path) -> Callable[[], None]:
    """The command as a task, which runs in `place`."""

    def task() -> None:
        from cvtrain.__main__ import main

        os.chdir(place)
        os.environ.update(
            CVTRAIN_CACHE=str(place / "cache"), CVTRAIN_COMMIT_SECONDS="0", COLUMNS="100"
        )
        sys.argv = ["cvtrain", *line.split()]
        main()

    return task


def exit_code(error: BaseException) -> str:
    """The exit code of a command that ends; anything else is a defect."""
    return str(error.code) if isinstance(error, SystemExit) else repr(error)


def outcome_of(command: Command, place: Path) -> dict[str, str]:
    """What a command has made: the names of files, and the contents of those of a run."""
    names = {
        str(path.relative_to(place)): ""
        for path in place.rglob("*")
        if path.is_file() and not path.is_relative_to(place / "cache")
    }
    if command.run:
        names = {n: "" for n in names if not n.startswith((command.run, "images"))}
        names |= {
            name: digest
            for name, digest in run_outcome(place / command.run).items()
            if not name.startswith("tensorboard/")  # a file for each start
        }
    return names


def verdict(command: Command, place: Path, refused: Outcome, expected: dict[str, str]) -> str:
    """What is wrong after a command that was refused something; empty when nothing is."""
    if refused.ended not in ("0", str(_REFUSED)):
        return f"exit code {refused.ended}: {refused.said[-600:]}"
    for noise in ("Traceback", "Exception ignored", "This is a defect"):
        if noise in refused.said:
            return f"says more than a person wants to know: {refused.said[-1500:]}"
    if refused.ended == str(_REFUSED) and "cannot write" not in refused.said:
        return f"does not say what: {refused.said[-300:]}"
    line = command.line
    if "--run-dir" in line and (place / line.split("--run-dir ")[1] / "run.json").exists():
        line += " --resume"
    if command.line.startswith("data fetch") and (place / "data" / "digits").exists():
        line = "data check data/digits"
    again = attempt(run_line(line, place), place, failure=exit_code)
    if again.ended != "0":
        return f"afterwards: exit code {again.ended}: {again.said[-600:]}"
    found = outcome_of(command, place)
    different = {name for name in found.keys() | expected if found.get(name) != expected.get(name)}
    return f"afterwards these differ: {sorted(different)[:9]}" if different else ""


def refuse_some(name: str, work: Path, sample: int) -> tuple[list[str], Counter[str]]:
    """Refuse a sample of a command's operations; what was wrong, and the exit codes."""
    command = COMMANDS[name]
    original, place = work / f"{name}-before", work / "place"
    original.mkdir()
    shutil.copytree(work / "images", original / "images")
    (original / "tiny.yaml").write_text(_CONFIG.format(images="images"))

    def start_again() -> None:
        # Under the same name, because a run knows where its images are.
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(original, place)

    for before in command.after:
        start_again()
        made = attempt(run_line(COMMANDS[before].line, place), place, failure=exit_code)
        assert made.ended == "0", made.said
        shutil.rmtree(original)
        shutil.copytree(place, original)
    start_again()
    whole = attempt(run_line(command.line, place), place, failure=exit_code)
    assert whole.ended == "0", whole.said
    expected = outcome_of(command, place)
    total = len(whole.operations)
    wrong, codes = [], Counter({"operations": total})
    count = min(sample, total)
    for i in range(count):
        at = 1 + (2 * i + 1) * total // (2 * count)
        fault = FAILURES[i % len(FAILURES)]
        start_again()
        refused = attempt(
            run_line(command.line, place), place, at=at, fault=fault, failure=exit_code
        )
        codes[refused.ended] += 1
        if problem := verdict(command, place, refused, expected):
            wrong.append(f"{name}, {_where(whole, at, fault)}: {problem}")
    return wrong, codes


def _where(whole: Outcome, at: int, fault: Fault) -> str:
    operation, path, _ = whole.operations[at - 1]
    return f"operation {at} ({operation} {path.name}), {fault}"


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=int, default=40)
    parser.add_argument("commands", nargs="*", choices=[[], *COMMANDS])
    options = parser.parse_args()
    names = options.commands or [name for name in COMMANDS if name != "base"]
    if not _WITHOUT_ENGINE.issuperset(names):
        preload("cvtrain", "keras.src.saving.saving_lib", "pyarrow.parquet", "sklearn.linear_model")
    all_wrong = []
    print("command", "operations", "refused", "exit code 5", "gone on", "lost", sep="\t")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder).resolve()
        make_images(work / "images", _IMAGES, size=(32, 32))
        for name in names:
            wrong, codes = refuse_some(name, work, options.sample)
            refused = codes[str(_REFUSED)] + codes["0"]
            line = codes["operations"], refused, codes[str(_REFUSED)], codes["0"], len(wrong)
            print(name, *line, sep="\t", flush=True)
            print(*(f"{each}\n" for each in wrong), sep="", end="", file=sys.stderr, flush=True)
            all_wrong += wrong
    return 1 if all_wrong else 0


if __name__ == "__main__":
    interposed.with_interposer()
    sys.exit(main())

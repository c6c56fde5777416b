"""Every operation of every kind of commit: killed before, after and amid it, refused by the disk,
followed by a power cut.

`python tests/robustness/faults/commits.py` prints a table; 1 is the exit code if anything was lost.
"""

import argparse
import importlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import interposed
import numpy as np
from interposed import (
    FAIL_FROM_THEN_ON,
    FAILURES,
    KILL_AFTER,
    KILL_AMID,
    KILL_BEFORE,
    KILLS,
    NO_ROOM,
    Fault,
    Operation,
    Outcome,
    attempt,
    lose_power,
)

from cvtrain.errors import CvtrainError, ResourceError
from cvtrain.features.store import FeatureStore
from cvtrain.runs.run import Run
from cvtrain.system.files import (
    commit_json,
    commit_text,
    committed_folder,
    is_temporary,
    restore_folder,
)
from cvtrain.training.checkpoint import Checkpoints, Snapshot

OLD, NEW = "old", "new"
NOTHING = "nothing"


@dataclass(frozen=True)
class Case:
    """Something that is committed.

    Attributes:
        commit: writes `OLD` or `NEW` into a folder.
        read: what a reader finds there, `NOTHING` if nothing, or raises.
        begins_empty: there is no `OLD` before.
        module: to import before, once for all attempts; the last case's alone, as forks of a large
            process are slow.
    """

    commit: Callable[[Path, str], object]
    read: Callable[[Path], str]
    begins_empty: bool = False
    module: str = "cvtrain.system.files"


def _read_text(folder: Path) -> str:
    path = folder / "a" / "b" / "file.txt"
    return path.read_text()[:3] if path.exists() else NOTHING


def _commit_text(folder: Path, what: str) -> None:
    commit_text(folder / "a" / "b" / "file.txt", what * 10_000)


def _commit_folder(folder: Path, what: str) -> None:
    with committed_folder(folder / "made" / "pictures", mark="mark.json") as new:
        (new / "maps").mkdir()
        (new / "maps" / f"{what}.txt").write_text(what)
        commit_json(new / "mark.json", what)


def _read_folder(folder: Path) -> str:
    path = folder / "made" / "pictures"
    restore_folder(path)  # what was put aside comes back with the next writer
    if not path.exists():
        return NOTHING
    what = json.loads((path / "mark.json").read_text())
    assert {each.name: each.read_text() for each in (path / "maps").iterdir()} == {
        f"{what}.txt": what
    }
    assert {each.name for each in path.iterdir()} == {"maps", "mark.json"}
    return what


def _snapshot(number: int) -> Snapshot:
    arrays = {f"model/{i}": np.full((64, 64), number + i, np.float32) for i in range(3)}
    return Snapshot({"number": number}, arrays)


def _checkpoint(folder: Path, what: str) -> None:
    checkpoints = Checkpoints(folder / "checkpoints" / "1")
    for number in (1, 2) if what == OLD else (3,):
        checkpoints.save(_snapshot(number))


def _read_checkpoint(folder: Path) -> str:
    warnings: list[str] = []
    snapshot = Checkpoints(folder / "checkpoints" / "1", warn=warnings.append).load()
    assert not warnings, warnings
    if snapshot is None:
        return NOTHING
    expected = _snapshot(snapshot.values["number"])
    assert all((snapshot.arrays[name] == expected.arrays[name]).all() for name in expected.arrays)
    return OLD if snapshot.values["number"] == 2 else NEW


def _keys(first: int) -> list[bytes]:
    return [bytes([first + i]) * 32 for i in range(5)]


def _commit_features(folder: Path, what: str) -> None:
    store = FeatureStore(folder / "features", shape=(40, 50), dtype="float32")
    store.make_ready()
    first = 0 if what == OLD else 5
    store.commit(_keys(first), [np.full((5, 40, 50), first, np.float32)])


def _read_features(folder: Path) -> str:
    warnings: list[str] = []
    store = FeatureStore(folder / "features", shape=(40, 50), dtype="float32", warn=warnings.append)
    assert not warnings, warnings
    found = ""
    for what, first in ((OLD, 0), (NEW, 5)):
        num_missing = len(store.missing(_keys(first)))
        assert num_missing in (0, 5)
        if not num_missing:
            assert (store.rows(_keys(first)).take(range(5)) == first).all()
            found = what
    return found or NOTHING


def _begin_run(folder: Path, _: str) -> None:
    texts = {"config.yaml": "seed: 0\n", "split.json": "{}\n"}
    Run.create(folder / "runs" / "run", "fit", files=texts, name="tiny")


def _read_new_run(folder: Path) -> str:
    path = folder / "runs" / "run"
    if not (path / "run.json").exists():
        return NOTHING
    with Run.open(path).locked() as run:
        assert run.content["name"] == "tiny"
    assert (path / "config.yaml").read_text() == "seed: 0\n"
    assert (path / "split.json").read_text() == "{}\n"
    return NEW


def _update_run(folder: Path, what: str) -> None:
    path = folder / "run"
    with (Run.open(path) if what == NEW else Run.create(path, "fit")).locked() as run:
        run.update(name=what, blocks=[{"accuracy": 0.5, "of": what}] * 300)


def _read_run(folder: Path) -> str:
    with Run.open(folder / "run").locked() as run:
        assert run.content["blocks"] == [{"accuracy": 0.5, "of": run.content["name"]}] * 300
        return run.content["name"]


def _draw(folder: Path, what: str) -> None:
    from matplotlib.figure import Figure

    from cvtrain.plots import figures

    figure = Figure(figsize=(2, 1) if what == OLD else (1, 2))
    figures.save(figure, folder / "figures" / "curves.png")


def _read_figure(folder: Path) -> str:
    from PIL import Image

    path = folder / "figures" / "curves.png"
    if not path.exists():
        return NOTHING
    with Image.open(path) as picture:
        picture.load()
        return OLD if picture.width > picture.height else NEW


CASES = {
    "a file": Case(_commit_text, _read_text),
    "a file in new folders": Case(_commit_text, _read_text, begins_empty=True),
    "a folder": Case(_commit_folder, _read_folder),
    "a new folder": Case(_commit_folder, _read_folder, begins_empty=True),
    "a checkpoint": Case(_checkpoint, _read_checkpoint),
    "the first checkpoint": Case(
        lambda folder, _: Checkpoints(folder / "checkpoints" / "1").save(_snapshot(3)),
        _read_checkpoint,
        begins_empty=True,
    ),
    "a shard of features": Case(_commit_features, _read_features),
    "the first shard": Case(_commit_features, _read_features, begins_empty=True),
    "a new run": Case(_begin_run, _read_new_run, begins_empty=True),
    "run.json": Case(_update_run, _read_run),
    "a figure": Case(_draw, _read_figure, module="cvtrain.plots.figures"),
}


def faults_of(operation: Operation, at: int, *, every: bool) -> list[Fault]:
    """What may befall an operation; unless `every`, two of the failures in turn, and a kill after
    it, which is one before the next.
    """
    half = len(FAILURES) // 2
    failures = FAILURES if every else [FAILURES[at % half], FAILURES[half + at % half]]
    modes = {KILL_AFTER, *([KILL_BEFORE] * every), *([KILL_AMID] * (operation[0] == "write"))}
    return [kill for kill in KILLS if kill.mode in modes] + failures


def how_it_failed(error: BaseException) -> str:
    """`refused` when a person would be told in one line; anything else is a defect."""
    if isinstance(error, ResourceError) and "\n" not in error.message and error.advice:
        return "refused"
    return repr(error)


def verdict(case: Case, folder: Path, outcome: Outcome) -> str:
    """What is wrong with what an attempt has left; empty when nothing is."""
    before = NOTHING if case.begins_empty else OLD
    if outcome.ended not in ("done", "killed", "refused"):
        return f"ended with {outcome.ended}"
    if outcome.ended == "refused" and outcome.said:
        return f"said more than one line: {outcome.said[-300:]}"
    for after in ("it", "a power cut"):
        if after == "a power cut":
            lose_power(outcome.operations)
        # Of a copy, because a reader may be a writer, too, and tidy up.
        copy = folder.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        try:
            found = case.read(copy)
        except (OSError, ValueError, AssertionError, LookupError, CvtrainError) as error:
            return f"cannot be read after {after}: {error!r}"
        if found not in (before, NEW):
            return f"{found} is there after {after}"
        if outcome.ended == "done" and found != NEW:
            return f"{found} is there after {after}, though it was committed"
    return ""


def left_over(folder: Path) -> list[str]:
    """Unfinished files and folders."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if is_temporary(path.name)]


def enumerate_case(
    name: str, case: Case, folder: Path, *, every: bool
) -> tuple[list[str], dict[str, object]]:
    """Attempt a commit with each fault at each operation: what was wrong, and a line of a table."""
    original, place = folder / "original", folder / "place"
    original.mkdir()
    importlib.import_module(case.module)
    if not case.begins_empty:
        attempt(lambda: case.commit(original, OLD), original)

    def start_again() -> None:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(original, place)

    def commit() -> None:
        case.commit(place, NEW)

    start_again()
    whole = attempt(commit, place, failure=how_it_failed)
    wrong = [] if whole.ended == "done" else [f"without a fault: {whole.ended} {whole.said}"]
    if case.read(place) != NEW or left_over(place):
        wrong.append(f"without a fault: {left_over(place)} are left")
    num_attempts = 0
    for at, operation in enumerate(whole.operations, 1):
        for fault in faults_of(operation, at, every=every):
            start_again()
            outcome = attempt(commit, place, at=at, fault=fault, failure=how_it_failed)
            num_attempts += 1
            where = f"{name}, operation {at} ({operation[0]} {operation[1].name}), {fault}"
            left = left_over(place)
            if problem := verdict(case, place, outcome):
                wrong.append(f"{where}: {problem}")
            elif left and outcome.ended != "killed" and not _cannot_remove(fault, operation):
                wrong.append(f"{where}: {left} are left")
            elif outcome.ended == "killed":
                again = attempt(commit, place, failure=how_it_failed)
                if again.ended != "done" and not (name == "a new run" and "there" in again.ended):
                    wrong.append(f"{where}: the next attempt: {again.ended} {again.said[-300:]}")
                elif case.read(place) != NEW:
                    wrong.append(f"{where}: the next attempt left {case.read(place)}")
    return wrong, {"commit": name, "operations": len(whole.operations), "attempts": num_attempts}


def _cannot_remove(fault: Fault, operation: Operation) -> bool:
    """A disk that refuses everything from then on, or the very removal."""
    refuses_all = fault.mode == FAIL_FROM_THEN_ON and fault.code not in NO_ROOM
    return refuses_all or operation[0] in ("unlink", "rmdir")


def main() -> int:
    """Print a table of what was tried, and what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--every", action="store_true", help="every refusal at every operation")
    parser.add_argument("commits", nargs="*", choices=[[], *CASES])
    options = parser.parse_args()
    print("commit", "operations", "attempts", "lost", sep="\t")
    all_wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(options.commits or CASES):
            place = Path(folder) / str(number)
            place.mkdir()
            wrong, line = enumerate_case(name, CASES[name], place, every=options.every)
            print(*line.values(), len(wrong), sep="\t", flush=True)
            print(*(f"{each}\n" for each in wrong[:5]), sep="", end="", file=sys.stderr, flush=True)
            all_wrong += wrong
    return 1 if all_wrong else 0


if __name__ == "__main__":
    interposed.with_interposer()
    sys.exit(main())

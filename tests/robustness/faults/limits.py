"""Commits against limits that the system itself sets: of a file's size, of a full and of a
read-only disk.

`python tests/robustness/faults/limits.py FOLDER` tries every commit of `commits.py` in FOLDER, a
small file system of its own (`test_limits.py` mounts one), and prints how many attempts were
refused.
"""

import importlib
import os
import resource
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from commits import CASES, NEW, NOTHING, OLD, Case, how_it_failed, left_over

from cvtrain.system.files import remove_abandoned

PAGE = 4096


def _attempt(case: Case, place: Path, limit: int | None = None) -> str:
    """How a commit ends in a process of its own, whose files may have `limit` bytes."""
    child = os.fork()
    if child == 0:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        code = 0
        try:
            case.commit(place, NEW)
        except BaseException as error:  # the fork must not go on as its parent
            ended = how_it_failed(error)
            code = 5 if ended == "refused" else 1
            if code == 1:
                print(ended, file=sys.stderr, flush=True)
        os._exit(code)
    _, status = os.waitpid(child, 0)
    return {0: "done", 5: "refused"}.get(os.waitstatus_to_exitcode(status), "a defect")


def _start(case: Case, place: Path) -> None:
    importlib.import_module(case.module)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    if not case.begins_empty:
        case.commit(place, OLD)


def _verdict(case: Case, place: Path, ended: str) -> str:
    found = case.read(place)
    expected = NEW if ended == "done" else NOTHING if case.begins_empty else OLD
    if found != expected or ended == "a defect":
        return f"{ended}, and {found} is there"
    return f"{left_over(place)} are left" if left_over(place) else ""


def file_sizes(folder: Path) -> tuple[list[str], Counter[str]]:
    """Every commit with RLIMIT_FSIZE growing by a page, until it is done."""
    wrong, ends = [], Counter()
    for name, case in CASES.items():
        limit, ended = 0, ""
        while ended != "done":
            _start(case, folder / "place")
            ended = _attempt(case, folder / "place", limit)
            ends[ended] += 1
            if problem := _verdict(case, folder / "place", ended):
                wrong.append(f"{name}, files of at most {limit} bytes: {problem}")
            limit += PAGE if limit else 100
    return wrong, ends


def free_room(folder: Path) -> tuple[list[str], Counter[str]]:
    """Every commit on a disk that has a page more each time, until it is done."""
    wrong, ends = [], Counter()
    filler = folder / "filler"
    for name, case in CASES.items():
        room, ended = 0, ""
        while ended != "done":
            filler.unlink(missing_ok=True)
            _start(case, folder / "place")
            status = os.statvfs(folder)
            with filler.open("wb") as file:
                file.write(bytes(max(0, status.f_bavail * status.f_frsize - room)))
            ended = _attempt(case, folder / "place")
            ends[ended] += 1
            filler.unlink()
            if problem := _verdict(case, folder / "place", ended):
                wrong.append(f"{name}, {room} bytes free: {problem}")
            room += PAGE
    return wrong, ends


def read_only(folder: Path) -> tuple[list[str], Counter[str]]:
    """Every commit on a disk that was mounted again, read-only."""
    for number, case in enumerate(CASES.values()):
        _start(case, folder / str(number))
    _mount("-o", "remount,ro", str(folder))
    wrong, ends = [], Counter()
    for number, (name, case) in enumerate(CASES.items()):
        ended = _attempt(case, folder / str(number))
        ends[ended] += 1
        if ended != "refused":
            wrong.append(f"{name}: {ended}")
    _mount("-o", "remount,rw", str(folder))
    for number, (name, case) in enumerate(CASES.items()):
        if problem := _verdict(case, folder / str(number), "refused"):
            wrong.append(f"{name}: {problem}")
    return wrong, ends


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def main(folder: Path) -> int:
    """Print a table."""
    all_wrong = []
    print("limit", "attempts", "refused", "lost", sep="\t")
    for name, limits in (
        ("of a file's size", file_sizes),
        ("of the disk's size", free_room),
        ("a read-only disk", read_only),
    ):
        wrong, ends = limits(folder)
        remove_abandoned(folder)
        print(name, ends.total(), ends["refused"], len(wrong), sep="\t")
        all_wrong += wrong
    print(*all_wrong[:20], sep="\n", file=sys.stderr)
    return 1 if all_wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

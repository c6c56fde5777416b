"""Damaged files that a resumed run reads: are they all noticed?

`python tests/robustness/faults/mutations.py` prints a table; 1 is the exit code if anything was
loaded as if nothing had happened.
"""

import csv
import io
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cvtrain.errors import RunError
from cvtrain.features.store import FeatureStore
from cvtrain.runs.run import Run
from cvtrain.system.files import append_checksum, commit_bytes, read_checksummed
from cvtrain.training.checkpoint import Checkpoints, Snapshot

NOTICED, HARMLESS, SILENT = "noticed", "harmless", "silent"
PAGE = 512

Damage = Callable[[bytes, np.random.Generator], bytes]


def _flip(content: bytes, generator: np.random.Generator, bits: int = 1) -> bytes:
    damaged = bytearray(content)
    for place in generator.choice(8 * len(content), bits, replace=False).tolist():
        damaged[place // 8] ^= 1 << place % 8
    return bytes(damaged)


def _zero_page(content: bytes, generator: np.random.Generator) -> bytes:
    start = PAGE * int(generator.integers(-(-len(content) // PAGE)))
    end = min(start + PAGE, len(content))
    return content[:start] + bytes(end - start) + content[end:]


def _swap_halves(content: bytes, generator: np.random.Generator) -> bytes:
    place = int(generator.integers(1, len(content)))
    return content[place:] + content[:place]


def _lose_some(content: bytes, generator: np.random.Generator) -> bytes:
    start, end = sorted(generator.choice(len(content), 2, replace=False).tolist())
    return content[:start] + content[end:]


DAMAGES: dict[str, Damage] = {
    "a bit flipped": _flip,
    "8 bits flipped": lambda content, generator: _flip(content, generator, 8),
    "truncated": lambda content, generator: content[: generator.integers(len(content))],
    "a page of zeros": _zero_page,
    "halves swapped": _swap_halves,
    "bytes lost inside": _lose_some,
    "bytes appended": lambda content, generator: content + generator.bytes(1 + len(content) // 9),
    "emptied": lambda _content, _generator: b"",
}


def mutations(content: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` damaged versions of a file, each kind of damage in its turn."""
    generator = np.random.default_rng(seed)
    while count:
        for name, damage in DAMAGES.items():
            damaged = damage(content, generator)
            if damaged != content and count:
                count -= 1
                yield name, damaged


def _checkpoint(folder: Path) -> tuple[Path, Callable[[], str]]:
    generator = np.random.default_rng(0)
    arrays = {f"model/{i}": generator.normal(size=(20, 30)).astype(np.float32) for i in range(4)}
    for number in (1, 2):
        Checkpoints(folder).save(Snapshot({"epoch": number, "history": [{"loss": 0.5}]}, arrays))

    def load() -> str:
        warnings: list[str] = []
        snapshot = Checkpoints(folder, warn=warnings.append).load()
        is_older = snapshot is not None and snapshot.values["epoch"] == 1
        same = is_older and all((snapshot.arrays[k] == v).all() for k, v in arrays.items())
        named = [text for text in warnings if "checkpoint-000002.npz" in text]
        return NOTICED if same and len(named) == 1 else SILENT

    return folder / "checkpoint-000002.npz", load


def _only_checkpoint(folder: Path) -> tuple[Path, Callable[[], str]]:
    path, _ = _checkpoint(folder)
    (folder / "checkpoint-000001.npz").write_bytes(b"damaged before")

    def load() -> str:
        try:
            Checkpoints(folder).load()
        except RunError:
            return NOTICED
        return SILENT

    return path, load


def _features(folder: Path) -> tuple[Path, Callable[[], str]]:
    keys = [bytes([i]) * 32 for i in range(12)]
    values = np.random.default_rng(0).normal(size=(12, 4, 4, 8)).astype(np.float32)
    for part in (slice(5), slice(5, 12)):
        FeatureStore(folder, shape=(4, 4, 8), dtype="float32").commit(keys[part], [values[part]])
    damaged = max(folder.glob("*.npy"), key=lambda path: path.stat().st_size)

    def load() -> str:
        warnings: list[str] = []
        store = FeatureStore(folder, shape=(4, 4, 8), dtype="float32", warn=warnings.append)
        are_missing = store.missing(keys) == list(range(5, 12))
        same = are_missing and (store.rows(keys[:5]).take(range(5)) == values[:5]).all()
        damaged.with_suffix(".damaged").unlink(missing_ok=True)
        return NOTICED if same and len(warnings) == 1 else SILENT

    return damaged, load


def _record(folder: Path) -> tuple[Path, Callable[[], str]]:
    run = Run.create(folder / "run", "probe", name="tiny", seed=3, precision="float32")
    rows = [{"block": f"block{i}", "accuracy": 0.9 - 0.01 * i} for i in range(9)]
    run.update(blocks=rows, seconds={"total": 12.5, "train": 11.25}, class_names=["cat", "dög"])
    record = dict(run.content)

    def load() -> str:
        try:
            with Run.open(run.path).locked() as again:
                # Space between values may change, and the name of the seal: what counts is there.
                known = {key: again.content.get(key) for key in record}
                return HARMLESS if known == record else SILENT
        except RunError:
            return NOTICED

    return run.path / "run.json", load


def _sealed_array(folder: Path) -> tuple[Path, Callable[[], str]]:
    path = folder / "correct.npy"
    text = io.BytesIO()
    np.save(text, np.random.default_rng(0).random((9, 200)) < 0.8)
    commit_bytes(path, text.getvalue())
    append_checksum(path)
    return path, lambda: SILENT if read_checksummed(path) else NOTICED


FILES = {
    "the newer of two checkpoints": (_checkpoint, 400),
    "the only checkpoint": (_only_checkpoint, 100),
    "a shard of features": (_features, 250),
    "run.json": (_record, 200),
    "correct.npy of a learning curve": (_sealed_array, 50),
}


def try_all(folder: Path, seed: int = 0) -> dict[str, Counter[str]]:
    """Damage each file as often as `FILES` says: how often that was noticed, by file."""
    results = {}
    for name, (make, count) in FILES.items():
        place = folder / name.replace(" ", "-")
        place.mkdir()
        path, load = make(place)
        content = path.read_bytes()
        results[name] = Counter()
        for damage, damaged in mutations(content, count, seed):
            path.write_bytes(damaged)
            ended = load()
            results[name][ended] += 1
            if ended == SILENT:
                print(f"{name}: {damage} is not noticed", file=sys.stderr)
        shutil.rmtree(place)
    return results


def main() -> int:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        results = try_all(Path(folder))
    table = csv.writer(sys.stdout, delimiter="\t", lineterminator="\n")
    table.writerow(("file", "mutations", NOTICED, HARMLESS, SILENT))
    for name, found in results.items():
        table.writerow((name, found.total(), found[NOTICED], found[HARMLESS], found[SILENT]))
    return 1 if any(found[SILENT] for found in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())

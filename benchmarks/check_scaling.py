"""Does the time per file stay constant while a data set grows? Index and check, new and again.

    python benchmarks/check_scaling.py
    python benchmarks/check_scaling.py --sizes 1000 10000

Each size runs in a process of its own, so that its peak memory is its own. The images are different
64x64 JPEGs in ten classes; files and findings live in a temporary folder. No pixels are kept, so
the peak is what the check itself needs; in use, pixels may take a quarter of the memory as well.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from cvtrain.data.check import check_index
from cvtrain.data.index import build_index
from cvtrain.images.decode import Decoder
from cvtrain.images.pixel_cache import PixelCache

IMAGE_SIZE = (64, 64)
FILES_PER_FOLDER = 1000


def main() -> None:
    """Parse the command line, measure each size, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    print("Microseconds per file, elapsed (of processor time):")
    print("| files | index | check | check again | peak memory, MB |")
    print("|--:|--:|--:|--:|--:|")
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_images(Path(folder) / "images", size)
            print(f"| {size:,} | {' | '.join(measured_apart(Path(folder)))} |", flush=True)


def write_images(root: Path, number: int) -> None:
    """Write `number` different JPEGs: the number of each is drawn into it as light and dark."""
    noise = np.random.default_rng(0).integers(0, 100, (*IMAGE_SIZE, 3))
    for i in range(number):
        folder = root / f"class {i % 10}" / f"{i // (10 * FILES_PER_FOLDER)}"
        folder.mkdir(parents=True, exist_ok=True)
        bits = (i >> np.arange(IMAGE_SIZE[0]).reshape(-1, 1, 1) // 3) & 1
        Image.fromarray((noise + 150 * bits).astype(np.uint8)).save(folder / f"{i}.jpg")


def measured_apart(folder: Path) -> list[str]:
    """The cells of one row, measured in a new process."""
    command = [sys.executable, __file__, "--measure", str(folder)]
    environment = os.environ | {"CVTRAIN_CACHE": str(folder / "cache")}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def measure(folder: Path) -> list[str]:
    """Times of indexing, checking and checking again, and the peak of the memory, as text."""
    clock = Clock()
    index = build_index(folder / "images", validation=0.15, test=0.15, seed=0)
    times = [clock.lap()]
    for _ in ("new", "again"):
        report = check_index(index, PixelCache(index.root, Decoder(IMAGE_SIZE), memory_limit=0))
        times.append(clock.lap())
        assert not report.problems, report.problems[:3]
    cells = [
        f"{elapsed / report.num_files * 1e6:,.0f} ({processor / report.num_files * 1e6:,.0f})"
        for elapsed, processor in times
    ]
    return [*cells, f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f}"]


class Clock:
    """Elapsed and processor seconds since the lap before."""

    def __init__(self):
        self.start = time.perf_counter(), time.process_time()

    def lap(self) -> tuple[float, float]:
        """Seconds of this lap; the next one starts."""
        now = time.perf_counter(), time.process_time()
        elapsed = now[0] - self.start[0], now[1] - self.start[1]
        self.start = now
        return elapsed


if __name__ == "__main__":
    main()

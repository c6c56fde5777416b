"""Do features cost the same for each image, and no more memory, while a data set grows?

    python benchmarks/extraction_scaling.py
    python benchmarks/extraction_scaling.py --sizes 1000 10000

MobileNet of a quarter of the width, random weights, on 64x64 JPEGs. "extract" decodes, computes and
commits; "again" finds all in the cache; "read" is one pass over the cached rows in the order of
training. Each size runs in a process of its own. No pixels are kept (in use they may take a quarter
of the memory as well), so "memory" is the peak beyond what the process has when it has computed one
batch; "of which files" is mapped from disk, and the system may take it back at any time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from check_scaling import Clock, write_images

from cvtrain.data.check import check_index
from cvtrain.data.index import build_index
from cvtrain.features.batches import feature_training_batches
from cvtrain.features.extract import BATCH_SIZE, CachedViews, extract, open_stores
from cvtrain.images.decode import Decoder
from cvtrain.images.pixel_cache import PixelCache
from cvtrain.models.backbones import build_backbone

IMAGE_SIZE = (64, 64)


def main() -> None:
    """Parse the command line, measure each size, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 50_000])
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    print("Microseconds per image; memory in MB:")
    print("| images | extract | again | read | memory | of which files |")
    print("|--:|--:|--:|--:|--:|--:|")
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_images(Path(folder, "images"), size)
            print(f"| {size:,} | {' | '.join(measured_apart(Path(folder)))} |", flush=True)


def measured_apart(folder: Path) -> list[str]:
    """The cells of one row, measured in a new process."""
    command = [sys.executable, __file__, "--measure", str(folder)]
    environment = os.environ | {"CVTRAIN_CACHE": str(folder / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def measure(folder: Path) -> list[str]:
    """Times for each image, and memory, as text."""
    index = build_index(folder / "images", validation=0, test=0, seed=0)
    pixels = PixelCache(index.root, Decoder(IMAGE_SIZE), memory_limit=0)
    check_index(index, pixels)
    split = index.splits["train"]
    digests = [pixels.digests[path] for path in split.paths]
    base = build_backbone("mobilenet", image_size=IMAGE_SIZE, weights=None, alpha=0.25, seed=0)
    stores = open_stores(base)
    extract(base, stores, pixels, [CachedViews(split.paths[:BATCH_SIZE], digests[:BATCH_SIZE])])

    before = memory("VmRSS"), memory("RssFile")
    clock = Clock()
    views = CachedViews(split.paths, digests)
    computed = [extract(base, stores, pixels, [views])]
    seconds = [clock.lap()[0]]
    computed.append(extract(base, stores, pixels, [views]))
    seconds.append(clock.lap()[0])
    assert computed == [len(digests) - BATCH_SIZE, 0], computed

    batches = feature_training_batches(
        stores[0].rows(views.keys), split.labels, batch_size=BATCH_SIZE, seed=0
    )
    for _ in range(len(digests) // BATCH_SIZE):
        next(batches)
    batches.close()
    seconds.append(clock.lap()[0])
    peak = memory("VmHWM") - before[0], memory("RssFile") - before[1]
    return [f"{each / len(digests) * 1e6:,.0f}" for each in seconds] + [f"{mb:,.0f}" for mb in peak]


def memory(field: str) -> float:
    """What the kernel counts for this process, in MB: VmRSS now, VmHWM at its highest."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


if __name__ == "__main__":
    main()

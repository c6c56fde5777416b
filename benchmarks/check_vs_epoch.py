"""How long `cvtrain data check` takes, against one plain Keras epoch over the same files.

    python benchmarks/check_vs_epoch.py --data DIR --turns 5

Checked are the training images: DIR/train has one folder per class. In each turn, in this order and
each in a process of its own: the check with nothing remembered, the check again, Keras reading the
images once, and the book's convnet in a hand-written Keras script. The checks count from the start
of their process to its end; Keras counts without its start, and its second epoch without tracing
either. Printed are medians over the turns, and of each turn's ratio. The files are read once before
the first turn, so that nobody waits for the disk.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPT = Path(__file__).parent / "rivals" / "keras_script.py"
CHECKS = ("check", "check, remembered")
KERAS = ("Keras, reading alone", "Keras, first epoch", "Keras, second epoch")
READ_ONCE = """
import sys, time, keras
folder, size, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
start = time.perf_counter()
dataset = keras.utils.image_dataset_from_directory(
    folder, image_size=(size, size), batch_size=batch, verbose=False
)
for _ in dataset:
    pass
print(time.perf_counter() - start)
"""


def main() -> None:
    """Parse the arguments, let the contenders take turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/clothing"))
    parser.add_argument("--size", type=int, default=180, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=32, help="images in a batch")
    parser.add_argument("--turns", type=int, default=5, help="turns of each contender")
    options = parser.parse_args()

    files = [path for path in (options.data / "train").rglob("*") if path.is_file()]
    size = sum(len(path.read_bytes()) for path in files)
    print(f"{len(files):,} files of {size / 2**20:,.0f} MiB")
    seconds: dict[str, list[float]] = {name: [] for name in CHECKS + KERAS}
    for number in range(options.turns):
        taken = [*check_twice(options), read_once(options), *two_epochs(options)]
        for name, value in zip(seconds, taken, strict=True):
            seconds[name].append(value)
        print(f"turn {number + 1}: {[round(value, 1) for value in taken]}", file=sys.stderr)

    print("| | seconds | check : this | check, remembered : this |\n|---|--:|--:|--:|")
    for name, taken in seconds.items():
        ratios = [median_ratio(seconds[check], taken) for check in CHECKS]
        print(f"| {name} | {statistics.median(taken):.1f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")


def median_ratio(own: list[float], other: list[float]) -> float:
    """The median over the turns of what one takes of the other."""
    return statistics.median(a / b for a, b in zip(own, other, strict=True))


def check_twice(options: argparse.Namespace) -> list[float]:
    """Seconds of `cvtrain data check` with nothing remembered, and of the same again."""
    command = [sys.executable, "-m", "cvtrain", "data", "check", str(options.data / "train")]
    command += ["--set", f"data.image_size={options.size}"]
    times = []
    with tempfile.TemporaryDirectory() as cache:
        for _ in CHECKS:
            start = time.perf_counter()
            out = output_of(command, {"CVTRAIN_CACHE": cache})
            times.append(time.perf_counter() - start)
            assert "files checked" in out
    return times


def read_once(options: argparse.Namespace) -> float:
    """Seconds in which `image_dataset_from_directory` is read to its end."""
    words = [options.data / "train", options.size, options.batch]
    return float(output_of([sys.executable, "-c", READ_ONCE, *map(str, words)]))


def two_epochs(options: argparse.Namespace) -> list[float]:
    """Seconds of the first two epochs of the hand-written script."""
    words = [options.data, "--size", options.size, "--batch", options.batch, "--epochs", 2]
    out = output_of([sys.executable, str(SCRIPT), *map(str, words)])
    return [json.loads(line)["seconds"] for line in out.splitlines()]


def output_of(command: list[str], environment: dict[str, str] | None = None) -> str:
    """What a process of its own prints."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    return subprocess.run(
        command,
        env=os.environ | quiet | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        text=True,
    ).stdout


if __name__ == "__main__":
    main()

"""`cvtrain fit` against a hand-written Keras and a careful PyTorch script, from JPEGs on disk.

All three train the book's augmented convnet on the same images. They take turns, each turn is a new
process; printed are medians over the turns, and medians of each turn's ratio. A steady epoch is any
but the first. The first one of `cvtrain` includes its check of all files.

    python benchmarks/fit_vs_scripts.py --data DIR --pairs 5 --torch-python /path/to/python

DIR has the folders train, validation and test. PyTorch is no dependency of cvtrain: without
--torch-python, a Python that has torch, numpy and pillow, that rival is left out.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

RIVALS = Path(__file__).parent / "rivals"
EVALUATION_IMAGES = 40  # of no interest here, but `cvtrain fit` needs some


@dataclass(frozen=True)
class Turn:
    """How fast one training was: images per second, and seconds of the whole process."""

    steady: float
    first: float
    seconds: float


def main() -> None:
    """Parse the arguments, let the contenders take turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/clothing"))
    parser.add_argument("--images", type=int, default=1280, help="training images")
    parser.add_argument("--size", type=int, default=150, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=32, help="images in a batch")
    parser.add_argument("--epochs", type=int, default=3, help="epochs in a turn")
    parser.add_argument("--pairs", type=int, default=5, help="turns of each contender")
    parser.add_argument("--torch-python", type=Path, help="a Python that has torch")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        images = copy_images(options.data / "train", data / "train", options.images)
        for split in ("validation", "test"):
            copy_images(options.data / split, data / split, EVALUATION_IMAGES)

        contenders: dict[str, Callable[[], Turn]] = {
            "cvtrain fit": lambda: fit(data, images, options),
            "Keras script": lambda: script(
                [sys.executable, RIVALS / "keras_script.py", data, "--augment"], images, options
            ),
        }
        if options.torch_python:
            contenders["PyTorch script"] = lambda: script(
                [options.torch_python, RIVALS / "torch_script.py", data / "train"], images, options
            )
        else:
            print("No --torch-python: the PyTorch script is left out.", file=sys.stderr)

        turns: dict[str, list[Turn]] = {name: [] for name in contenders}
        for number in range(options.pairs):
            for name, run in contenders.items():
                turns[name].append(run())
                print(f"turn {number + 1}: {name}: {turns[name][-1]}", file=sys.stderr)
    print_table(turns)


def copy_images(source: Path, target: Path, count: int) -> int:
    """Copy up to `count` images, taking from the classes in turn; say how many there were."""
    classes = [sorted(path.iterdir()) for path in sorted(source.iterdir()) if path.is_dir()]
    longest = max(len(files) for files in classes)
    in_turn = [files[i] for i in range(longest) for files in classes if i < len(files)]
    for file in in_turn[:count]:
        folder = target / file.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder)
    return len(in_turn[:count])


def fit(data: Path, images: int, options: argparse.Namespace) -> Turn:
    """One training by `cvtrain fit`, with nothing remembered from earlier ones."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.yaml")
        recipe = {
            "data": {"source": str(data), "image_size": [options.size, options.size]},
            "augment": {
                "flip": "horizontal",
                "rotate": 40,
                "shift": 0.2,
                "shear": 0.2,
                "zoom": 0.2,
            },
            "fit": {
                "model": {"filters": [32, 64, 128, 128], "dense": [512], "dropout": 0.5},
                "epochs": options.epochs,
                "batch_size": options.batch,
                "optimizer": {"name": "rmsprop", "learning_rate": 1e-4},
            },
        }
        config.write_text(yaml.safe_dump(recipe))
        run = Path(folder, "run")
        command = [sys.executable, "-m", "cvtrain", "fit", config, "--run-dir", run]
        _, seconds = timed(command, os.environ | {"CVTRAIN_CACHE": str(Path(folder, "cache"))})
        with (run / "history.csv").open() as file:
            epochs = [float(row["seconds"]) for row in csv.DictReader(file)]
        epochs[0] += json.loads((run / "run.json").read_text())["seconds"]["data"]
    return turn(epochs, images, seconds)


def script(command: list, images: int, options: argparse.Namespace) -> Turn:
    """One training by a rival."""
    for key in ("size", "batch", "epochs"):
        command = [*command, f"--{key}", str(getattr(options, key))]
    output, seconds = timed(command, dict(os.environ))
    epochs = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return turn([epoch["seconds"] for epoch in epochs], images, seconds)


def timed(command: list, environment: dict[str, str]) -> tuple[str, float]:
    """Standard output of a process that must succeed, and the seconds it took."""
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return done.stdout, time.perf_counter() - start


def turn(epochs: list[float], images: int, seconds: float) -> Turn:
    """The speed of a training, from the seconds of its epochs."""
    return Turn(images / statistics.median(epochs[1:]), images / epochs[0], seconds)


def print_table(turns: dict[str, list[Turn]]) -> None:
    """Medians, and how many times as fast `cvtrain fit` was."""
    own = turns["cvtrain fit"]
    print("| | steady, images/s | cvtrain is | first epoch, images/s | cvtrain is | process, s |")
    print("|---|---|---|---|---|---|")
    for name, theirs in turns.items():
        cells = []
        for phase in ("steady", "first"):
            rates = [getattr(turn, phase) for turn in theirs]
            pairs = zip(own, rates, strict=True)
            ratio = statistics.median(getattr(mine, phase) / rate for mine, rate in pairs)
            cells += [f"{statistics.median(rates):.0f}", f"{ratio:.2f}x"]
        cells.append(f"{statistics.median(turn.seconds for turn in theirs):.0f}")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

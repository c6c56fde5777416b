"""What checkpoints and determinism cost of a training, as ratios of turns that alternate.

The training is that of `cvtrain fit` on the book's augmented convnet, on generated pixels. A turn
is one training; its first epoch, which compiles, is not timed. Turns with checkpoints at their
default settings and without take place in one process; those with and without deterministic
operations each in a new one, because TensorFlow cannot go back.

    python benchmarks/checkpoint_overhead.py --turns 7
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.data.batches import ordered_batches, training_batches
from cvtrain.data.index import Split
from cvtrain.models.convnet import build_convnet
from cvtrain.sections import Augment, Convnet, Optimizer, Training
from cvtrain.system.signals import Stop
from cvtrain.training.checkpoint import Checkpoints, Snapshot
from cvtrain.training.loop import train
from cvtrain.training.state import Progress

NUM_CLASSES = 10
LEARNING_RATE = 1e-4
RECIPE = Augment(flip="horizontal", rotate=40, shift=0.2, shear=0.2, zoom=0.2)


def main() -> None:
    """Parse the arguments, measure and print the lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=7, help="of each kind")
    parser.add_argument("--epochs", type=int, default=6, help="in a turn, one more than are timed")
    parser.add_argument("--images", type=int, default=1920, help="training images")
    parser.add_argument("--size", type=int, default=150, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=32, help="images in a batch")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--turn", choices=["deterministic", "free"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        if options.turn == "deterministic":
            backend.set_up(seed=0, device="cpu")
        keras.utils.set_random_seed(0)
        print(timed_training(options, None))
        return
    measure_determinism(options)
    measure_checkpoints(options)


def measure_checkpoints(options: argparse.Namespace) -> None:
    """Turns with and without checkpoints."""
    backend.set_up(seed=0, device="cpu")
    ratios, shares, saves, size = [], [], [], 0
    for number in range(options.turns):
        with tempfile.TemporaryDirectory(dir=".") as folder:  # on a disk, and not in memory
            checkpoints = TimedCheckpoints(Path(folder))
            kinds = [checkpoints, None] if number % 2 else [None, checkpoints]
            seconds = {kind: timed_training(options, kind) for kind in kinds}
            size = checkpoints.newest.stat().st_size
        ratios.append(seconds[checkpoints] / seconds[None])
        shares.append(sum(checkpoints.seconds) / seconds[checkpoints])
        saves.append(checkpoints.seconds)
        tell(f"checkpoints, turn {number + 1}: {ratios[-1]:.4f}, {len(saves[-1])} saves")
    each = statistics.median(second for turn in saves for second in turn)
    print(
        f"checkpoints: {share(ratios)}; {statistics.median(map(len, saves)):.0f} saves a turn, "
        f"each {each:.2f} s and {size / 1e6:.1f} MB, "
        f"which are {100 * statistics.median(shares):.1f} % of the time"
    )


def measure_determinism(options: argparse.Namespace) -> None:
    """Turns with and without deterministic operations."""
    ratios = []
    for number in range(options.turns):
        kinds = ["deterministic", "free"]
        seconds = {kind: turn(kind) for kind in (kinds if number % 2 else reversed(kinds))}
        ratios.append(seconds["deterministic"] / seconds["free"])
        tell(f"determinism, turn {number + 1}: {ratios[-1]:.4f}")
    print(f"determinism: {share(ratios)}")


def turn(kind: str) -> float:
    """Seconds of a training in a new process."""
    command = [sys.executable, *sys.argv, "--turn", kind]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


class TimedCheckpoints(Checkpoints):
    """Checkpoints that remember how long each took, and where the newest lies."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self._where = folder
        self.seconds: list[float] = []

    @property
    def newest(self) -> Path:
        """The newest file."""
        return max(self._where.glob("checkpoint-*"))

    def save(self, snapshot: Snapshot) -> None:
        """Save, and take the time."""
        started = time.perf_counter()
        super().save(snapshot)
        self.seconds.append(time.perf_counter() - started)


def timed_training(options: argparse.Namespace, checkpoints: Checkpoints | None) -> float:
    """Seconds from the first step of the second epoch to the end."""
    generator = np.random.default_rng(0)
    paths = tuple(str(i) for i in range(options.images))
    size = (options.size, options.size)
    pixels = {path: generator.integers(0, 256, (*size, 3), np.uint8) for path in paths}
    split = Split(paths, generator.integers(0, NUM_CLASSES, options.images).astype(np.int32))
    held_out = Split(paths[:64], split.labels[:64])
    model = build_convnet(
        Convnet(dropout=0.5),
        image_size=size,
        num_classes=NUM_CLASSES,
        precision=options.precision,
        for_training=True,
    )
    steps = options.images // options.batch
    started: list[float] = []

    def on_step(progress: Progress) -> None:
        if progress.epoch == 2 and not started:
            started.append(time.perf_counter())

    train(
        model,
        Training(epochs=options.epochs, optimizer=Optimizer(learning_rate=LEARNING_RATE)),
        batches=lambda step: training_batches(
            pixels,
            split,
            batch_size=options.batch,
            seed=0,
            steps_per_epoch=steps,
            start_step=step,
            augmentation=RECIPE,
        ),
        validation=lambda: ordered_batches(pixels, held_out, batch_size=64),
        steps_per_epoch=steps,
        precision=options.precision,
        stop=Stop(),
        checkpoints=checkpoints,
        on_step=on_step,
    )
    return time.perf_counter() - started[0]


def share(ratios: list[float]) -> str:
    """The median of what was lost, and its range."""
    low, middle, high = (100 * (f(ratios) - 1) for f in (min, statistics.median, max))
    return f"{middle:+.1f} % ({low:+.1f} to {high:+.1f} %, {len(ratios)} turns)"


def tell(text: str) -> None:
    """A line about how far it is."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

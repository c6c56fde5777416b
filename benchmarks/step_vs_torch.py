"""The training step alone against PyTorch's: the book's convnet, uint8 batches, RMSprop.

Every contender is a process of its own that waits while the others take their turns. Printed are
medians over the turns: images per second, processor time per image (which other work on the machine
blurs less), and the median of each turn's ratio.

    python benchmarks/step_vs_torch.py --pairs 5 --torch-python /path/to/python

The Python given has torch and numpy, which are no dependencies of cvtrain. `keep memory` tells the
C library to keep freed memory instead of returning it to the system at every step: few scripts do,
PyTorch gains from it, TensorFlow keeps its memory by itself.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

NUM_CLASSES = 10
FILTERS = (32, 64, 128, 128)
BATCHES = 4  # that the steps go round
LEARNING_RATE = 1e-4

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 31)}


@dataclass(frozen=True)
class Contender:
    """An engine with its settings: `build` makes the step, in a process with `environment`."""

    engine: str
    settings: dict
    environment: dict[str, str]


def torch(environment: dict[str, str] | None = None, **settings: bool) -> Contender:
    """A PyTorch variant; what is not named is off."""
    return Contender("torch", settings, environment or {})


CONTENDERS = {
    "cvtrain bfloat16": Contender("cvtrain", {"precision": "bfloat16"}, {}),
    "cvtrain float32": Contender("cvtrain", {"precision": "float32"}, {}),
    "PyTorch NCHW": torch(),
    "PyTorch channels_last": torch(channels_last=True),
    "PyTorch NCHW, bf16 autocast": torch(bfloat16=True),
    "PyTorch channels_last, bf16 autocast": torch(channels_last=True, bfloat16=True),
    "PyTorch channels_last, bf16 autocast, keep memory": torch(
        KEEP_MEMORY, channels_last=True, bfloat16=True
    ),
    "PyTorch channels_last, torch.compile": torch(channels_last=True, compiled=True),
    "PyTorch NCHW, bf16 autocast, torch.compile": torch(bfloat16=True, compiled=True),
    "PyTorch channels_last, bf16 autocast, torch.compile": torch(
        channels_last=True, bfloat16=True, compiled=True
    ),
}


@dataclass(frozen=True)
class Turn:
    """The speed of a few steps: images per second, and milliseconds of processor time per image."""

    rate: float
    processor: float


def main() -> None:
    """Parse the arguments, let the contenders take turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="turns of each contender")
    parser.add_argument("--steps", type=int, default=8, help="steps in a turn")
    parser.add_argument("--size", type=int, default=150, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=32, help="images in a batch")
    parser.add_argument("--torch-python", type=Path, help="a Python that has torch")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(CONTENDERS[options.serve], options)
        return
    if not options.torch_python:
        print("No --torch-python: PyTorch is left out.", file=sys.stderr)

    processes = {}
    for name, contender in CONTENDERS.items():
        python = sys.executable if contender.engine == "cvtrain" else options.torch_python
        if not python:
            continue
        process = start(python, name, contender, options)
        if process.stdout.readline():
            processes[name] = process
        else:
            print(f"{name} does not work here: {process.communicate()[1]}", file=sys.stderr)
    turns: dict[str, list[Turn]] = {name: [] for name in processes}
    for number in range(options.pairs):
        for name, process in processes.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            turns[name].append(Turn(**json.loads(process.stdout.readline())))
            print(f"turn {number + 1}: {name}: {turns[name][-1]}", file=sys.stderr)
    for process in processes.values():
        process.communicate()
    print_table(turns)


def start(
    python: str | Path, name: str, contender: Contender, options: argparse.Namespace
) -> subprocess.Popen:
    """Start a contender; it writes a line when it is ready, and a turn for each line it gets."""
    command = [str(python), __file__, "--serve", name]
    for key in ("steps", "size", "batch"):
        command += [f"--{key}", str(getattr(options, key))]
    pipe = subprocess.PIPE
    environment = os.environ | contender.environment
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment
    )


def serve(contender: Contender, options: argparse.Namespace) -> None:
    """Build the step of one framework, warm it up and run it on request."""
    rng = np.random.default_rng(0)
    shape = (options.batch, options.size, options.size, 3)
    batches = [
        (
            rng.integers(0, 256, shape, dtype=np.uint8),
            rng.integers(0, NUM_CLASSES, options.batch, dtype=np.int64),
        )
        for _ in range(BATCHES)
    ]
    build = {"cvtrain": cvtrain_step, "torch": torch_step}[contender.engine]
    step = build(options.size, **contender.settings)
    for images, labels in batches:
        step(images, labels)
    print("ready", flush=True)
    for _ in sys.stdin:
        step(*batches[0])  # brings the caches back
        elapsed, processor = time.perf_counter(), time.process_time()
        for i in range(options.steps):
            step(*batches[i % BATCHES])
        elapsed, processor = time.perf_counter() - elapsed, time.process_time() - processor
        images = options.steps * options.batch
        print(
            json.dumps({"rate": images / elapsed, "processor": 1000 * processor / images}),
            flush=True,
        )


def cvtrain_step(size: int, *, precision: str) -> Callable[[np.ndarray, np.ndarray], None]:
    """The step that `cvtrain fit` takes."""
    from cvtrain import backend
    from cvtrain.models.convnet import build_convnet
    from cvtrain.models.saved_model import logits_model
    from cvtrain.sections import Convnet, Optimizer
    from cvtrain.training.optimizers import build_optimizer

    backend.set_up(seed=0, device="cpu")
    model = build_convnet(
        Convnet(filters=FILTERS, dropout=0.5),
        image_size=(size, size),
        num_classes=NUM_CLASSES,
        precision=precision,
        for_training=True,
    )
    optimizer = build_optimizer(Optimizer(learning_rate=LEARNING_RATE), precision=precision)
    train_step = backend.train_step(logits_model(model), optimizer)

    def step(images: np.ndarray, labels: np.ndarray) -> None:
        train_step.run(images, labels, LEARNING_RATE)
        train_step.totals  # noqa: B018 - reading waits for the device

    return step


def torch_step(
    size: int, *, channels_last: bool = False, bfloat16: bool = False, compiled: bool = False
) -> Callable[[np.ndarray, np.ndarray], None]:
    """The same step by PyTorch."""
    import torch
    from torch import nn

    stages, channels, side = [], 3, size
    for filters in FILTERS:
        stages += [nn.Conv2d(channels, filters, 3), nn.ReLU(), nn.MaxPool2d(2)]
        channels, side = filters, (side - 2) // 2
    head = [nn.Dropout(0.5), nn.Linear(channels * side**2, 512), nn.ReLU()]
    net = nn.Sequential(*stages, nn.Flatten(), *head, nn.Linear(512, NUM_CLASSES))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = net.to(memory_format=layout)
    # Faster than foreach=False; there is no fused RMSprop on processors.
    optimizer = torch.optim.RMSprop(
        net.parameters(), lr=LEARNING_RATE, alpha=0.9, eps=1e-7, foreach=True
    )
    loss_function = nn.CrossEntropyLoss()
    forward = torch.compile(net) if compiled else net

    def step(images: np.ndarray, labels: np.ndarray) -> None:
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
        pixels = pixels.contiguous(memory_format=layout).float().div_(255)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            loss = loss_function(forward(pixels), torch.from_numpy(labels))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def print_table(turns: dict[str, list[Turn]]) -> None:
    """Medians, and how many times as fast cvtrain was."""
    own = turns["cvtrain bfloat16"]
    print("| training step | images/s | processor ms/image | cvtrain bfloat16 is | by processor |")
    print("|---|---|---|---|---|")
    ratios = {}
    for name, theirs in turns.items():
        pairs = list(zip(own, theirs, strict=True))
        ratios[name] = statistics.median(mine.rate / turn.rate for mine, turn in pairs)
        by_processor = statistics.median(turn.processor / mine.processor for mine, turn in pairs)
        rate = statistics.median(turn.rate for turn in theirs)
        processor = statistics.median(turn.processor for turn in theirs)
        print(
            f"| {name} | {rate:.0f} | {processor:.1f} | {ratios[name]:.2f}x | {by_processor:.2f}x |"
        )
    rivals = {name: ratio for name, ratio in ratios.items() if name.startswith("PyTorch")}
    if rivals:
        best = min(rivals, key=rivals.get)
        print(f"\nThe best rival: {best}; cvtrain bfloat16 is {rivals[best]:.2f}x as fast.")


if __name__ == "__main__":
    main()

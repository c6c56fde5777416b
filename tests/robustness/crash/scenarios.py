"""The commands that are killed: what they train on, and with what config."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from robustness.crash.attempts import attempt
from robustness.crash.outcomes import run_outcome
from tiny_images import make_images

PROGRAM = "cvtrain.__main__"
COMMANDS = ("fit", "extract-features", "finetune")

# "ab" and "ba" look alike to `make_images`: so there are mistakes, a plateau and an early end.
_CLASSES = ("ab", "ba", "c")
_COUNTS = {"train": 32, "validation": 8, "test": 6}
_SIZE = (32, 32)

_CONFIG = """
seed: {seed}
precision: {precision}
data: {{source: {images}, image_size: 32}}
augment: {{flip: horizontal, rotate: 15, shift: 0.1, zoom: 0.1, brightness: 0.1, erase: 0.2}}
fit:
  model: {{filters: [8, 8, 16], padding: same, dense: [8], dropout: 0.3, batch_normalization: true}}
  epochs: 8
  steps_per_epoch: 16
  batch_size: 8
  monitor: {monitor}
  early_stopping: 3
  ema: 0.9
  label_smoothing: 0.05
  optimizer: {{name: {optimizer}, learning_rate: 1e-2}}
  schedule: {{name: plateau, patience: 1, factor: 0.5, warmup_epochs: 0.5}}
extract_features:
  backbone: {{weights: {base}}}
  head: {{dense: [8], dropout: 0.3}}
  views: 24
  epochs: 5
  steps_per_epoch: 16
  batch_size: 8
  monitor: {monitor}
  early_stopping: 3
  ema: 0.9
  optimizer: {{name: {optimizer}, learning_rate: 1e-2}}
  schedule: {{name: plateau, patience: 1, factor: 0.5}}
finetune:
  unfreeze_blocks: 1
  views: 12
  epochs: 3
  steps_per_epoch: 12
  batch_size: 8
  ema: 0.9
  optimizer: {{name: {optimizer}, learning_rate: 1e-3}}
  schedule: {{name: plateau, patience: 1, factor: 0.5}}
  then:
    - unfreeze_blocks: 3
      rate_decay: 0.4
      batch_normalization: train
      epochs: 3
      steps_per_epoch: 12
      batch_size: 8
      early_stopping: 2
      optimizer: {{name: {optimizer}, learning_rate: 3e-4}}
      schedule: {{name: cosine}}
"""
_VARIANTS = (
    {"precision": "float32", "monitor": "val_loss", "optimizer": "adam"},
    {"precision": "bfloat16", "monitor": "val_accuracy", "optimizer": "rmsprop"},
    {"precision": "float32", "monitor": "val_accuracy", "optimizer": "adamw"},
)


@dataclass(frozen=True)
class Scenario:
    """A program that is killed, started anew, and compared with one that ran through.

    Attributes:
        name, seed: which it is.
        program: the module whose `main()` it is.
        arguments: folder of the chain, generator -> command line of the next attempt there.
        environment: folder of the chain -> more variables.
        outcome: folder of the chain -> digests by name, once it is done.
    """

    name: str
    seed: int
    program: str
    arguments: Callable[[Path, np.random.Generator], list[str]]
    environment: Callable[[Path], dict[str, str]]
    outcome: Callable[[Path], dict[str, str]]


def prepare_images(work: Path) -> Path:
    """The images of all scenarios in `work`."""
    images = work / "images"
    if not images.exists():
        counts = {f"{split}/{name}": n for split, n in _COUNTS.items() for name in _CLASSES}
        make_images(images, counts, size=_SIZE)
    return images


def prepare(work: Path, command: str, seed: int) -> Scenario:
    """The scenario of a command of cvtrain; what it builds on is trained where it is missing."""
    config = seed_folder(work, seed) / f"{command}.yaml"
    base = "unused" if command == "fit" else _finished(work, "fit", seed)
    source = _finished(work, "extract-features", seed) if command == "finetune" else None
    variant = _VARIANTS[seed % len(_VARIANTS)]
    config.write_text(_CONFIG.format(seed=seed, images=prepare_images(work), base=base, **variant))

    def arguments(folder: Path, generator: np.random.Generator) -> list[str]:
        start = [command, str(config)]
        if source:
            start += ["--from", str(source)]
        if (run := find_run(folder)) is None:
            return start
        named = [command, str(run.relative_to(folder)), "--resume"]
        return [*start, "--resume"] if generator.random() < 0.5 else named

    return Scenario(
        name=command,
        seed=seed,
        program=PROGRAM,
        arguments=arguments,
        environment=_environment,
        outcome=lambda folder: run_outcome(find_run(folder)),
    )


def find_run(folder: Path) -> Path | None:
    """The run folder of a chain, once there is one."""
    runs = sorted(folder.glob("runs/*/run.json"))
    assert len(runs) < 2, f"{folder} has more than one run"
    return runs[0].parent if runs else None


def seed_folder(work: Path, seed: int) -> Path:
    """Where everything of one seed lies."""
    folder = work / f"seed-{seed}"
    folder.mkdir(exist_ok=True)
    return folder


def reference_folder(work: Path, name: str, seed: int) -> Path:
    """Where a scenario runs that nobody kills."""
    return seed_folder(work, seed) / f"{name}-reference"


def _environment(folder: Path) -> dict[str, str]:
    return {"CVTRAIN_CACHE": str(folder / "cache"), "CVTRAIN_COMMIT_SECONDS": "0.1"}


def _finished(work: Path, command: str, seed: int) -> Path:
    """The run of a command that nobody kills; made where it is missing."""
    folder = reference_folder(work, command, seed)
    if find_run(folder) is None:
        folder.mkdir(exist_ok=True)
        scenario = prepare(work, command, seed)
        line = scenario.arguments(folder, np.random.default_rng())
        ended = attempt(PROGRAM, line, folder=folder, environment=_environment(folder))
        assert ended.code == 0, (folder / "output.txt").read_text()
    return find_run(folder)

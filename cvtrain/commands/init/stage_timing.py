"""Which backbone this machine can afford, and how long each stage of a config takes with it.

A process of its own, because it loads the engine: `init` does not. Prints one JSON object a line.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cvtrain import backend
from cvtrain.commands.init.config_template import blocks_to_unfreeze
from cvtrain.config import Config, load_config
from cvtrain.models.backbones import build_backbone
from cvtrain.models.imagenet import KerasWeights
from cvtrain.runs.run import Run, begun
from cvtrain.steps.dataset import open_dataset
from cvtrain.steps.estimate import estimate_features, estimate_fit
from cvtrain.steps.session import RunSession
from cvtrain.system.console import Console
from cvtrain.system.signals import Stop
from cvtrain.system.stopwatch import Stopwatch
from cvtrain.training.precision import images_per_second

MOST_SECONDS = 20 * 60
"""That features and fine-tuning together may take, where there is a cheaper base."""

_START_SECONDS = 8.0
"""Of each command: loading the engine and looking at what changed among the images."""
_BATCH_SIZE = 32
_TUNING_COST = 0.5
"""Of a step that trains the upper blocks, in forward passes of the whole base: 0.48 was seen with
MobileNet 0.25 from its eighth block on (two cores, bfloat16)."""


def main() -> None:
    """Run as a module with CONFIG and BACKBONES, which is JSON: [[name, alpha], ...]."""
    path, backbones = sys.argv[1:]
    for facts in measure_stages(
        Path(path), [KerasWeights(*backbone) for backbone in json.loads(backbones)]
    ):
        print(json.dumps(facts), flush=True)


def measure_stages(path: Path, backbones: Sequence[KerasWeights]) -> Iterator[dict[str, Any]]:
    """Yield `device`, `base`, and the seconds of `fit`, `extract-features` and `finetune`.

    Args:
        path: a config with all stages.
        bases: to choose from, the cheapest first. The speed of a network does not depend on its
            weights, so none are read.
    """
    config = _with_backbone(path, backbones[0])
    dataset = open_dataset(config, Stop(), Console(quiet=True))

    device = backend.set_up(seed=config.seed, device=config.device)
    yield {"device": device}
    # A run that is never written: the estimates look at its device.
    run = Run(path, begun("init") | {"device": device})

    def job_of(config: Config) -> RunSession:
        return RunSession(config, dataset, run, Stopwatch(), Stop(), Console(quiet=True))

    yield {"fit": _START_SECONDS + estimate_fit(job_of(config), config)}
    backbone = _affordable(job_of(config), backbones)
    yield {"base": [backbone.name, backbone.alpha]}
    config = _with_backbone(path, backbone)
    session = job_of(config)
    yield {"extract-features": _START_SECONDS + estimate_features(session, config)}
    yield {"finetune": _START_SECONDS + estimate_features(session, config, finetuning=True)}


def _with_backbone(path: Path, backbone: KerasWeights) -> Config:
    section = {"name": backbone.name, "alpha": backbone.alpha, "weights": "none"}
    return load_config(
        path,
        [
            f"extract_features.backbone={json.dumps(section)}",
            f"finetune.unfreeze_blocks={blocks_to_unfreeze(backbone)}",
        ],
    )


def _affordable(session: RunSession, backbones: Sequence[KerasWeights]) -> KerasWeights:
    """The last of `bases` that is fast enough, as are all before it; at least the first."""
    chosen = backbones[0]
    for backbone in backbones if len(backbones) > 1 else ():
        if _seconds_with(session, backbone) > MOST_SECONDS:
            break
        chosen = backbone
    return chosen


def _seconds_with(session: RunSession, backbone: KerasWeights) -> float:
    """Roughly what features and fine-tuning take, by the forward pass of the backbone alone."""
    config, splits = session.config, session.dataset.index.splits
    network = build_backbone(
        backbone.name, image_size=config.data.image_size, weights=None, alpha=backbone.alpha
    )
    speed = images_per_second(
        "float32",
        build=lambda _: network,
        batch_size=_BATCH_SIZE,
        device=session.run.record.device,
        training=False,
    )
    num_train = len(splits["train"].paths)
    num_others = sum(len(split.paths) for name, split in splits.items() if name != "train")
    views, tuning = config.extract_features.views, config.finetune
    assert views != "unlimited"
    assert tuning is not None
    return (views * num_train + num_others + _TUNING_COST * tuning.epochs * num_train) / speed


if __name__ == "__main__":
    main()

"""Choose a backbone that is fast enough on this machine, and measure each stage of a config.

This module runs in another process than `init`, because it loads the engine. It prints one JSON
object per line.
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
"""The limit for features and fine-tuning together, if there is a cheaper backbone."""

_START_SECONDS = 8.0
"""The start of each command: load the engine, and check the images for changes."""
_BATCH_SIZE = 32
_TUNING_COST = 0.5
"""The cost of a fine-tuning step, in forward passes of the whole backbone; measured: 0.48 with
MobileNet 0.25 from its eighth block on (two cores, bfloat16)."""


def main() -> None:
    """Run as a module with CONFIG and BACKBONES, which is JSON: [[name, alpha], ...]."""
    path, backbones = sys.argv[1:]
    for facts in measure_stages(
        Path(path), [KerasWeights(*backbone) for backbone in json.loads(backbones)]
    ):
        print(json.dumps(facts), flush=True)


def measure_stages(path: Path, backbones: Sequence[KerasWeights]) -> Iterator[dict[str, Any]]:
    """Yield `device`, `backbone`, and the seconds of `fit`, `extract-features` and `finetune`.

    Args:
        path: a config with all stages.
        backbones: the backbones to choose from, the cheapest first. Their weights are not loaded,
            because the speed does not depend on them.
    """
    config = _with_backbone(path, backbones[0])
    dataset = open_dataset(config, Stop(), Console(quiet=True))

    device = backend.set_up(seed=config.seed, device=config.device)
    yield {"device": device}
    # The estimates read the device from this run, which is never written.
    run = Run(path, begun("init") | {"device": device})

    def job_of(config: Config) -> RunSession:
        return RunSession(config, dataset, run, Stopwatch(), Stop(), Console(quiet=True))

    yield {"fit": _START_SECONDS + estimate_fit(job_of(config), config)}
    backbone = _affordable(job_of(config), backbones)
    yield {"backbone": [backbone.name, backbone.alpha]}
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
    """The last of `backbones` such that it and all before are fast enough; at least the first."""
    chosen = backbones[0]
    for backbone in backbones if len(backbones) > 1 else ():
        if _seconds_with(session, backbone) > MOST_SECONDS:
            break
        chosen = backbone
    return chosen


def _seconds_with(session: RunSession, backbone: KerasWeights) -> float:
    """A rough duration of features and fine-tuning, from the forward pass of the backbone."""
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

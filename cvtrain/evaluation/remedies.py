"""The settings of a training, and changes of the config that may improve it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import yaml

from cvtrain.evaluation.metrics import AgainstGuessing, scores_against_guessing
from cvtrain.sections.images import MIXING_KEYS

_TUNING = 0.01  # factor for pretrained weights: 1e-5 for adam, as in Keras' guide to fine-tuning
_ABSURD = 10  # times the usual rate
_LEVEL = 0.05  # of McNemar's test
_AUGMENT = """\
augment: {rotate: 20, shift: 0.1, zoom: 0.1}
# and flip: horizontal, if a mirrored image keeps its class
"""


@dataclass(frozen=True)
class Start:
    """The model that fine-tuning started from, compared with the one that it led to.

    Attributes:
        val_loss, val_accuracy: the metrics before fine-tuning on the validation images.
        test_accuracy, test_accuracy_now: the accuracy on the test images before and after.
        p: the p-value of McNemar's exact test of these two; 1 if the weights are the same.
    """

    val_loss: float
    val_accuracy: float
    test_accuracy: float
    test_accuracy_now: float
    p: float

    @property
    def was_better(self) -> bool:
        """Is the test accuracy significantly lower than before?"""
        return self.test_accuracy_now < self.test_accuracy and self.p < _LEVEL


@dataclass(frozen=True)
class Stage:
    """The settings of a training, and the evaluation of its saved model.

    Attributes:
        name: the section of the config: `fit`, `extract_features` or `finetune`.
        config: the whole config, as in `config.yaml`; those of older runs lack keys.
        counts: (classes,) images of each class, by split.
        held_out: the saved model on the validation and test images; None if not measured.
        best_epoch: the epoch whose weights were kept; 0 for those of the start.
        start: the model that fine-tuning started from; None if it was not measured.
        constant: layers of the frozen backbone whose output is the same for all images.
        without_gradient: layers to be trained that get no gradient from the loss.
    """

    name: str
    config: Mapping[str, Any]
    counts: Mapping[str, Sequence[int]]
    held_out: AgainstGuessing | None = None
    best_epoch: int | None = None
    start: Start | None = None
    constant: Sequence[str] = ()
    without_gradient: Sequence[str] = ()

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.counts["train"])

    @property
    def num_validation(self) -> int:
        """Number of validation images."""
        return sum(self.counts["validation"])

    @property
    def guessing(self) -> float:
        """The training loss of the best constant prediction, in nats."""
        if self.settings.get("class_weights") == "balanced":
            return log(self.num_classes)
        return scores_against_guessing(self.counts["train"], 0.0).entropy

    @property
    def settings(self) -> Mapping[str, Any]:
        """The section of this stage."""
        return self.config[self.name]

    @property
    def augment(self) -> Mapping[str, Any] | None:
        """The section `augment` of the config; None if there is none."""
        return self.config.get("augment")

    @property
    def is_augmented(self) -> bool:
        """Are the training images augmented?"""
        views = self.settings.get("views")
        if self.name == "finetune" and views is None:
            views = self.config.get("extract_features", {}).get("views")
        return self.augment is not None and views != 1

    @property
    def mixes(self) -> bool:
        """Does the config use mixup or CutMix?"""
        return any((self.augment or {}).get(key) for key in MIXING_KEYS)

    @property
    def net(self) -> tuple[str, str]:
        """The section and key of the network or of the head."""
        return ("fit", "model") if self.name == "fit" else ("extract_features", "head")

    @property
    def dropout(self) -> float:
        """The dropout rate before the classifier."""
        section, key = self.net
        return self.config.get(section, {}).get(key, {}).get("dropout", 0.0)

    @property
    def is_hampered(self) -> bool:
        """Do dropout or augmentation lower the training accuracy?"""
        hides = self.mixes or bool((self.augment or {}).get("erase"))
        return self.dropout > 0 or (self.is_augmented and hides)

    @property
    def rate(self) -> float:
        """The learning rate."""
        return self.settings["optimizer"]["learning_rate"]

    @property
    def usual_rate(self) -> float:
        """The usual learning rate of this optimizer in this stage."""
        return usual_rate(self.settings["optimizer"]["name"], self.name)

    @property
    def is_absurd_rate(self) -> bool:
        """Is the learning rate far above the usual one?"""
        return is_absurd_rate(self.settings["optimizer"], self.name)

    def propose(self, **settings: Any) -> str:
        """Settings of this stage as YAML."""
        return _yaml({self.name: settings})

    def lower_rate(self, factor: float) -> str:
        """The learning rate times `factor`, at most the usual one, as YAML."""
        rate = lower_rate(self.settings["optimizer"], self.name, factor)
        return self.propose(optimizer={"learning_rate": rate})

    def higher_rate(self, factor: float) -> str:
        """The learning rate times `factor`, at least the usual one, as YAML."""
        rate = max(self.rate * factor, self.usual_rate)
        return self.propose(optimizer={"learning_rate": _two_digits(rate)})


def usual_rate(optimizer: str, stage: str) -> float:
    """The usual learning rate of an optimizer in a stage: the default of Keras."""
    default = 1e-2 if optimizer == "sgd" else 1e-3
    return default * (_TUNING if stage == "finetune" else 1)


def is_absurd_rate(optimizer: Mapping[str, Any], stage: str) -> bool:
    """Is the learning rate of a section `optimizer` far above the usual one?"""
    return optimizer["learning_rate"] > _ABSURD * usual_rate(optimizer["name"], stage)


def lower_rate(optimizer: Mapping[str, Any], stage: str, factor: float) -> float:
    """The learning rate of a section `optimizer` times `factor`, at most the usual one."""
    usual = usual_rate(optimizer["name"], stage)
    return _two_digits(min(optimizer["learning_rate"] * factor, usual))


def against_over_fitting(stage: Stage) -> str:
    """Propose augmentation, else dropout, else fewer weights: the order of Chollet's book."""
    if not stage.is_augmented:
        # Mixing needs two images, and a cached view has the features of one.
        views = "unlimited" if stage.mixes else 4
        wanted = "" if stage.name == "fit" else stage.propose(views=views)
        return wanted if stage.augment is not None else f"{_AUGMENT}{wanted}"
    if stage.name == "finetune":
        return stage.lower_rate(0.5)
    _, part = stage.net
    for dropout in (0.5, 0.7):
        if stage.dropout < dropout:
            return stage.propose(**{part: {"dropout": dropout}})
    key = "filters" if stage.name == "fit" else "dense"
    numbers = stage.settings[part][key]
    fewer = [max(1, number // 2) for number in numbers]
    return stage.propose(**{part: {key: fewer}}) if fewer != list(numbers) else ""


def against_under_fitting(stage: Stage) -> str:
    """Propose a larger network or more trained layers; empty if fine-tuning is configured."""
    if stage.name == "fit":
        filters = stage.settings["model"]["filters"]
        return stage.propose(model={"filters": [2 * number for number in filters]})
    if stage.name == "extract_features" and stage.config.get("finetune") is None:
        return _yaml({"finetune": {"unfreeze_blocks": 2}})
    return ""


def _yaml(values: Mapping[str, Any]) -> str:
    """Sections of a config as YAML."""
    return yaml.safe_dump(dict(values), default_flow_style=None, sort_keys=False)


def held_out_of(
    counts: Mapping[str, Sequence[int]], metrics: Mapping[str, Mapping[str, Any]]
) -> AgainstGuessing:
    """Compare a saved model with guessing on its validation and test images together.

    Args:
        counts: (classes,) images of each class, by split.
        metrics: `accuracy` and `loss` by split, as in run.json.
    """
    names = ("validation", "test")
    number = np.sum([counts[name] for name in names], axis=0)
    weights = [np.sum(counts[name]) for name in names]
    accuracy, loss = (
        float(np.average([metrics[name][key] for name in names], weights=weights))
        for key in ("accuracy", "loss")
    )
    return scores_against_guessing(number.tolist(), accuracy, loss)


def _two_digits(rate: float) -> float:
    return float(f"{rate:.2g}")

"""How a network was trained, and what to write into the config to train it otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import yaml

from cvtrain.evaluation.metrics import AgainstGuessing, scores_against_guessing
from cvtrain.sections.images import MIXING_KEYS

_TUNING = (
    0.01  # of it, for weights that know something already: 1e-5 of adam's, as Keras' guide has
)
_ABSURD = 10  # times the usual rate
_LEVEL = 0.05  # of McNemar's test
_AUGMENT = """\
augment: {rotate: 20, shift: 0.1, zoom: 0.1}
# and flip: horizontal, where a mirrored image is still of its class
"""


@dataclass(frozen=True)
class Start:
    """The model that fine-tuning started from, and what became of it.

    Attributes:
        val_loss, val_accuracy: its own, on the validation images.
        test_accuracy, test_accuracy_now: on the test images, before and after.
        p: of McNemar's exact test of these two; 1 where they are of the same weights.
    """

    val_loss: float
    val_accuracy: float
    test_accuracy: float
    test_accuracy_now: float
    p: float

    @property
    def was_better(self) -> bool:
        """Did the test images get worse, by more than chance?"""
        return self.test_accuracy_now < self.test_accuracy and self.p < _LEVEL


@dataclass(frozen=True)
class Stage:
    """How a network was trained, and how its saved model does.

    Attributes:
        name: section of the config: `fit`, `extract_features` or `finetune`.
        config: the whole of it, as in `config.yaml`; older ones lack keys.
        counts: (classes,) images of each class, by split.
        held_out: the saved model on the validation and test images; None where nobody knows.
        best_epoch: whose weights were kept; 0 for those of the start.
        start: of fine-tuning; None where it was not measured.
        constant: layers of the frozen backbone that give the same for all images.
        without_gradient: layers that were to be trained, and that the loss does not depend on.
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
        """How many classes there are."""
        return len(self.counts["train"])

    @property
    def num_validation(self) -> int:
        """How many validation images there are."""
        return sum(self.counts["validation"])

    @property
    def guessing(self) -> float:
        """Training loss of the best answer that is the same for all images, in nats."""
        if self.settings.get("class_weights") == "balanced":
            return log(self.num_classes)
        return scores_against_guessing(self.counts["train"], 0.0).entropy

    @property
    def settings(self) -> Mapping[str, Any]:
        """The section of this stage."""
        return self.config[self.name]

    @property
    def augment(self) -> Mapping[str, Any] | None:
        """How the config says that images may change; None: it does not."""
        return self.config.get("augment")

    @property
    def is_augmented(self) -> bool:
        """Do training images change from epoch to epoch?"""
        views = self.settings.get("views")
        if self.name == "finetune" and views is None:
            views = self.config.get("extract_features", {}).get("views")
        return self.augment is not None and views != 1

    @property
    def mixes(self) -> bool:
        """Does the config mix images with others?"""
        return any((self.augment or {}).get(key) for key in MIXING_KEYS)

    @property
    def net(self) -> tuple[str, str]:
        """Section and key of the network, or of the head that is trained or trained on."""
        return ("fit", "model") if self.name == "fit" else ("extract_features", "head")

    @property
    def dropout(self) -> float:
        """Share of the values that is dropped before the classifier."""
        section, key = self.net
        return self.config.get(section, {}).get(key, {}).get("dropout", 0.0)

    @property
    def is_hampered(self) -> bool:
        """Is training accuracy of values dropped out, or of parts of images?"""
        hides = self.mixes or bool((self.augment or {}).get("erase"))
        return self.dropout > 0 or (self.is_augmented and hides)

    @property
    def rate(self) -> float:
        """The learning rate."""
        return self.settings["optimizer"]["learning_rate"]

    @property
    def usual_rate(self) -> float:
        """A learning rate that suits this optimizer in this stage more often than not."""
        return usual_rate(self.settings["optimizer"]["name"], self.name)

    @property
    def is_absurd_rate(self) -> bool:
        """Is the learning rate far above what is usual?"""
        return is_absurd_rate(self.settings["optimizer"], self.name)

    def propose(self, **settings: Any) -> str:
        """YAML of settings of this stage."""
        return _yaml({self.name: settings})

    def lower_rate(self, factor: float) -> str:
        """YAML of the learning rate times `factor`, and no more than is usual."""
        rate = lower_rate(self.settings["optimizer"], self.name, factor)
        return self.propose(optimizer={"learning_rate": rate})

    def higher_rate(self, factor: float) -> str:
        """YAML of the learning rate times `factor`, and no less than is usual."""
        rate = max(self.rate * factor, self.usual_rate)
        return self.propose(optimizer={"learning_rate": _two_digits(rate)})


def usual_rate(optimizer: str, stage: str) -> float:
    """The learning rate that suits an optimizer in a stage more often than not: Keras' default."""
    default = 1e-2 if optimizer == "sgd" else 1e-3
    return default * (_TUNING if stage == "finetune" else 1)


def is_absurd_rate(optimizer: Mapping[str, Any], stage: str) -> bool:
    """Is the learning rate of a section `optimizer` far above what is usual?"""
    return optimizer["learning_rate"] > _ABSURD * usual_rate(optimizer["name"], stage)


def lower_rate(optimizer: Mapping[str, Any], stage: str, factor: float) -> float:
    """The learning rate of a section `optimizer` times `factor`, and no more than is usual.

    A third of an absurd rate is absurd, too.
    """
    usual = usual_rate(optimizer["name"], stage)
    return _two_digits(min(optimizer["learning_rate"] * factor, usual))


def against_over_fitting(stage: Stage) -> str:
    """First augmentation, then dropout, then fewer trained weights: the order of the book."""
    if not stage.is_augmented:
        # A cached view is of one image, which mixing needs another for.
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
    """A network that can fit more; empty where it is fine-tuning that comes next."""
    if stage.name == "fit":
        filters = stage.settings["model"]["filters"]
        return stage.propose(model={"filters": [2 * number for number in filters]})
    if stage.name == "extract_features" and stage.config.get("finetune") is None:
        return _yaml({"finetune": {"unfreeze_blocks": 2}})
    return ""  # fine-tuning comes next; of which layers, the freeze proof of a run says


def _yaml(values: Mapping[str, Any]) -> str:
    """Sections and their keys as YAML to put into a config."""
    return yaml.safe_dump(dict(values), default_flow_style=None, sort_keys=False)


def held_out_of(
    counts: Mapping[str, Sequence[int]], metrics: Mapping[str, Mapping[str, Any]]
) -> AgainstGuessing:
    """A saved model on its validation and test images together, by its scores on each.

    Args:
        counts: (classes,) images of each class, by split.
        metrics: as run.json has them: `accuracy` and `loss`, by split.
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

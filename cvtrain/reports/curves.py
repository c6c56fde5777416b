"""What learning curves say, in words, and what to change in the config.

A rule speaks only of what is larger than chance: accuracies are binomial, and losses have the
spread that validation images of this number give them. Where no rule speaks, nothing is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Any

import numpy as np
import yaml

_FEWEST_EPOCHS = 4  # from fewer no trend can be told
_Z = 2.0  # standard errors beyond which a difference is not chance
_CHANCE = 0.05  # of taking a flat curve for one that falls
_FELL = 0.05  # training loss that fell by this share since an epoch is still being fitted
_BARELY = 0.1  # training loss that fell by less than this share has barely moved
_JUMP = 0.15  # share by which training loss rises in an epoch that was thrown back
_FITTED = 0.05  # nats: below, jumps of the training loss mean nothing
_LOST = 0.25  # of its last training loss, by which a collapsed training was better once
_FEWEST_TO_LEVEL = 5  # values from which a level can be told from a slope
_UNDERFITTED = 0.9  # training accuracy below which a larger model may pay
_GAP = 0.05  # of accuracy, between training and validation, below which nothing is over-fitted
_WIDE = 0.05  # half of the interval of validation accuracy that hides most of what one tries


@dataclass(frozen=True)
class Reading:
    """One thing that the curves say.

    Attributes:
        finding: its kind, such as `over-fitting`.
        detail: one or two sentences with the numbers.
        proposal: YAML to put into the config, or "".
    """

    finding: str
    detail: str
    proposal: str = ""


@dataclass(frozen=True)
class Stage:
    """How the network was trained.

    Attributes:
        name: section of the config: `fit`, `extract_features` or `finetune`.
        config: the whole of it, as in `config.yaml`; older ones lack keys.
        num_classes, num_validation: classes, and validation images.
    """

    name: str
    config: Mapping[str, Any]
    num_classes: int
    num_validation: int

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
        return any((self.augment or {}).get(key) for key in ("mixup", "cutmix"))

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

    def propose(self, **settings: Any) -> str:
        """YAML of settings of this stage."""
        return _yaml({self.name: settings})

    def at_rate(self, factor: float) -> str:
        """YAML of the learning rate times `factor`."""
        rate = self.settings["optimizer"]["learning_rate"] * factor
        return self.propose(optimizer={"learning_rate": float(f"{rate:.2g}")})


def read_curves(history: Mapping[str, Sequence[float]], stage: Stage) -> list[Reading]:
    """What the curves of one training say, the most important first; empty if nothing.

    Args:
        history: columns of `history.csv`: `loss`, `accuracy`, `val_loss`, `val_accuracy`, one value
            an epoch; training values are means over the epoch, as the images were augmented.
        stage: how it was trained.
    """
    curves = _Curves(*(np.asarray(history[key], float) for key in _COLUMNS))
    if len(curves.loss) < _FEWEST_EPOCHS:
        return []
    # What is true of the training makes what it seems to say of the data meaningless.
    for rule in (_collapsed, _no_better_than_chance, _rate_too_high, _rate_too_low):
        if found := rule(curves, stage):
            return [found]
    rules = (_over_fitting, _still_improving, _under_fitting, _validation_too_small, _below)
    return [found for rule in rules if (found := rule(curves, stage))]


_COLUMNS = ("loss", "accuracy", "val_loss", "val_accuracy")


@dataclass(frozen=True, eq=False)
class _Curves:
    """One value an epoch, (n,) each."""

    loss: np.ndarray
    accuracy: np.ndarray
    val_loss: np.ndarray
    val_accuracy: np.ndarray

    @property
    def last(self) -> int:
        """How many epochs stand for the end: a fifth of them, at least two."""
        return max(2, len(self.loss) // 5)

    @property
    def end_accuracies(self) -> tuple[float, float]:
        """Of training and of validation, means over the end."""
        return self.accuracy[-self.last :].mean(), self.val_accuracy[-self.last :].mean()


def _collapsed(curves: _Curves, stage: Stage) -> Reading | None:
    smooth, guessing = _smoothed(curves.loss), log(stage.num_classes)
    least, end = smooth.min(), curves.loss[-2:].mean()
    # A spike falls again: both of the last epochs have to be as bad as guessing.
    is_guessing = curves.loss[-2:].min() > (1 - _BARELY) * guessing
    if not is_guessing or least > (1 - _LOST) * end:
        return None
    epoch = np.flatnonzero(curves.loss < (least + end) / 2)[-1] + 2
    return Reading(
        "collapsed",
        f"Training collapsed at epoch {epoch}: its loss was {least:.2f} and ends at {end:.2f}, "
        f"where guessing among {stage.num_classes} classes has {guessing:.2f}. Most often a "
        "step was too large. The best epoch was kept.",
        stage.at_rate(1 / 3),
    )


def _no_better_than_chance(curves: _Curves, stage: Stage) -> Reading | None:
    chance = 1 / stage.num_classes
    bound = chance + _Z * _standard_error(chance, stage.num_validation)
    # The largest class of an unbalanced set is found without looking: the loss has to fall, too.
    end, guessing = curves.loss[-curves.last :].mean(), log(stage.num_classes)
    if end < (1 - _FELL) * guessing or curves.val_accuracy.max() > max(bound, 1.5 * chance):
        return None
    return Reading(
        "no-better-than-chance",
        f"Nothing was learnt: the training loss ends at {end:.2f}, where guessing "
        f"among {stage.num_classes} classes has {guessing:.2f}. Most often the "
        "learning rate is far too high: `cvtrain fit --find-lr` measures which one is not.",
        stage.at_rate(0.1),
    )


def _rate_too_high(curves: _Curves, stage: Stage) -> Reading | None:
    before, after = curves.loss[1:-1], curves.loss[2:]
    jumps = (after > before * (1 + _JUMP)) & (after > before + _FITTED)
    # One jump is an accident; a rate that is too high throws back again and again.
    if jumps.sum() < max(2, len(after) / 8):
        return None
    epochs = ", ".join(str(epoch) for epoch in np.flatnonzero(jumps)[:4] + 3)
    return Reading(
        "learning-rate-too-high",
        f"The training loss jumps up again and again (epochs {epochs}): steps are too large.",
        stage.at_rate(1 / 3),
    )


def _rate_too_low(curves: _Curves, stage: Stage) -> Reading | None:
    # Where much is known already, as on pretrained features, a small fall may be all there is.
    much_to_learn = curves.loss[0] > 0.5 * log(stage.num_classes)
    fell = 1 - curves.loss[-1] / curves.loss[0]
    if not much_to_learn or fell > _BARELY or not _fall(curves.loss):
        return None
    return Reading(
        "learning-rate-too-low",
        f"The training loss falls steadily and barely moves: {curves.loss[0]:.2f} to "
        f"{curves.loss[-1]:.2f} in {len(curves.loss)} epochs.",
        stage.at_rate(3),
    )


def _over_fitting(curves: _Curves, stage: Stage) -> Reading | None:
    smooth = _smoothed(curves.val_loss)
    best = int(smooth.argmin())
    last = min(curves.last, len(smooth) - 1 - best)
    if last < 2:
        return None
    end, least = curves.val_loss[-last:].mean(), smooth[best]
    # Losses of single images are spread about as widely as their mean. The same images are seen in
    # every epoch, so the difference of two epochs varies less than this says.
    rises = end - least > _Z * least / sqrt(stage.num_validation)
    before, after = _smoothed(curves.loss)[best], curves.loss[-last:].mean()
    if not rises or after > (1 - _FELL) * before:
        return None
    detail = (
        f"Over-fitting after about epoch {best + 1}: validation loss rises from {least:.2f} to "
        f"{end:.2f} while training loss falls from {before:.2f} to {after:.2f}. The best epoch "
        "was kept."
    )
    gained = curves.val_accuracy[-last:].mean() - curves.val_accuracy[best]
    if gained > _Z * _standard_error(curves.val_accuracy[best], stage.num_validation):
        detail += " Accuracy still rose: what grew worse is the confidence"
        detail += "." if stage.settings.get("monitor") == "val_accuracy" else _MONITOR
    return Reading("over-fitting", detail, _against_over_fitting(stage))


_MONITOR = " (`monitor: val_accuracy`)."
_AUGMENT = """\
augment: {rotate: 20, shift: 0.1, zoom: 0.1}
# and flip: horizontal, where a mirrored image is still of its class
"""


def _against_over_fitting(stage: Stage) -> str:
    """First augmentation, then dropout, then fewer trained weights: the order of the book."""
    if not stage.is_augmented:
        # A cached view is of one image, which mixing needs another for.
        views = "unlimited" if stage.mixes else 4
        wanted = "" if stage.name == "fit" else stage.propose(views=views)
        return wanted if stage.augment is not None else f"{_AUGMENT}{wanted}"
    if stage.name == "finetune":
        return stage.at_rate(0.5)
    _, part = stage.net
    for dropout in (0.5, 0.7):
        if stage.dropout < dropout:
            return stage.propose(**{part: {"dropout": dropout}})
    key = "filters" if stage.name == "fit" else "dense"
    numbers = stage.settings[part][key]
    fewer = [max(1, number // 2) for number in numbers]
    return stage.propose(**{part: {key: fewer}}) if fewer != list(numbers) else ""


def _still_improving(curves: _Curves, stage: Stage) -> Reading | None:
    # Late enough that a schedule which ends at a rate of zero has ended the fall, too.
    end = curves.val_loss[-max(5, len(curves.val_loss) // 4) :]
    if min(_fall(end), end[0] - end[-1]) < _FELL * end[-1]:
        return None
    # Where training was stopped early, more epochs change nothing.
    was_stopped = len(curves.loss) < stage.settings["epochs"]
    key = "early_stopping" if was_stopped and stage.settings.get("early_stopping") else "epochs"
    return Reading(
        "still-improving",
        f"Validation loss still fell when training ended ({end[0]:.2f} to {end[-1]:.2f} in the "
        f"last {len(end)} epochs): train longer.",
        stage.propose(**{key: 2 * stage.settings[key]}),
    )


def _under_fitting(curves: _Curves, stage: Stage) -> Reading | None:
    training, validation = curves.end_accuracies
    # Accuracy of training that is below validation, or of less than whole images, tells not how
    # well the network fits them.
    is_measure = not stage.is_hampered and not _below(curves, stage)
    is_low = training < _UNDERFITTED and training - validation < _GAP
    if not (is_measure and is_low and _is_level(curves.loss[len(curves.loss) // 2 :])):
        return None
    if _still_improving(curves, stage):
        return None
    return Reading(
        "under-fitting",
        f"Training loss hardly falls any more, with an accuracy of {training:.0%} (validation: "
        f"{validation:.0%}): the network does not fit even what it sees.",
        _against_under_fitting(stage),
    )


def _against_under_fitting(stage: Stage) -> str:
    if stage.name == "fit":
        filters = stage.settings["model"]["filters"]
        return stage.propose(model={"filters": [2 * number for number in filters]})
    if stage.name == "extract_features" and stage.config.get("finetune") is None:
        return _yaml({"finetune": {"unfreeze_blocks": 2}})
    return ""  # fine-tuning comes next; of which layers, the freeze proof of a run says


def _validation_too_small(curves: _Curves, stage: Stage) -> Reading | None:
    accuracy = float(curves.val_accuracy.max())
    half_width = 1.96 * _standard_error(accuracy, stage.num_validation)
    if half_width < _WIDE:
        return None
    return Reading(
        "validation-too-small",
        f"{stage.num_validation} validation images know an accuracy of {accuracy:.0%} to "
        f"+-{100 * half_width:.0f} points: smaller differences between epochs or settings are "
        "chance.",
    )


def _below(curves: _Curves, stage: Stage) -> Reading | None:
    training, validation = curves.end_accuracies
    if validation - training < _Z * _standard_error(validation, stage.num_validation):
        return None
    return Reading(
        "training-below-validation",
        f"Training accuracy ({training:.0%}) lies below validation ({validation:.0%}): that is "
        "normal where training images are changed or mixed, or values dropped out.",
    )


def _standard_error(share: float, number: int) -> float:
    """Of a share among so many images; never zero, as none of few is not none of all."""
    share = min(max(share, 1 / (number + 2)), 1 - 1 / (number + 2))
    return sqrt(share * (1 - share) / number)


def _fall(values: np.ndarray) -> float:
    """By how much a straight line through the values falls; 0 where it may as well be flat."""
    from scipy.stats import linregress

    line = linregress(np.arange(len(values)), values, alternative="less")
    return -line.slope * (len(values) - 1) if line.pvalue < _CHANCE else 0.0


def _is_level(values: np.ndarray) -> bool:
    """Does a straight line through them change by little or by chance, and surely not by much?

    Of few values, or of values that scatter widely, nobody knows: that is no level.
    """
    from scipy.stats import linregress, t

    if len(values) < _FEWEST_TO_LEVEL:
        return False
    line, mean = linregress(np.arange(len(values)), values), values.mean()
    change = abs(line.slope) * (len(values) - 1)
    error = t.ppf(1 - _CHANCE, len(values) - 2) * line.stderr * (len(values) - 1)
    return change <= max(error, _FELL * mean) and change + error < _BARELY * mean


def _smoothed(values: np.ndarray) -> np.ndarray:
    """The median of each value and its two neighbours: one lucky epoch is no minimum."""
    padded = np.pad(values, 1, mode="edge")
    return np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)


def _yaml(values: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(values), default_flow_style=None, sort_keys=False)

"""What learning curves and the saved model say, in words, and what to change in the config.

A rule speaks only of what is larger than chance: accuracies are binomial, and losses have the
spread that validation images of this number give them. Where no rule speaks, nothing is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from cvtrain.evaluation.remedies import Stage, Start, against_over_fitting, against_under_fitting

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
_FAR = 0.1  # of the usual learning rate, below which one is far too low
_FAR_ABOVE = 1.5  # times the loss of guessing
_WIDE = 0.05  # half of the interval of validation accuracy that hides most of what one tries


@dataclass(frozen=True)
class Diagnosis:
    """One thing that the curves say.

    Attributes:
        finding: its kind, such as `over-fitting`.
        detail: one or two sentences with the numbers.
        proposal: YAML to put into the config, or "".
    """

    finding: str
    detail: str
    proposal: str = ""


def read_curves(history: Mapping[str, Sequence[float]], stage: Stage) -> list[Diagnosis]:
    """What one training says, the most important first; empty if nothing.

    Args:
        history: columns of `history.csv`: `loss`, `accuracy`, `val_loss`, `val_accuracy`, one value
            an epoch; training values are means over the epoch, as the images were augmented. Empty
            where nothing was trained by epochs.
        stage: how it was trained.
    """
    curves = _Curves(*(np.asarray(history.get(key, ()), float) for key in _COLUMNS))
    # What is true of the training makes what it seems to say of the data meaningless.
    for rule in (_never_learnt, _lost, _rate_is_absurd):
        if found := rule(curves, stage):
            return [found]
    # The curves of several steps of fine-tuning follow each other, and are no one curve.
    if len(curves.loss) < _FEWEST_EPOCHS or stage.settings.get("then"):
        return []
    for rule in (_collapsed, _rate_too_high, _rate_too_low):
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
    def end_losses(self) -> tuple[float, float]:
        """Of training and of validation, means over the end."""
        return self.loss[-self.last :].mean(), self.val_loss[-self.last :].mean()

    @property
    def end_accuracies(self) -> tuple[float, float]:
        """Of training and of validation, means over the end."""
        return self.accuracy[-self.last :].mean(), self.val_accuracy[-self.last :].mean()


def _never_learnt(curves: _Curves, stage: Stage) -> Diagnosis | None:
    model = stage.held_out
    if model is None or model.is_better:
        return None
    why, proposal = _why_never_learnt(curves, stage)
    return Diagnosis(
        "never-learnt",
        f"Never learnt: on the {model.num_images:,} validation and test images the saved model is "
        f"not significantly better than guessing. Its accuracy is {model.accuracy:.0%}, and the "
        f"most frequent class would have {model.most_frequent:.0%}; its loss is "
        f"{_nats(model.loss)}, and the shares of the classes would have {_nats(model.entropy)}. "
        f"{why}",
        proposal,
    )


def _why_never_learnt(curves: _Curves, stage: Stage) -> tuple[str, str]:
    """The likely reason, and what to try."""
    if stage.constant or stage.without_gradient:
        return _dead(stage), ""
    if not len(curves.loss):
        return (
            "The features do not tell the classes apart: cut the backbone elsewhere "
            "(`cvtrain probe` measures where), or take another one."
        ), ""
    end, val_end = curves.end_losses
    if end < (1 - _FELL) * stage.guessing and val_end > (1 + _BARELY) * end:
        return (
            f"It has learnt something about the training images (their loss ends at {_nats(end)}), "
            "but nothing that generalizes to others."
        ), against_over_fitting(stage)
    said = f"The training loss ends at {_nats(end)} (guessing: {_nats(stage.guessing)})"
    why, proposal = _why_not_fitted(curves, stage)
    return f"{said}{why}", proposal


def _why_not_fitted(curves: _Curves, stage: Stage) -> tuple[str, str]:
    """As above, of a network that has not even learnt the training images."""
    end, _ = curves.end_losses
    measured = " `cvtrain fit --find-lr` measures which one is right." * (stage.name == "fit")
    optimizer = stage.settings["optimizer"]["name"]
    has_risen = end > (1 + _FELL) * max(stage.guessing, curves.loss[0])
    if stage.rate < _FAR * stage.usual_rate and not has_risen:
        said = f". A learning rate of {stage.rate:g} is far too low for {optimizer}.{measured}"
        return said, stage.higher_rate(3)
    is_below = end < (1 - _FELL / 5) * stage.guessing
    if is_below and len(curves.loss) >= _FEWEST_EPOCHS and _fall(curves.loss):
        return ", and still falls: train longer.", stage.propose(
            epochs=2 * stage.settings["epochs"]
        )
    too_high = "is far too high" if stage.is_absurd_rate else "may be too high"
    said = f". A learning rate of {stage.rate:g} {too_high} for {optimizer}.{measured}"
    return said, stage.lower_rate(0.1)


def _dead(stage: Stage) -> str:
    """What gives the same for all images, and what to take instead."""
    what = (
        f"What {', '.join(stage.without_gradient)} read or give is zero for all images, so no "
        "gradient reaches their weights."
    )
    if stage.constant:
        what = (
            f"The frozen backbone gives the same at {', '.join(stage.constant)} for all images: "
            "there is nothing in it to learn from."
        )
    ways = {
        "fit": "Train again from another seed.",
        "extract_features": "Cut the backbone lower (`cvtrain probe` measures where), or give it "
        "trained weights.",
        "finetune": "Start from another run (`--from`), whose base has trained weights.",
    }
    return f"{what} {ways[stage.name]}"


def _lost(curves: _Curves, stage: Stage) -> Diagnosis | None:
    """Is fine-tuning worse than what it started from?"""
    start = stage.start
    if start is None or not len(curves.loss):
        return None
    if stage.best_epoch == 0:
        return _no_epoch_was_better(curves, stage, start)
    if not start.was_better:
        return None
    return Diagnosis(
        "fine-tuning-lost",
        f"Fine-tuning did harm on the test images: {start.test_accuracy:.0%} of them were "
        f"recognised before, and {start.test_accuracy_now:.0%} are now, which is more than chance "
        f"(p = {start.p:.2g}).",
        stage.lower_rate(0.1),
    )


def _no_epoch_was_better(curves: _Curves, stage: Stage, start: Start) -> Diagnosis:
    detail = (
        "No epoch of fine-tuning was better on the validation images than the model that it "
        "started from; that one is kept."
    )
    if np.allclose(curves.val_loss, start.val_loss, rtol=1e-6, atol=0):
        said = f"{detail} Nothing changed there: a learning rate of {stage.rate:g} is too low."
        return Diagnosis("fine-tuning-lost", said, stage.higher_rate(10))
    detail += (
        f" Its loss was {_nats(start.val_loss)} and its accuracy {start.val_accuracy:.0%}; "
        f"training ended at {_nats(curves.val_loss[-1])} and {curves.val_accuracy[-1]:.0%}."
    )
    gained = curves.val_accuracy.max() - start.val_accuracy
    if gained > _Z * _standard_error(start.val_accuracy, stage.num_validation):
        detail += (
            f" Accuracy rose to {curves.val_accuracy.max():.0%} meanwhile: what grew worse is the "
            "confidence."
        )
        return Diagnosis("fine-tuning-lost", detail, stage.propose(monitor="val_accuracy"))
    detail += " Most often the learning rate is too high for weights that have learnt something."
    return Diagnosis("fine-tuning-lost", detail, stage.lower_rate(0.1))


def _rate_is_absurd(curves: _Curves, stage: Stage) -> Diagnosis | None:
    """Right answers may come of weights so large that no probability means anything."""
    least = min(curves.loss.min(initial=np.inf), curves.val_loss.min(initial=np.inf))
    if not len(curves.loss) or not stage.is_absurd_rate or least < _FAR_ABOVE * stage.guessing:
        return None
    return Diagnosis(
        "learning-rate-too-high",
        f"In every epoch the losses were far above guessing, which has {_nats(stage.guessing)}, "
        f"and end at {_nats(curves.loss[-1])} (validation: {_nats(curves.val_loss[-1])}): a "
        f"learning rate of {stage.rate:g} is far too high for "
        f"{stage.settings['optimizer']['name']}.",
        stage.lower_rate(0.1),
    )


def _collapsed(curves: _Curves, stage: Stage) -> Diagnosis | None:
    smooth, guessing = _median_of_three(curves.loss), stage.guessing
    least, end = smooth.min(), curves.loss[-2:].mean()
    # A spike falls again: both of the last epochs have to be as bad as guessing.
    is_guessing = curves.loss[-2:].min() > (1 - _BARELY) * guessing
    # What was never better than guessing has nothing to fall from.
    was_good = least < (1 - _BARELY) * guessing and least < (1 - _LOST) * end
    if not (is_guessing and was_good):
        return None
    epoch = np.flatnonzero(curves.loss[:-2] < (least + end) / 2)[-1] + 2
    return Diagnosis(
        "collapsed",
        f"Training collapsed at epoch {epoch}: its loss was {least:.2f} and ends at {_nats(end)}, "
        f"which is that of guessing among {stage.num_classes} classes ({guessing:.2f}). The usual "
        "reason is a step that was too large. The best epoch was kept.",
        stage.lower_rate(1 / 3),
    )


def _rate_too_high(curves: _Curves, stage: Stage) -> Diagnosis | None:
    before, after = curves.loss[1:-1], curves.loss[2:]
    jumps = (after > before * (1 + _JUMP)) & (after > before + _FITTED)
    # One jump is an accident; a rate that is too high throws back again and again.
    if jumps.sum() < max(2, len(after) / 8):
        return None
    epochs = ", ".join(str(epoch) for epoch in np.flatnonzero(jumps)[:4] + 3)
    return Diagnosis(
        "learning-rate-too-high",
        f"The training loss jumps up again and again (epochs {epochs}): steps are too large.",
        stage.lower_rate(1 / 3),
    )


def _rate_too_low(curves: _Curves, stage: Stage) -> Diagnosis | None:
    # Where much is known already, as on pretrained features, a small fall may be all there is.
    much_to_learn = curves.loss[0] > 0.5 * stage.guessing
    fell = 1 - curves.loss[-1] / curves.loss[0]
    falls, is_tiny = _fall(curves.loss), stage.rate < _FAR * stage.usual_rate and fell > -_BARELY
    if not much_to_learn or fell > _BARELY or not (falls or is_tiny):
        return None
    return Diagnosis(
        "learning-rate-too-low",
        f"The training loss {'falls steadily and ' * bool(falls)}barely moves: "
        f"{_nats(curves.loss[0])} to {_nats(curves.loss[-1])} in {len(curves.loss)} epochs.",
        stage.higher_rate(3),
    )


def _over_fitting(curves: _Curves, stage: Stage) -> Diagnosis | None:
    smooth = _median_of_three(curves.val_loss)
    best = int(smooth.argmin())
    last = min(curves.last, len(smooth) - 1 - best)
    if last < 2:
        return None
    end, least = curves.val_loss[-last:].mean(), smooth[best]
    # Losses of single images are spread about as widely as their mean. The same images are seen in
    # every epoch, so the difference of two epochs varies less than this says.
    rises = end - least > _Z * least / sqrt(stage.num_validation)
    before, after = _median_of_three(curves.loss)[best], curves.loss[-last:].mean()
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
        detail += _MONITOR if stage.settings.get("monitor", "val_loss") == "val_loss" else "."
    return Diagnosis("over-fitting", detail, against_over_fitting(stage))


_MONITOR = " (`monitor: val_accuracy`)."


def _still_improving(curves: _Curves, stage: Stage) -> Diagnosis | None:
    # Late enough that a schedule which ends at a rate of zero has ended the fall, too.
    end = curves.val_loss[-max(5, len(curves.val_loss) // 4) :]
    if min(_fall(end), end[0] - end[-1]) < _FELL * end[-1]:
        return None
    # Where training was stopped early, more epochs change nothing.
    was_stopped = len(curves.loss) < stage.settings["epochs"]
    key = "early_stopping" if was_stopped and stage.settings.get("early_stopping") else "epochs"
    return Diagnosis(
        "still-improving",
        f"Validation loss still fell when training ended ({end[0]:.2f} to {end[-1]:.2f} in the "
        f"last {len(end)} epochs): train longer.",
        stage.propose(**{key: 2 * stage.settings[key]}),
    )


def _under_fitting(curves: _Curves, stage: Stage) -> Diagnosis | None:
    training, validation = curves.end_accuracies
    # Accuracy of training that is below validation, or of less than whole images, tells not how
    # well the network fits them.
    is_measure = not stage.is_hampered and not _below(curves, stage)
    is_low = training < _UNDERFITTED and training - validation < _GAP
    if not (is_measure and is_low and _is_level(curves.loss[len(curves.loss) // 2 :])):
        return None
    if _still_improving(curves, stage):
        return None
    return Diagnosis(
        "under-fitting",
        f"Training loss hardly falls any more, with an accuracy of {training:.0%} (validation: "
        f"{validation:.0%}): the network does not fit even what it sees.",
        against_under_fitting(stage),
    )


def _validation_too_small(curves: _Curves, stage: Stage) -> Diagnosis | None:
    accuracy = float(curves.val_accuracy.max())
    half_width = 1.96 * _standard_error(accuracy, stage.num_validation)
    if half_width < _WIDE:
        return None
    return Diagnosis(
        "validation-too-small",
        f"With {stage.num_validation} validation images, the accuracy of {accuracy:.0%} is known "
        f"only to +-{100 * half_width:.0f} points: smaller differences between epochs or settings "
        "may be chance.",
    )


def _below(curves: _Curves, stage: Stage) -> Diagnosis | None:
    training, validation = curves.end_accuracies
    if validation - training < _Z * _standard_error(validation, stage.num_validation):
        return None
    return Diagnosis(
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


def _median_of_three(values: np.ndarray) -> np.ndarray:
    """The median of each value and its two neighbours: one lucky epoch is no minimum."""
    padded = np.pad(values, 1, mode="edge")
    return np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)


def _nats(loss: float) -> str:
    """A loss of any size."""
    return f"{loss:.2f}" if loss < 1000 else f"{loss:.1e}"

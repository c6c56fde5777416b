"""Diagnose learning curves and the saved model, and propose changes of the config.

A rule reports only effects that are larger than chance, for the number of validation images:
accuracies are taken as binomial, and the losses of single images as spread as widely as their mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from cvtrain.evaluation.remedies import Stage, Start, against_over_fitting, against_under_fitting

_FEWEST_EPOCHS = 4  # fewer show no trend
_Z = 2.0  # standard errors beyond which a difference is not chance
_CHANCE = 0.05  # of taking a flat curve for one that falls
_FELL = 0.05  # training loss that fell by this share since an epoch is still being fitted
_BARELY = 0.1  # training loss that fell by less than this share has barely moved
_JUMP = 0.15  # share by which training loss rises in an epoch that was thrown back
_FITTED = 0.05  # nats: below, jumps of the training loss mean nothing
_LOST = 0.25  # of its last training loss, by which a collapsed training was better once
_FEWEST_TO_LEVEL = 5  # values; fewer do not distinguish a level from a slope
_UNDERFITTED = 0.9  # training accuracy below which a larger model may pay
_GAP = 0.05  # of accuracy, between training and validation, below which nothing is over-fitted
_FAR = 0.1  # of the usual learning rate, below which one is far too low
_FAR_ABOVE = 1.5  # times the loss of guessing
_WIDE = 0.05  # half width of the interval of validation accuracy from which on it is reported


@dataclass(frozen=True)
class Diagnosis:
    """One finding.

    Attributes:
        finding: the kind of finding, such as `over-fitting`.
        detail: one or two sentences with the numbers.
        proposal: YAML to put into the config, or "".
    """

    finding: str
    detail: str
    proposal: str = ""


def read_curves(history: Mapping[str, Sequence[float]], stage: Stage) -> list[Diagnosis]:
    """Diagnose one training, the most important finding first; empty if there is none.

    Args:
        history: the columns `loss`, `accuracy`, `val_loss` and `val_accuracy` of `history.csv`, one
            value per epoch; training values are means over the epoch, on augmented images. Empty
            if nothing was trained by epochs.
        stage: the settings of the training and the evaluation of its saved model.
    """
    curves = _Curves(*(np.asarray(history.get(key, ()), float) for key in _COLUMNS))
    # A failed training says nothing about the data, so each of these findings stands alone.
    for rule in (_never_learnt, _lost, _rate_is_absurd):
        if found := rule(curves, stage):
            return [found]
    # The curves of several steps of fine-tuning are not one curve.
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
    """Arrays (n,) with one value per epoch."""

    loss: np.ndarray
    accuracy: np.ndarray
    val_loss: np.ndarray
    val_accuracy: np.ndarray

    @property
    def last(self) -> int:
        """Number of epochs that count as the end: a fifth of them, at least two."""
        return max(2, len(self.loss) // 5)

    @property
    def end_losses(self) -> tuple[float, float]:
        """Mean training and validation loss at the end."""
        return self.loss[-self.last :].mean(), self.val_loss[-self.last :].mean()

    @property
    def end_accuracies(self) -> tuple[float, float]:
        """Mean training and validation accuracy at the end."""
        return self.accuracy[-self.last :].mean(), self.val_accuracy[-self.last :].mean()


def _never_learnt(curves: _Curves, stage: Stage) -> Diagnosis | None:
    model = stage.held_out
    if model is None or model.is_better:
        return None
    why, proposal = _why_never_learnt(curves, stage)
    return Diagnosis(
        "never-learnt",
        f"The model has not learnt: on the {model.num_images:,} validation and test images the "
        "saved model is not significantly better than guessing. Its accuracy is "
        f"{model.accuracy:.0%} (always guessing the most frequent class: "
        f"{model.most_frequent:.0%}); its loss is {_nats(model.loss)} (guessing by class "
        f"frequency: {_nats(model.entropy)}). {why}",
        proposal,
    )


def _why_never_learnt(curves: _Curves, stage: Stage) -> tuple[str, str]:
    """The likely reason, and what to try."""
    if stage.constant or stage.without_gradient:
        return _dead(stage), ""
    if not len(curves.loss):
        return (
            "The features do not separate the classes: cut the backbone at another layer "
            "(`cvtrain probe` compares layers), or use another backbone."
        ), ""
    end, val_end = curves.end_losses
    if end < (1 - _FELL) * stage.guessing and val_end > (1 + _BARELY) * end:
        return (
            f"It has fitted the training images (their loss ends at {_nats(end)}), but does not "
            "generalize to other images."
        ), against_over_fitting(stage)
    said = f"The training loss ends at {_nats(end)} (guessing: {_nats(stage.guessing)})"
    why, proposal = _why_not_fitted(curves, stage)
    return f"{said}{why}", proposal


def _why_not_fitted(curves: _Curves, stage: Stage) -> tuple[str, str]:
    """The likely reason why a network does not fit its training images, and what to try."""
    end, _ = curves.end_losses
    measured = " `cvtrain fit --find-lr` measures a suitable one." * (stage.name == "fit")
    optimizer = stage.settings["optimizer"]["name"]
    has_risen = end > (1 + _FELL) * max(stage.guessing, curves.loss[0])
    if stage.rate < _FAR * stage.usual_rate and not has_risen:
        said = f". A learning rate of {stage.rate:g} is far too low for {optimizer}.{measured}"
        return said, stage.higher_rate(3)
    is_below = end < (1 - _FELL / 5) * stage.guessing
    if is_below and len(curves.loss) >= _FEWEST_EPOCHS and _fall(curves.loss):
        return " and was still falling: train longer.", stage.propose(
            epochs=2 * stage.settings["epochs"]
        )
    too_high = "is far too high" if stage.is_absurd_rate else "may be too high"
    said = f". A learning rate of {stage.rate:g} {too_high} for {optimizer}.{measured}"
    return said, stage.lower_rate(0.1)


def _dead(stage: Stage) -> str:
    """What is constant for all images, and what to change."""
    what = (
        f"The inputs or outputs of {', '.join(stage.without_gradient)} are zero for all images, so "
        "no gradient reaches their weights."
    )
    if stage.constant:
        what = (
            f"The output of the frozen backbone at {', '.join(stage.constant)} is the same for all "
            "images, so nothing can be learnt from it."
        )
    ways = {
        "fit": "Train again with another seed.",
        "extract_features": "Cut the backbone at an earlier layer (`cvtrain probe` compares "
        "layers), or use trained weights.",
        "finetune": "Start from a run (`--from`) whose backbone has trained weights.",
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
        f"Fine-tuning made the model worse on the test images: accuracy fell from "
        f"{start.test_accuracy:.0%} to {start.test_accuracy_now:.0%}, which is significant "
        f"(McNemar's test, p = {start.p:.2g}).",
        stage.lower_rate(0.1),
    )


def _no_epoch_was_better(curves: _Curves, stage: Stage, start: Start) -> Diagnosis:
    detail = (
        "No epoch of fine-tuning was better on the validation images than the model from which it "
        "started, so that model is kept."
    )
    if np.allclose(curves.val_loss, start.val_loss, rtol=1e-6, atol=0):
        said = (
            f"{detail} The validation loss did not change: a learning rate of {stage.rate:g} is "
            "too low."
        )
        return Diagnosis("fine-tuning-lost", said, stage.higher_rate(10))
    detail += (
        f" Its validation loss was {_nats(start.val_loss)} and its accuracy "
        f"{start.val_accuracy:.0%}; fine-tuning ended at {_nats(curves.val_loss[-1])} and "
        f"{curves.val_accuracy[-1]:.0%}."
    )
    gained = curves.val_accuracy.max() - start.val_accuracy
    if gained > _Z * _standard_error(start.val_accuracy, stage.num_validation):
        detail += (
            f" Accuracy rose to {curves.val_accuracy.max():.0%}, so only the calibration of the "
            "confidences became worse."
        )
        return Diagnosis("fine-tuning-lost", detail, stage.propose(monitor="val_accuracy"))
    detail += " The usual reason is a learning rate that is too high for pretrained weights."
    return Diagnosis("fine-tuning-lost", detail, stage.lower_rate(0.1))


def _rate_is_absurd(curves: _Curves, stage: Stage) -> Diagnosis | None:
    """Losses far above guessing; the accuracy may still be high, with meaningless probabilities."""
    least = min(curves.loss.min(initial=np.inf), curves.val_loss.min(initial=np.inf))
    if not len(curves.loss) or not stage.is_absurd_rate or least < _FAR_ABOVE * stage.guessing:
        return None
    return Diagnosis(
        "learning-rate-too-high",
        f"In every epoch the losses were far above that of guessing ({_nats(stage.guessing)}). "
        f"They end at {_nats(curves.loss[-1])} (validation: {_nats(curves.val_loss[-1])}): a "
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
        f"the loss of guessing among {stage.num_classes} classes ({guessing:.2f}). The usual "
        "reason is a learning rate that is too high. The best epoch was kept.",
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
        f"The training loss jumps up repeatedly (epochs {epochs}): the learning rate is too high.",
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
        f"The training loss {'falls steadily, but ' * bool(falls)}barely changes: from "
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
        detail += " Accuracy still rose, so only the calibration became worse"
        detail += _MONITOR if stage.settings.get("monitor", "val_loss") == "val_loss" else "."
    return Diagnosis("over-fitting", detail, against_over_fitting(stage))


_MONITOR = "; `monitor: val_accuracy` keeps the most accurate epoch."


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
        f"Validation loss was still falling when training ended (from {end[0]:.2f} to "
        f"{end[-1]:.2f} in the last {len(end)} epochs): train longer.",
        stage.propose(**{key: 2 * stage.settings[key]}),
    )


def _under_fitting(curves: _Curves, stage: Stage) -> Diagnosis | None:
    training, validation = curves.end_accuracies
    # Training accuracy below validation accuracy, or on parts of images, does not measure how well
    # the network fits them.
    is_measure = not stage.is_hampered and not _below(curves, stage)
    is_low = training < _UNDERFITTED and training - validation < _GAP
    if not (is_measure and is_low and _is_level(curves.loss[len(curves.loss) // 2 :])):
        return None
    if _still_improving(curves, stage):
        return None
    return Diagnosis(
        "under-fitting",
        f"Training loss has stopped falling at an accuracy of {training:.0%} (validation: "
        f"{validation:.0%}): the network does not fit its own training images.",
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
        f"Training accuracy ({training:.0%}) is below validation accuracy ({validation:.0%}): this "
        "is normal with augmentation, mixed images or dropout.",
    )


def _standard_error(share: float, number: int) -> float:
    """The standard error of a proportion in `number` images; never zero."""
    share = min(max(share, 1 / (number + 2)), 1 - 1 / (number + 2))
    return sqrt(share * (1 - share) / number)


def _fall(values: np.ndarray) -> float:
    """The fall of a straight line through the values; 0 if it is not significant."""
    from scipy.stats import linregress

    line = linregress(np.arange(len(values)), values, alternative="less")
    return -line.slope * (len(values) - 1) if line.pvalue < _CHANCE else 0.0


def _is_level(values: np.ndarray) -> bool:
    """Is a change of more than 10 % ruled out, and any smaller change due to chance?

    Few values, or values with a large variance, never count as level.
    """
    from scipy.stats import linregress, t

    if len(values) < _FEWEST_TO_LEVEL:
        return False
    line, mean = linregress(np.arange(len(values)), values), values.mean()
    change = abs(line.slope) * (len(values) - 1)
    error = t.ppf(1 - _CHANCE, len(values) - 2) * line.stderr * (len(values) - 1)
    return change <= max(error, _FELL * mean) and change + error < _BARELY * mean


def _median_of_three(values: np.ndarray) -> np.ndarray:
    """The median of each value and its two neighbours, so that one outlier is no minimum."""
    padded = np.pad(values, 1, mode="edge")
    return np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)


def _nats(loss: float) -> str:
    """A loss as text, short for any size."""
    return f"{loss:.2f}" if loss < 1000 else f"{loss:.1e}"

"""The stages of a config: how networks are trained, and what is measured of a backbone."""

from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from cvtrain.sections.base import NEW_RUN, ImageSize, Part, Positive, Rate, Section, Share
from cvtrain.sections.networks import Backbone, Convnet, Head, Net

Metric = Literal["auc", "balanced_accuracy", "macro_f1", "top_5"]
"""Each is a function of `evaluation.metrics`."""
Monitor = Literal[
    "val_loss", "val_accuracy", "val_auc", "val_balanced_accuracy", "val_macro_f1", "val_top_5"
]


class Optimizer(Section):
    """The optimizer, one of Keras' optimizers."""

    name: Annotated[Literal["sgd", "rmsprop", "adam", "adamw"], NEW_RUN] = "rmsprop"
    """Name of the optimizer."""
    learning_rate: Rate = 1e-3
    """Initial learning rate, which the schedule changes."""
    momentum: Annotated[Annotated[float, Field(ge=0, lt=1)] | None, NEW_RUN] = None
    """Momentum of sgd and rmsprop. Default: none."""
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    """Decoupled weight decay. Default: that of Keras, 0.004 for adamw and none for the others."""
    clip_norm: Rate | None = None
    """Maximum global norm of the gradients; larger ones are scaled down. Default: no maximum."""

    @model_validator(mode="after")
    def _only_what_it_has(self) -> "Optimizer":
        if self.momentum is not None and self.name not in ("sgd", "rmsprop"):
            raise ValueError(f"{self.name} has no momentum; leave it out, or use sgd or rmsprop")
        return self


class Schedule(Section):
    """The learning-rate schedule."""

    name: Literal["constant", "cosine", "step", "exponential", "plateau"] = "constant"
    """`constant`; `cosine`: decay to zero at the last step; `step`: multiply by `factor` every
    `every` epochs; `exponential`: multiply by `factor` per epoch; `plateau`: multiply by `factor`
    after `patience` epochs without improvement."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Number of epochs in which the learning rate grows linearly from zero."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Factor of the schedules `step`, `exponential` and `plateau`."""
    every: Positive = 10
    """Number of epochs between two changes of the schedule `step`."""
    patience: Positive = 5
    """Number of epochs without improvement before `plateau` lowers the rate."""


class Training(Section):
    """How a network is trained; every stage has these keys."""

    epochs: Positive = 30
    """Number of epochs."""
    steps_per_epoch: Positive | None = None
    """Number of batches in an epoch. Default: one pass over the data."""
    batch_size: Positive = 32
    """Number of images in a step."""
    optimizer: Optimizer = Optimizer()
    """The optimizer."""
    schedule: Schedule = Schedule()
    """The learning-rate schedule."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weights each class by the inverse of its frequency."""
    label_smoothing: Share = 0.0
    """Fraction of each training label that is spread evenly over all classes, such as 0.1.
    Validation and all reported metrics use the labels without smoothing."""
    metrics: Annotated[tuple[Metric, ...], NEW_RUN] = ()
    """Metrics measured besides loss and accuracy, on the validation images after each epoch and on
    every split at the end. auc: area under the ROC curve, mean over the classes; balanced_accuracy:
    mean recall of the classes; macro_f1: mean F1 of the classes; top_5: fraction of the images
    whose class is among the five most probable."""
    monitor: Annotated[Monitor, NEW_RUN] = "val_loss"
    """Metric that determines the best epoch, whose weights are saved. To monitor `val_macro_f1` or
    the like, list it in `metrics`."""
    early_stopping: Positive | None = None
    """Stop after this number of epochs without improvement. Default: never."""
    ema: Annotated[Annotated[float, Field(gt=0, lt=1)] | None, NEW_RUN] = None
    """Decay per step of an exponential moving average of the weights, such as 0.999; the average is
    validated and saved. Default: no average."""

    @model_validator(mode="after")
    def _warm_up_ends(self) -> "Training":
        if self.schedule.warmup_epochs >= self.epochs:
            both = f"{self.schedule.warmup_epochs:g} and {self.epochs}"
            raise ValueError(
                f"schedule.warmup_epochs must be smaller than epochs, and they are {both}; for a "
                "short trial set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _monitored_is_measured(self) -> "Training":
        name = self.monitor.removeprefix("val_")
        if name not in ("loss", "accuracy", *self.metrics):
            metrics = ", ".join((*self.metrics, name))
            raise ValueError(f"monitor is {self.monitor}; for that set metrics: [{metrics}]")
        return self


class Fit(Training):
    """`cvtrain fit`: train a convnet from scratch, with the augmentation of `augment:`."""

    model: Annotated[Net, NEW_RUN] = Convnet()
    """The network. Default: a plain convnet."""


Views = Positive | Literal["unlimited"]


class ExtractFeatures(Training):
    """`cvtrain extract-features`: train a head on features of a frozen backbone."""

    backbone: Annotated[Backbone, NEW_RUN] = Backbone(name="vgg16")
    """The backbone."""
    views: Annotated[Views, NEW_RUN] = 1
    """Number of augmented views of each image that are cached; 1 is the image itself. `unlimited`
    caches nothing and runs the backbone in every step."""
    head: Annotated[Head, NEW_RUN] = Head()
    """The head that is trained on the features."""

    @model_validator(mode="after")
    def _views_of_a_closed_form(self) -> "ExtractFeatures":
        if self.head.name != "dense" and self.views != 1:
            raise ValueError(f"a {self.head.name} head sees each image as it is: leave views out")
        return self


class Unfreeze(Training):
    """One step of fine-tuning."""

    unfreeze_from: Annotated[str | None, NEW_RUN] = None
    """First layer or block to train; everything above is trained, too."""
    unfreeze_blocks: Annotated[Positive | None, NEW_RUN] = None
    """Number of blocks to train, counted from the top. Default: 1, or see `unfreeze_from`."""
    rate_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Ratio of the learning rate of each block to that of the block above it (1/2.6 in Howard and
    Ruder, arXiv:1801.06146)."""
    batch_normalization: Annotated[Literal["frozen", "train"], NEW_RUN] = "frozen"
    """`frozen` keeps the statistics and scales of the backbone, even in trained blocks; `train`
    trains them."""
    optimizer: Optimizer = Optimizer(learning_rate=1e-5)
    """The optimizer; its learning rate should be far below that of the stage before."""

    @model_validator(mode="after")
    def _one_place(self) -> "Unfreeze":
        if self.unfreeze_from is not None and self.unfreeze_blocks is not None:
            raise ValueError("give unfreeze_from or unfreeze_blocks, not both")
        return self


class FineTune(Unfreeze):
    """`cvtrain finetune`: continue training the top layers of a run; those below stay frozen."""

    views: Annotated[Views | None, NEW_RUN] = None
    """Same meaning as `extract_features.views`. Default: that value."""
    then: Annotated[tuple[Unfreeze, ...], NEW_RUN] = ()
    """Further steps, each of which continues the one before."""

    @model_validator(mode="after")
    def _one_history(self) -> "FineTune":
        for i, step in enumerate(self.then):
            if step.metrics != self.metrics:
                raise ValueError(
                    f"then.{i}.metrics must be the same as metrics, because all steps are in one "
                    f"history; they are {[*step.metrics]} and {[*self.metrics]}"
                )
        return self


class Probe(Section):
    """`cvtrain probe`: find the best block to cut a backbone, by a linear classifier at each."""

    backbones: tuple[Backbone, ...] = ()
    """Backbones to compare, each at every block; their `cut` is ignored. Default: that of
    extract_features."""
    image_sizes: tuple[ImageSize, ...] = ()
    """Image sizes to compare, each like data.image_size. Default: that one."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Number of folds of the cross-validation on the training images."""


class LearningCurve(Section):
    """`cvtrain learning-curve`: estimate the gain of more data, on features of the backbone."""

    shares: Annotated[tuple[Part, ...], Field(min_length=1)] = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
    """Fractions of the training images of each class, ascending; a forecast needs four."""
    seeds: Positive = 5
    """Number of subsets of each fraction; more subsets give narrower intervals."""

    @model_validator(mode="after")
    def _shares_ascend(self) -> "LearningCurve":
        if list(self.shares) != sorted(set(self.shares)):
            raise ValueError("shares must ascend, each above the one before")
        return self

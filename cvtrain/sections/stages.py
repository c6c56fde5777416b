"""The stages of a config: how networks are trained, and what is measured of a base."""

from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from cvtrain.sections.base import NEW_RUN, ImageSize, Part, Positive, Rate, Section, Share
from cvtrain.sections.networks import Backbone, Convnet, Head, Net


class Optimizer(Section):
    """The optimizer, one of Keras' own."""

    name: Annotated[Literal["sgd", "rmsprop", "adam", "adamw"], NEW_RUN] = "rmsprop"
    """Which one."""
    learning_rate: Rate = 1e-3
    """Its learning rate, before the schedule."""
    momentum: Annotated[Annotated[float, Field(ge=0, lt=1)] | None, NEW_RUN] = None
    """Momentum of sgd and rmsprop; left out: none."""
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    """Decoupled weight decay; left out: what Keras has, 0.004 for adamw and none for the others."""
    clip_norm: Rate | None = None
    """Bound on the norm of all gradients together."""

    @model_validator(mode="after")
    def _only_what_it_has(self) -> "Optimizer":
        if self.momentum is not None and self.name in ("adam", "adamw"):
            raise ValueError(f"{self.name} has no momentum; leave it out, or use sgd or rmsprop")
        return self


class Schedule(Section):
    """How the learning rate changes."""

    name: Literal["constant", "cosine", "step", "exponential", "plateau"] = "constant"
    """constant; cosine to zero at the last step; step: times `factor` every `every` epochs;
    exponential: times `factor` per epoch; plateau: times `factor` after `patience` epochs without
    progress."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Epochs over which the rate grows linearly from zero."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """What step, exponential and plateau multiply by."""
    every: Positive = 10
    """Epochs between two changes of `step`."""
    patience: Positive = 5
    """Epochs without progress before `plateau` acts."""


class Training(Section):
    """How long and by what rules a network is trained; the same keys in every stage."""

    epochs: Positive = 30
    """Number of epochs."""
    steps_per_epoch: Positive | None = None
    """Batches in an epoch, whatever the size of the data; left out: one pass over the data."""
    batch_size: Positive = 32
    """Images in a step."""
    optimizer: Optimizer = Optimizer()
    """The optimizer."""
    schedule: Schedule = Schedule()
    """The learning-rate schedule."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs each class by the inverse of its share."""
    label_smoothing: Share = 0.0
    """Share of each training label that is spread evenly over all classes, such as 0.1; validation
    and all reported metrics are without."""
    monitor: Annotated[Literal["val_loss", "val_accuracy"], NEW_RUN] = "val_loss"
    """What makes a model the best one; the best one is kept."""
    early_stopping: Positive | None = None
    """Stop after so many epochs without progress."""
    ema: Annotated[Annotated[float, Field(gt=0, lt=1)] | None, NEW_RUN] = None
    """Decay per step of a moving average of the weights, such as 0.999; the average is what is
    validated and saved. Left out: none."""

    @model_validator(mode="after")
    def _warm_up_ends(self) -> "Training":
        if self.schedule.warmup_epochs >= self.epochs:
            both = f"{self.schedule.warmup_epochs:g} and {self.epochs}"
            raise ValueError(
                f"schedule.warmup_epochs must be smaller than epochs, and they are {both}; for a "
                "short trial set it to 0"
            )
        return self


class Fit(Training):
    """`cvtrain fit`: a convnet from scratch, augmented where the config has `augment:`."""

    model: Annotated[Net, NEW_RUN] = Convnet()
    """The network: a convnet where `name` does not say otherwise."""


Views = Positive | Literal["unlimited"]


class ExtractFeatures(Training):
    """`cvtrain extract-features`: a head on the features of a frozen base, computed once."""

    backbone: Annotated[Backbone, NEW_RUN] = Backbone(name="vgg16")
    """The base."""
    views: Annotated[Views, NEW_RUN] = 1
    """Augmented views per image that are cached, 1 = the image itself; `unlimited` caches nothing
    and runs the base in every step."""
    head: Annotated[Head, NEW_RUN] = Head()
    """What is trained on the features."""

    @model_validator(mode="after")
    def _views_of_a_closed_form(self) -> "ExtractFeatures":
        if self.head.name != "dense" and self.views != 1:
            raise ValueError(f"a {self.head.name} head sees each image as it is: leave views out")
        return self


class Unfreeze(Training):
    """One step of fine-tuning: what is trained, and how."""

    unfreeze_from: Annotated[str | None, NEW_RUN] = None
    """Layer or block from which on everything is trained."""
    unfreeze_blocks: Annotated[Positive | None, NEW_RUN] = None
    """So many blocks from the top; 1 where neither is said."""
    rate_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The learning rate of each block is that of the block above it times this (Howard and Ruder,
    arXiv:1801.06146, have 1/2.6)."""
    batch_normalization: Annotated[Literal["frozen", "train"], NEW_RUN] = "frozen"
    """`frozen` keeps statistics and scales of the base, also in the blocks that are trained."""
    optimizer: Optimizer = Optimizer(learning_rate=1e-5)
    """The optimizer; its rate should be far below that of the stage before."""

    @model_validator(mode="after")
    def _one_place(self) -> "Unfreeze":
        if self.unfreeze_from is not None and self.unfreeze_blocks is not None:
            raise ValueError("give unfreeze_from or unfreeze_blocks, not both")
        return self


class FineTune(Unfreeze):
    """`cvtrain finetune`: the top of a run's network is trained on, what is below stays frozen."""

    views: Annotated[Views | None, NEW_RUN] = None
    """As `extract_features.views`, which is the default."""
    then: Annotated[tuple[Unfreeze, ...], NEW_RUN] = ()
    """Further steps, one after the other, each on the result of the one before."""


class Probe(Section):
    """`cvtrain probe`: where to cut a base, measured by a linear classifier at each block."""

    backbones: tuple[Backbone, ...] = ()
    """Bases to compare, every block of each, whatever its `cut`; left out: that of
    extract_features."""
    image_sizes: tuple[ImageSize, ...] = ()
    """Sizes to compare, each as in data.image_size; left out: that one."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Parts of the cross-validation on the training images."""


class LearningCurve(Section):
    """`cvtrain learning-curve`: would more data help? A head on the base of extract_features."""

    shares: Annotated[tuple[Part, ...], Field(min_length=1)] = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
    """Of the training images of each class, in ascending order; a forecast takes four."""
    seeds: Positive = 5
    """How many subsets are drawn of each share; the more, the surer."""

    @model_validator(mode="after")
    def _shares_ascend(self) -> "LearningCurve":
        if list(self.shares) != sorted(set(self.shares)):
            raise ValueError("shares must ascend, each above the one before")
        return self

"""The sections of a config: what a YAML may say, with types, ranges and defaults.

Each field's docstring is its documentation everywhere: in errors, in the reference, in editors.
"""

import ast
import difflib
import inspect
import itertools
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Part = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0)]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _height_and_width(value: Any) -> tuple[int, int]:
    pair = [value, value] if _is_whole(value) else value
    if not (isinstance(pair, list) and len(pair) == 2 and all(map(_is_whole, pair))):
        raise ValueError("must be [height, width] in whole pixels, or one number for a square")
    if not all(4 <= side <= 4096 for side in pair):
        raise ValueError("must be between 4 and 4096 pixels")
    return (pair[0], pair[1])


def _per_stage(value: Any) -> int | tuple[int, ...]:
    """One number means the same for every stage; it is kept as it is written."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(_is_whole(v) and v >= 1 for v in values):
        raise ValueError("must be a whole number of at least 1, or a list with one per stage")
    return tuple(values) if isinstance(value, list) else value


def _class_names(value: Any) -> tuple[str, ...]:
    """Folders of digits may be written as numbers: [0, 1, 2]."""
    names = value if isinstance(value, list) else []
    names = tuple(str(name) if _is_whole(name) else name for name in names)
    if len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise ValueError("must be a list of at least two class names")
    return names


def _label_pattern(value: str) -> str:
    from cvtrain.data.labels import compile_pattern

    compile_pattern(value)
    return value


# What a YAML may say stands beside what it becomes, for the schema that editors read.
Side = Annotated[int, Field(ge=4, le=4096)]
ImageSize = Annotated[
    tuple[int, int],
    BeforeValidator(_height_and_width, json_schema_input_type=Side | tuple[Side, Side]),
]
OnePerStage = Annotated[tuple[Positive, ...], Field(min_length=1)]
PerStage = Annotated[
    int | tuple[int, ...],
    BeforeValidator(_per_stage, json_schema_input_type=Positive | OnePerStage),
]
ClassNames = Annotated[
    tuple[str, ...],
    BeforeValidator(
        _class_names,
        json_schema_input_type=Annotated[tuple[str | int, ...], Field(min_length=2)],
    ),
]
Byte = Annotated[int, Field(ge=0, le=255)]


class Section(BaseModel):
    """Base of all sections: immutable, typed strictly, unknown keys are errors."""

    # Built when first used: building Config builds all sections, and one mistake must be told fast.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True
    )


def sections_in(annotation: Any) -> list[type[Section]]:
    """The sections that a field may hold, in a list or as one of several kinds, too."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in sections_in(part)]


def field_docs(section: type[Section]) -> dict[str, str]:
    """The docstring of each field of a section, inherited ones first.

    Pydantic can read them too (`use_attribute_docstrings`), but then every command pays for it.
    """
    docs = {} if section is Section else field_docs(section.__base__)
    (definition,) = ast.parse(inspect.getsource(section)).body
    for field, below in itertools.pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            docs[field.target.id] = inspect.cleandoc(ast.literal_eval(below.value))
    return docs


class Split(Section):
    """Shares that are taken where the source has no such split of its own."""

    validation: Share = 0.15
    """Share of the images for validation."""
    test: Share = 0.15
    """Share of the images for the test."""

    @model_validator(mode="after")
    def _leave_some(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError(
                "validation and test together must leave images for training (sum < 1)"
            )
        return self


class Data(Section):
    """Which images, and how they are read."""

    source: str
    """Image folder, CSV manifest, `.npz` in the layout of keras.datasets, or a named set: `digits`,
    `mnist`, `fashion_mnist`, `cifar10`, `cats_vs_dogs`."""
    label_pattern: Annotated[str, AfterValidator(_label_pattern)] | None = None
    """Regular expression whose one group finds the class in each path below the source, as
    `(cat|dog)\\.` does in `cat.12.jpg`; left out: folders are the classes."""
    classes: ClassNames | None = None
    """Only the images of these classes; left out: all."""
    train_per_class: Positive | None = None
    """At most so many training images of each class, drawn by the seed; left out: all."""
    image_size: ImageSize = (180, 180)
    """Height and width in pixels that every image is brought to; one number for a square."""
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    """stretch ignores the aspect ratio, crop cuts the longer side, pad fills the shorter one."""
    background: tuple[Byte, Byte, Byte] = (255, 255, 255)
    """RGB, 0..255, under transparent pixels and beside padded images."""
    split: Split = Split()
    """Shares for validation and test where the source has no such splits."""
    on_bad: Literal["error", "skip"] = "error"
    """`error` stops before training when a file is unusable, `skip` goes on without it."""
    on_leak: Literal["error", "allow"] = "error"
    """What to do about one image that stands in two splits."""


class RandAugment(Section):
    """RandAugment (Cubuk et al., arXiv:1909.13719); operations and ranges are torchvision's."""

    num_ops: Positive = 2
    """Operations an image, of fourteen: identity, autocontrast, equalize, rotate, shears,
    translations, brightness, colour, contrast, sharpness, posterize and solarize."""
    magnitude: Annotated[float, Field(ge=0, le=30)] = 9.0
    """Their common strength, of 30."""


class Augment(Section):
    """Random changes of the training images; all geometric ones are one resampling."""

    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    """Mirror half of the images."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Degrees, uniform in +-rotate."""
    shift: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of height and width, uniform in +-shift."""
    shear: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Tangent of the shear angle, uniform in +-shear."""
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Scale, uniform in 1-zoom..1+zoom."""
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Added brightness as a fraction of white, uniform in +-brightness."""
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Factor about the image's mean, uniform in 1-contrast..1+contrast."""
    saturation: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Factor against grey, uniform in 1-saturation..1+saturation."""
    fill: Literal["nearest", "reflect", "wrap", "constant"] = "nearest"
    """What stands where the image does not reach; `constant` is black."""
    rand_augment: RandAugment | None = None
    """A few operations of fourteen besides all the above; {} has the defaults, left out: none."""
    erase: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that a rectangle of 2 to 33 % of the image becomes noise, such as 0.25."""
    mixup: Rate | None = None
    """Blend each image of a batch with another, and their labels with them, by a share drawn from
    Beta(mixup, mixup), such as 0.2; needs every image in every step, so no cached views."""
    cutmix: Rate | None = None
    """Paste a rectangle of another image of the batch into each, and mix their labels by its area,
    drawn from Beta(cutmix, cutmix), such as 1.0; with `mixup` too, each batch takes one of both."""

    @property
    def mixes(self) -> tuple[str, ...]:
        """Which of the keys that mix images are set."""
        return tuple(key for key in ("mixup", "cutmix") if getattr(self, key) is not None)


class Convnet(Section):
    """A plain convnet: stages of convolution and pooling, then dense layers."""

    name: Literal["convnet"] = "convnet"
    """The architecture."""
    filters: Annotated[tuple[Positive, ...], Field(min_length=1)] = (32, 64, 128, 128)
    """Output channels of each convolution; their number is the number of stages."""
    kernel_size: PerStage = 3
    """Window of the convolutions in pixels; one number, or one per stage."""
    padding: Literal["valid", "same"] = "valid"
    """`valid` shrinks the map by the border, `same` keeps its size."""
    strides: PerStage = 1
    """Step of the convolution windows; one number, or one per stage."""
    pooling: PerStage = 2
    """Max-pooling window after each convolution, 1 = none; one number, or one per stage."""
    batch_normalization: bool = False
    """Batch normalisation between convolution and ReLU."""
    global_average_pooling: bool = False
    """Average each map instead of flattening them all."""
    dense: tuple[Positive, ...] = (512,)
    """Units of the dense ReLU layers before the classifier; [] for none."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the flattened features that is dropped in training."""
    grayscale: bool = False
    """Look at the brightness alone."""

    @model_validator(mode="after")
    def _one_value_per_stage(self) -> "Convnet":
        for key in ("kernel_size", "strides", "pooling"):
            value = getattr(self, key)
            if isinstance(value, tuple) and len(value) != len(self.filters):
                raise ValueError(
                    f"{key} has {len(value)} values for {len(self.filters)} stages (filters); "
                    "give one number, or one per stage"
                )
        return self


class Separable(Section):
    """The book's small residual net of separable convolutions: Xception in little."""

    name: Literal["separable"]
    """The architecture."""
    filters: Annotated[tuple[Positive, ...], Field(min_length=1)] = (32, 64, 128, 256, 512)
    """Output channels of each block; every block halves the map."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the averaged features that is dropped in training."""


def _net_name(value: Any) -> str:
    """Which net a section is of: a convnet where it does not say."""
    if isinstance(value, dict):
        return str(value.get("name", "convnet"))
    return getattr(value, "name", "convnet")


Net = Annotated[
    Annotated[Convnet, Tag("convnet")] | Annotated[Separable, Tag("separable")],
    Discriminator(_net_name),
]


class Optimizer(Section):
    """The optimizer, one of Keras' own."""

    name: Literal["sgd", "rmsprop", "adam", "adamw"] = "rmsprop"
    """Which one."""
    learning_rate: Rate = 1e-3
    """Its learning rate, before the schedule."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
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
    """How often the network sees the data."""
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
    monitor: Literal["val_loss", "val_accuracy"] = "val_loss"
    """What makes a model the best one; the best one is kept."""
    early_stopping: Positive | None = None
    """Stop after so many epochs without progress."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay per step of a moving average of the weights, such as 0.999; the average is what is
    validated and saved. Left out: none."""

    @model_validator(mode="after")
    def _warm_up_ends(self) -> "Training":
        if self.schedule.warmup_epochs >= self.epochs:
            raise ValueError("schedule.warmup_epochs must be smaller than epochs")
        return self


class Fit(Training):
    """`cvtrain fit`: a convnet from scratch, augmented where the config has `augment:`."""

    model: Net = Convnet()
    """The network: a convnet where `name` does not say otherwise."""


class Backbone(Section):
    """The base whose features are used: a network of keras.applications, or an earlier run."""

    name: str | None = None
    """Which network, such as `vgg16`; left out where `weights` names a run."""
    weights: str = "imagenet"
    """`imagenet` (Keras' download), a weights file, a run folder, or `none` for random ones."""
    alpha: Rate | None = None
    """Width multiplier of a MobileNet; left out: 1."""
    cut: str | None = None
    """Layer or block whose output is the feature; left out: the last one."""

    @model_validator(mode="after")
    def _names_a_network(self) -> "Backbone":
        if self.name is None:
            if self.weights in ("imagenet", "none"):
                raise ValueError("name is missing, such as vgg16 or mobilenet")
            return self
        from cvtrain.models.architectures import ARCHITECTURES

        if self.name not in ARCHITECTURES:
            close = difflib.get_close_matches(self.name, ARCHITECTURES, 1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(ARCHITECTURES)}"
            raise ValueError(f"there is no network '{self.name}'; {hint}")
        if self.alpha is not None and not ARCHITECTURES[self.name].has_alpha:
            raise ValueError(f"{self.name} has no alpha; leave it out")
        return self


class Head(Section):
    """What stands on the features: layers that are trained, or a closed form."""

    name: Literal["dense", "logistic", "knn"] = "dense"
    """`dense` layers, `logistic` regression, or a vote of the nearest neighbours (`knn`)."""
    pooling: Literal["average", "max", "flatten"] = "average"
    """How the map becomes a vector; `flatten` keeps where things are, and has more weights."""
    dense: tuple[Positive, ...] = (256,)
    """Units of the dense ReLU layers before the classifier; [] for none."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the values that is dropped in training, before the classifier and between layers."""
    neighbors: Positive = 20
    """How many neighbours vote, by cosine similarity (`knn`)."""


Views = Positive | Literal["unlimited"]


class ExtractFeatures(Training):
    """`cvtrain extract-features`: a head on the features of a frozen base, computed once."""

    backbone: Backbone = Backbone(name="vgg16")
    """The base."""
    views: Views = 1
    """Augmented views per image that are cached, 1 = the image itself; `unlimited` caches nothing
    and runs the base in every step."""
    head: Head = Head()
    """What is trained on the features."""

    @model_validator(mode="after")
    def _views_of_a_closed_form(self) -> "ExtractFeatures":
        if self.head.name != "dense" and self.views != 1:
            raise ValueError(f"a {self.head.name} head sees each image as it is: leave views out")
        return self


class Unfreeze(Training):
    """One step of fine-tuning: what is trained, and how."""

    unfreeze_from: str | None = None
    """Layer or block from which on everything is trained."""
    unfreeze_blocks: Positive | None = None
    """So many blocks from the top; 1 where neither is said."""
    rate_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The learning rate of each block is that of the block above it times this (Howard and Ruder,
    arXiv:1801.06146, have 1/2.6)."""
    batch_normalization: Literal["frozen", "train"] = "frozen"
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

    views: Views | None = None
    """As in `extract_features`, and left out: what it has there."""
    then: tuple[Unfreeze, ...] = ()
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


STAGES = {
    "fit": {"fit"},
    "find-lr": {"fit"},
    "extract-features": {"extract_features", "finetune"},
    "finetune": {"finetune"},
    "probe": {"probe", "extract_features"},
    "learning-curve": {"learning_curve", "extract_features"},
    "ladder": {"fit", "extract_features", "finetune"},
}
"""The sections that each command reads besides the shared ones."""


class Config(Section):
    """One project: the shared sections, and one section per stage."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Everything random follows from it."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where to compute; auto takes a GPU when there is one."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of training; auto measures on this machine. The saved model computes in float32 always."""
    cached_features: Literal["bfloat16", "float32"] = "bfloat16"
    """Number format of the features that training reads from the cache."""
    log: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    """Where training is logged besides the run folder: `tensorboard` writes RUN/tensorboard/,
    `mlflow` goes where MLFLOW_TRACKING_URI says."""
    data: Data
    """Which images, and how they are read."""
    augment: Augment | None = None
    """Random changes of the training images; left out: none."""
    fit: Fit = Fit()
    """The convnet from scratch."""
    extract_features: ExtractFeatures = ExtractFeatures()
    """A head on the features of a frozen base."""
    probe: Probe = Probe()
    """Where to cut a base."""
    learning_curve: LearningCurve = LearningCurve()
    """Would more data help?"""
    finetune: FineTune | None = None
    """The top of a network trained on; left out: the defaults."""

    @model_validator(mode="after")
    def _views_need_augmentation(self) -> "Config":
        for key in ("extract_features", "finetune"):
            views = getattr(getattr(self, key), "views", None)
            if views not in (None, 1) and self.augment is None:
                raise ValueError(f"{key}.views is {views}, and there is no augment section")
        return self

    @model_validator(mode="after")
    def _cached_views_are_of_one_image(self) -> "Config":
        for key in ("extract_features", "finetune"):
            views = getattr(getattr(self, key), "views", None)
            if views not in (None, 1, "unlimited") and self.augment and self.augment.mixes:
                mixes = " and ".join(f"augment.{each}" for each in self.augment.mixes)
                raise ValueError(
                    f"{key}.views is {views}, and a cached view is of one image, which {mixes} "
                    "would mix with another; leave that out, or set views to unlimited"
                )
        return self

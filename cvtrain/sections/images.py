"""Which images a config names, and how training changes them.

Each field's docstring is its documentation everywhere: in errors, in the reference, in editors.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    model_validator,
)

from cvtrain.sections.base import (
    NEW_RUN,
    Byte,
    ClassNames,
    ColumnName,
    Folders,
    ImageSize,
    LabelColumns,
    LabelPattern,
    Positive,
    Range,
    Rate,
    Section,
    Share,
    Suffix,
)


class SplitShares(Section):
    """Shares that are taken where the source has no such split of its own."""

    validation: Share = 0.15
    """Share of the images for validation; 0 only where the source has such a split."""
    test: Share = 0.15
    """Share of the images for the test; 0 only where the source has such a split."""

    @model_validator(mode="after")
    def _leave_some(self) -> "SplitShares":
        if self.validation + self.test >= 1:
            raise ValueError(
                "validation and test together must leave images for training (sum < 1)"
            )
        return self


class Columns(Section):
    """Which column of a manifest is what, and how its paths become files.

    Columns go by their names in the header, in any case; where there is no header, by numbers from
    1.
    """

    path: ColumnName = "path"
    """Of the image file."""
    label: LabelColumns = "label"
    """Of the class; or a list of columns, one for each class, that have 1 where the image is of it
    and 0 elsewhere."""
    split: ColumnName | None = None
    """Of the split; left out: a column `split` where there is one."""
    folder: Folders = ""
    """Folder that paths count from, below that of the manifest; or a list of several."""
    strip: str = ""
    """What paths begin with and is taken off, as in a list of another computer."""
    suffix: Suffix = ""
    """Suffix of the files, such as `.jpg`, where paths have none or that of another format; `.*`
    is that of the one image of such a name."""

    @model_validator(mode="after")
    def _names_or_numbers(self) -> "Columns":
        columns = (self.path, self.label, self.split or self.path)
        if len({isinstance(column, int) for column in columns}) > 1:
            raise ValueError("columns go either all by names or, without a header, all by numbers")
        return self


class Data(Section):
    """Which images, and how they are read."""

    source: Annotated[str, Field(min_length=1)]
    """Image folder, CSV manifest (or JSON Lines), arrays (`.npz`, or IDX files as MNIST's), or a
    named set: `digits`, `mnist`, `fashion_mnist`, `cifar10`, `cats_vs_dogs`."""
    columns: Columns | None = None
    """Which column of a manifest is what; left out: its header says it, as `path,label[,split]`."""
    label_pattern: LabelPattern | None = None
    """Regular expression whose one group finds the class in each path below the source, as
    `(cat|dog)\\.` does in `cat.12.jpg`; left out: folders are the classes."""
    classes: ClassNames | None = None
    """Only the images of these classes; left out: all."""
    train_per_class: Positive | None = None
    """At most so many training images of each class, drawn by the seed, different ones before
    copies; left out: all."""
    image_size: Annotated[ImageSize, NEW_RUN] = (180, 180)
    """Height and width in pixels that every image is brought to; one number for a square."""
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    """stretch ignores the aspect ratio, crop cuts the longer side, pad fills the shorter one."""
    background: tuple[Byte, Byte, Byte] = (255, 255, 255)
    """RGB, 0..255, under transparent pixels and beside padded images."""
    range: Range = "auto"
    """Values of the files that become 0 and 255, such as [0, 4095] for 12 bits in files of 16;
    those beyond are clipped. auto: all that a file can hold, 0..255, or 0..65535 in 16 bits."""
    split: SplitShares = SplitShares()
    """Shares for validation and test where the source has no such splits."""
    on_bad: Literal["error", "skip"] = "error"
    """`error` stops before training when a file is unusable, `skip` goes on without it."""
    on_leak: Literal["error", "allow"] = "error"
    """What to do about one image that stands in two splits."""

    @model_validator(mode="after")
    def _labels_from_one_place(self) -> "Data":
        if self.columns is not None and self.label_pattern is not None:
            raise ValueError(
                "columns say that a manifest has the labels, label_pattern that names of files "
                "have them; leave one of them out"
            )
        return self


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
    """How points outside of the image are filled; `constant` is black."""
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
    def image_changes(self) -> dict[str, Any]:
        """What changes single images, as plain values without those that change nothing; empty
        where all images stay as they are."""
        neutral = type(self)().model_dump(exclude={"mixup", "cutmix"})
        changes = self.model_dump(include=set(neutral))
        changes = {key: value for key, value in changes.items() if value != neutral[key]}
        return changes if changes.keys() - {"fill"} else {}

    @property
    def mixes(self) -> tuple[str, ...]:
        """Which of the keys that mix images are set."""
        return tuple(key for key in ("mixup", "cutmix") if getattr(self, key) is not None)

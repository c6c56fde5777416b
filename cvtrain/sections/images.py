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
    """Fractions of the images for validation and test, if the source has no such splits."""

    validation: Share = 0.15
    """Fraction of the images for validation; 0 is allowed only if the source has this split."""
    test: Share = 0.15
    """Fraction of the images for the test; 0 is allowed only if the source has this split."""

    @model_validator(mode="after")
    def _leave_some(self) -> "SplitShares":
        if self.validation + self.test >= 1:
            raise ValueError(
                "validation and test together must leave images for training (sum < 1)"
            )
        return self


class Columns(Section):
    """Meaning of the columns of a manifest, and how its paths become file names.

    Give columns by their names in the header, in upper or lower case. If there is no header, give
    their numbers, counted from 1.
    """

    path: ColumnName = "path"
    """Column with the path of the image file."""
    label: LabelColumns = "label"
    """Column with the class; or a list of columns, one for each class, with 1 for the class of the
    image and 0 for the others."""
    split: ColumnName | None = None
    """Column with the split. Default: the column `split`, if there is one."""
    folder: Folders = ""
    """Folder that paths are relative to, below the folder of the manifest; or a list of folders."""
    strip: str = ""
    """Prefix to remove from paths, as in a list that was made on another computer."""
    suffix: Suffix = ""
    """Suffix of the files, such as `.jpg`, if paths have no suffix or another one; `.*` takes the
    only image with this name, whatever its suffix."""

    @model_validator(mode="after")
    def _names_or_numbers(self) -> "Columns":
        columns = (self.path, self.label, self.split or self.path)
        if len({isinstance(column, int) for column in columns}) > 1:
            raise ValueError("columns go either all by names or, without a header, all by numbers")
        return self


class Data(Section):
    """The images, and how they are read."""

    source: Annotated[str, Field(min_length=1)]
    """Image folder, CSV manifest (or JSON Lines), arrays (`.npz`, or IDX files like MNIST's), or a
    named data set: `digits`, `mnist`, `fashion_mnist`, `cifar10`, `cats_vs_dogs`."""
    columns: Columns | None = None
    """Meaning of the columns of a manifest. Default: its header is `path,label[,split]`."""
    label_pattern: LabelPattern | None = None
    """Regular expression with one group, which matches the class in the path of each image below
    the source: `(cat|dog)\\.` finds the class in `cat.12.jpg`. Default: folders are the classes."""
    classes: ClassNames | None = None
    """Use only the images of these classes. Default: all classes."""
    train_per_class: Positive | None = None
    """Maximum number of training images of each class. They are drawn with the seed, different
    images before copies. Default: all images."""
    image_size: Annotated[ImageSize, NEW_RUN] = (180, 180)
    """Height and width in pixels to which every image is resized; one number for a square."""
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    """`stretch` changes the aspect ratio, `crop` cuts the longer side, `pad` fills the shorter."""
    background: tuple[Byte, Byte, Byte] = (255, 255, 255)
    """RGB colour, 0..255, behind transparent pixels and in the padding of images."""
    range: Range = "auto"
    """Pixel values of the files that are mapped to 0 and 255, such as [0, 4095] for 12-bit values
    in 16-bit files; values outside are clipped. `auto`: the whole range of the file format, 0..255,
    or 0..65535 for 16 bits."""
    split: SplitShares = SplitShares()
    """Fractions of the images for validation and test, if the source has no such splits."""
    on_bad: Literal["error", "skip"] = "error"
    """`error` stops before training if a file is unusable, `skip` leaves the file out."""
    on_leak: Literal["error", "allow"] = "error"
    """Whether an image in two splits is an error or allowed."""

    @model_validator(mode="after")
    def _labels_from_one_place(self) -> "Data":
        if self.columns is not None and self.label_pattern is not None:
            raise ValueError(
                "columns say that a manifest has the labels, label_pattern that names of files "
                "have them; leave one of them out"
            )
        return self


class RandAugment(Section):
    """RandAugment (Cubuk et al., arXiv:1909.13719), with torchvision's operations and ranges."""

    num_ops: Positive = 2
    """Number of operations for each image, drawn from fourteen: identity, autocontrast, equalize,
    rotate, two shears, two translations, brightness, colour, contrast, sharpness, posterize and
    solarize."""
    magnitude: Annotated[float, Field(ge=0, le=30)] = 9.0
    """Strength of all operations, at most 30."""


MIXING_KEYS = ("mixup", "cutmix")
"""The keys of `augment:` that mix the images of a batch."""


class Augment(Section):
    """Random changes of the training images; all geometric changes are one resampling."""

    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    """Mirror images with a probability of one half, in each direction."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Rotation in degrees, uniform in +-rotate."""
    shift: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Shift as a fraction of height and width, uniform in +-shift."""
    shear: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Tangent of the shear angle, uniform in +-shear."""
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Scale factor, uniform in 1-zoom..1+zoom."""
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Added brightness as a fraction of white, uniform in +-brightness."""
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Contrast factor relative to the mean of the image, uniform in 1-contrast..1+contrast."""
    saturation: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Saturation factor, uniform in 1-saturation..1+saturation; 0 would be grey."""
    fill: Literal["nearest", "reflect", "wrap", "constant"] = "nearest"
    """Fill mode for points outside of the image; `constant` is black."""
    rand_augment: RandAugment | None = None
    """RandAugment, in addition to the keys above; {} uses its defaults. Default: none."""
    erase: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that a rectangle of 2 to 33 % of the image is replaced by noise, such as 0.25."""
    mixup: Rate | None = None
    """Blend each image of a batch, and its label, with another one; the weight is drawn from
    Beta(mixup, mixup), such as 0.2. It cannot be used with cached views."""
    cutmix: Rate | None = None
    """Paste a rectangle of another image of the batch into each image, and blend the labels by the
    areas; the area is drawn from Beta(cutmix, cutmix), such as 1.0. With both `mixup` and `cutmix`,
    each batch uses one of them."""

    @property
    def image_changes(self) -> dict[str, Any]:
        """What changes single images, as plain values without those that change nothing; empty
        where all images stay as they are."""
        neutral = type(self)().model_dump(exclude=set(MIXING_KEYS))
        changes = self.model_dump(include=set(neutral))
        changes = {key: value for key, value in changes.items() if value != neutral[key]}
        return changes if changes.keys() - {"fill"} else {}

    @property
    def mixes(self) -> tuple[str, ...]:
        """Which of the keys that mix images are set."""
        return tuple(key for key in MIXING_KEYS if getattr(self, key) is not None)

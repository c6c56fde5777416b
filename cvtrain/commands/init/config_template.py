"""Write a commented config, ready to train, for the profile of a data set and a backbone."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvtrain.commands.init.dataset_profile import DatasetProfile
from cvtrain.data.scan import join_names
from cvtrain.models.imagenet import KerasWeights
from cvtrain.sections import SplitShares
from cvtrain.steps.dataset import columns_of, summary
from cvtrain.system.console import duration
from cvtrain.system.text import escape, shell_quote

LEAST_IMBALANCE = 3.0
"""The ratio of the largest class to the smallest from which classes are weighted. Measured with
logistic regression on MobileNet features of ten kinds of clothes, at most 112 images of each, eight
draws: weights raise the mean recall of the classes by 0.046 at a ratio of 3 (standard error 0.008),
by 0.014 at 2 (0.007), and not at 1.5. The accuracy is the same."""

_WIDTH = 99
_FILTERS = (32, 64, 128, 128, 128)


@dataclass(frozen=True)
class Weights:
    """The pretrained weights that are available.

    Attributes:
        backbones: the backbones to choose from, the cheapest first.
        value: the value of `backbone.weights`: `imagenet`, a file, or `none`.
        remark: the origin of the weights, or the reason why there are none.
    """

    backbones: tuple[KerasWeights, ...]
    value: str
    remark: str


@dataclass(frozen=True)
class Timing:
    """The measured duration of each stage on this machine.

    Attributes:
        seconds: the seconds of each measured command.
        remark: a description of the measurement, or the reason why there is none.
    """

    seconds: Mapping[str, float]
    remark: str

    def of(self, command: str) -> str:
        """`about 12 min`, or empty."""
        return f"about {duration(self.seconds[command])}" if command in self.seconds else ""


@dataclass(frozen=True)
class ConfigTemplate:
    """A config with its comments.

    Attributes:
        found: the profile of the images.
        source: the value of `data.source`, relative to the folder of the config.
        backbone: one of `weights.backbones`.
        weights: the pretrained weights.
        timing: the durations for the comments.
        output: the path of the config, for the commands in its comments.
    """

    found: DatasetProfile
    source: str
    backbone: KerasWeights
    weights: Weights
    timing: Timing
    output: Path

    @property
    def text(self) -> str:
        """The config as YAML with comments, its keys in the order of the sections."""
        sections = (_header, _data, _augment, _fit, _extract_features, _finetune)
        return "\n".join(line for section in sections for line in section(self)) + "\n"

    @property
    def commands(self) -> dict[str, str]:
        """The command line of each stage; a default config.yaml is not named."""
        name = shell_quote(self.output)
        config = "" if self.output == Path("config.yaml") else f" {name}"
        return {
            "fit": f"cvtrain fit {name}",
            "extract-features": f"cvtrain extract-features{config}",
            "finetune": f"cvtrain finetune{config}",
            "visualize": "cvtrain visualize --cam",
        }

    @property
    def weighs_classes(self) -> bool:
        """Whether the classes are imbalanced enough to be weighted."""
        return self.found.imbalance >= LEAST_IMBALANCE

    @property
    def batch_size(self) -> int:
        """The batch size with which an epoch has between 20 and about 1,000 steps."""
        return 16 if self.found.num_train < 640 else 32 if self.found.num_train < 32_000 else 64

    def epochs(self, images: int, least: int, most: int) -> int:
        """The number of epochs that train on `images` images in all, within limits."""
        return max(least, min(most, round(images / self.found.num_train)))


def blocks_to_unfreeze(backbone: KerasWeights) -> int:
    """The upper half of a MobileNet, whose blocks are small; the last block of a VGG."""
    return {"mobilenet": 6, "vgg16": 1, "vgg19": 1}.get(backbone.name, 3)


def yaml_text(value: Any) -> str:
    """`value` as YAML on one line: as JSON, whose escapes are valid in YAML."""
    return escape(json.dumps(value, ensure_ascii=False))


def note(text: str, indent: int = 0) -> str:
    """`text` as a wrapped comment; line breaks in it are escaped."""
    start = " " * indent + "# "
    return textwrap.fill(
        escape(text),
        width=_WIDTH,
        initial_indent=start,
        subsequent_indent=start,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _header(recipe: ConfigTemplate) -> Iterator[str]:
    yield note(f"{recipe.source}: {summary(recipe.found.index.counts)}.")
    yield "#"
    for stage, command in recipe.commands.items():
        remark = "class-activation maps" if stage == "visualize" else recipe.timing.of(stage)
        yield f"#   {command:<32}  {remark}".rstrip()
    yield "#"
    yield note(
        f"{recipe.timing.remark} Every value was chosen for these images and this machine, and can "
        "be changed. A key that is not listed has its default value."
    )
    yield "seed: 0"


def _data(recipe: ConfigTemplate) -> Iterator[str]:
    found, index = recipe.found, recipe.found.index
    yield "\ndata:"
    yield f"  source: {yaml_text(recipe.source)}"
    if found.label_pattern is not None:
        yield note("There are no class folders; the group matches the class in the path.", indent=2)
        yield f"  label_pattern: {yaml_text(found.label_pattern)}"
    if (columns := columns_of(found.columns)) is not None:
        yield note("The columns of the manifest, and the location of its files.", indent=2)
        yield f"  columns: {columns.as_yaml()}"
    if found.too_rare:
        rare = join_names(f"{name} ({count})" for name, count in found.too_rare.items())
        yield note(
            f"These classes have too few images to be split, and are left out: {rare}. If you add "
            "images, add the names here, or remove this line.",
            indent=2,
        )
        yield f"  classes: {yaml_text(index.class_names)}"
    height, width = found.median_size
    grown = found.side > min(found.median_size)
    yield note(
        f"The median file is {width} x {height} pixels (width x height). "
        + (
            "They are enlarged, because pretrained backbones need larger images; `fit` alone is "
            "faster at the original size."
            if grown
            else "A smaller size is faster, a larger one shows more detail; the backbones were "
            "trained at 224."
        ),
        indent=2,
    )
    yield f"  image_size: [{found.side}, {found.side}]"
    if found.range != "auto":
        yield note(
            "The stored values that become black and white; without this range, the images have "
            "almost no contrast.",
            indent=2,
        )
        yield f"  range: {list(found.range)}"
    if drawn := [name for name in index.auto_splits if name != "train"]:
        yield note(
            f"The source has no split for {' and '.join(drawn)}, so a stratified one is drawn with "
            "the seed. Copies of an image are kept in one split.",
            indent=2,
        )
        shares = ", ".join(f"{name}: {getattr(SplitShares(), name)}" for name in drawn)
        yield f"  split: {{{shares}}}"
    if found.num_bad:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.bad_by_kind.items())
        examples = join_names((p.path for p in found.problems if p.severity == "bad"), 3)
        yield note(
            f"{found.num_bad:,} files cannot be used ({kinds}): {examples}. `cvtrain data check` "
            "lists them. `skip` leaves them out; `error` stops until they are corrected. An image "
            "in two splits is kept in the later one.",
            indent=2,
        )
        yield "  on_bad: skip"


def _augment(recipe: ConfigTemplate) -> Iterator[str]:
    found = recipe.found
    yield "\n# Random changes of the training images, different in every epoch."
    if found.are_characters:
        yield note("No flip, because the classes are characters, which must not be mirrored.")
        yield "augment: {rotate: 10, shift: 0.1, zoom: 0.1}"
        return
    shift = 0.08 if min(found.median_size) >= 64 else 0.05
    yield note("Remove the flip if left and right matter, as in text.")
    yield f"augment: {{flip: horizontal, rotate: 10, shift: {shift}, zoom: 0.15}}"


def _fit(recipe: ConfigTemplate) -> Iterator[str]:
    found = recipe.found
    stages = next(number for number in range(3, 6) if found.side >> number < 13)
    yield f"\n{note(_what('fit', 'train a convnet from scratch', recipe))}"
    yield "fit:"
    yield "  model:"
    yield f"    filters: {yaml_text(_FILTERS[:stages])}"
    yield note(
        f"Each stage halves the feature map: {found.side} -> {found.side >> stages} pixels.", 4
    )
    yield "    padding: same"
    yield "    pooling: 2"
    yield "    dense: [256]"
    yield "    dropout: 0.5"
    if found.is_grey:
        yield note("All images are grey.", indent=4)
        yield "    grayscale: true"
    yield f"  epochs: {recipe.epochs(100_000, 5, 60)}"
    yield f"  batch_size: {recipe.batch_size}"
    yield "  optimizer: {name: adam, learning_rate: 1e-3}"
    yield "  schedule: {name: cosine, warmup_epochs: 1}"
    if recipe.weighs_classes:
        yield note(
            f"The largest class has {recipe.found.imbalance:.0f} times the images of the smallest; "
            "`balanced` gives all classes the same weight.",
            indent=2,
        )
    yield from _class_weights(recipe)


def _extract_features(recipe: ConfigTemplate) -> Iterator[str]:
    backbone, count = recipe.backbone, recipe.found.num_train
    views = 4 if count <= 10_000 else 2 if count <= 30_000 else 1
    alpha = "" if backbone.alpha is None else f"alpha: {backbone.alpha:g}, "
    value = recipe.weights.value
    weights = value if value in ("imagenet", "none") else yaml_text(value)
    what = "train a head on a frozen backbone, which runs once for each view of an image"
    yield f"\n{note(_what('extract-features', what, recipe))}"
    yield "extract_features:"
    yield note(recipe.weights.remark, indent=2)
    yield f"  backbone: {{name: {backbone.name}, {alpha}weights: {weights}}}"
    yield f"  views: {views}"
    yield "  head: {pooling: average, dense: [512], dropout: 0.5}"
    yield f"  epochs: {recipe.epochs(250_000, 10, 80)}"
    yield f"  batch_size: {recipe.batch_size}"
    yield "  optimizer: {name: adamw, learning_rate: 1e-3}"
    yield "  schedule: {name: cosine}"
    yield "  monitor: val_accuracy"
    yield from _class_weights(recipe)


def _finetune(recipe: ConfigTemplate) -> Iterator[str]:
    # Tuned for the narrowest MobileNet on photographs; wider networks need smaller rates.
    rate = "5e-4" if recipe.backbone == KerasWeights("mobilenet", 0.25) else "2e-4"
    yield f"\n{note(_what('finetune', 'train the top blocks of the backbone, too', recipe))}"
    yield "finetune:"
    yield f"  unfreeze_blocks: {blocks_to_unfreeze(recipe.backbone)}"
    yield f"  epochs: {recipe.epochs(100_000, 5, 30)}"
    yield f"  batch_size: {16 if recipe.batch_size == 16 else 64}"
    yield f"  optimizer: {{name: adamw, learning_rate: {rate}}}"
    yield "  schedule: {name: cosine, warmup_epochs: 1}"
    yield "  monitor: val_accuracy"
    yield from _class_weights(recipe)


def _what(stage: str, what: str, recipe: ConfigTemplate) -> str:
    time = recipe.timing.of(stage)
    return f"{recipe.commands[stage]}: {what}{f'; {time}' if time else ''}"


def _class_weights(recipe: ConfigTemplate) -> Iterator[str]:
    if recipe.weighs_classes:
        yield "  class_weights: balanced"

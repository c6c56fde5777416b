"""Images and a backbone -> a commented config that trains as it is."""

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

"""The commands that take minutes, in their order."""
LEAST_IMBALANCE = 3.0
"""Of the commonest class to the rarest, from which on classes are weighted. Logistic regression on
MobileNet's features of ten kinds of clothes, at most 112 images of each, eight draws: weights raise
the mean recall of the classes by 0.046 at a ratio of 3 (standard error 0.008), by 0.014 at 2
(0.007), and not at 1.5; accuracy is the same at each."""

_WIDTH = 99
_FILTERS = (32, 64, 128, 128, 128)


@dataclass(frozen=True)
class Weights:
    """The pretrained weights that a config can count on.

    Attributes:
        bases: networks to choose from, the cheapest first.
        value: of `backbone.weights`: `imagenet`, a file, or `none`.
        remark: where they come from, or why there are none.
    """

    backbones: tuple[KerasWeights, ...]
    value: str
    remark: str


@dataclass(frozen=True)
class Timing:
    """What was measured on this machine.

    Attributes:
        seconds: by command; those that could not be measured are missing.
        remark: what was measured, or why not.
    """

    seconds: Mapping[str, float]
    remark: str

    def of(self, command: str) -> str:
        """`about 12 min`, or nothing."""
        return f"about {duration(self.seconds[command])}" if command in self.seconds else ""


@dataclass(frozen=True)
class ConfigTemplate:
    """All that a config is written from.

    Attributes:
        found: the images.
        source: `data.source`, as it counts from the folder of the config.
        base: one of `weights.bases`.
        weights: for the base.
        timing: for the comments.
        output: where the config will be, for the commands that its comments name.
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
        """The line to type for each stage; what the default is need not be said."""
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
        """Are the classes so uneven that each should count the same?"""
        return self.found.imbalance >= LEAST_IMBALANCE

    @property
    def batch_size(self) -> int:
        """So that an epoch has twenty steps or more, and no more than a thousand."""
        return 16 if self.found.num_train < 640 else 32 if self.found.num_train < 32_000 else 64

    def epochs(self, images: int, least: int, most: int) -> int:
        """As many as make `images` in all: small sets are not worn out, large ones not finished."""
        return max(least, min(most, round(images / self.found.num_train)))


def blocks_to_unfreeze(backbone: KerasWeights) -> int:
    """About the upper half of a MobileNet, whose blocks are small; of VGG the last, as the book."""
    return {"mobilenet": 6, "vgg16": 1, "vgg19": 1}.get(backbone.name, 3)


def yaml_text(value: Any) -> str:
    """`value` as YAML on one line: JSON, whose escapes and those of `escape` YAML knows."""
    return escape(json.dumps(value, ensure_ascii=False))


def note(text: str, indent: int = 0) -> str:
    """`text` as a comment; what would end it early is escaped."""
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
        remark = "where does it look?" if stage == "visualize" else recipe.timing.of(stage)
        yield f"#   {command:<32}  {remark}".rstrip()
    yield "#"
    yield note(
        f"{recipe.timing.remark} Every value is a choice for these images and this machine, and "
        "yours to change; a key that is not here has its default."
    )
    yield "seed: 0"


def _data(recipe: ConfigTemplate) -> Iterator[str]:
    found, index = recipe.found, recipe.found.index
    yield "\ndata:"
    yield f"  source: {yaml_text(recipe.source)}"
    if found.label_pattern is not None:
        yield note("No folders of classes: the group finds the class in the path.", indent=2)
        yield f"  label_pattern: {yaml_text(found.label_pattern)}"
    if (columns := columns_of(found.columns)) is not None:
        yield note("Which column of the manifest is what, and where its files are.", indent=2)
        yield f"  columns: {columns.as_yaml()}"
    if found.too_rare:
        rare = join_names(f"{name} ({count})" for name, count in found.too_rare.items())
        yield note(
            f"Left out, with too few images to be in every split: {rare}. Add images of them, and "
            "then their names here, or remove this line.",
            indent=2,
        )
        yield f"  classes: {yaml_text(index.class_names)}"
    height, width = found.median_size
    grown = found.side > min(found.median_size)
    yield note(
        f"The median file is {width} x {height} pixels (width x height). "
        + (
            "Enlarged, because pretrained backbones make nothing of less; `fit` alone is faster at "
            "their own size."
            if grown
            else "Fewer are faster, more show finer things; bases were trained at 224."
        ),
        indent=2,
    )
    yield f"  image_size: [{found.side}, {found.side}]"
    if found.range != "auto":
        yield note(
            "Which values of the files become black and white: as they are stored, the images show "
            "hardly anything.",
            indent=2,
        )
        yield f"  range: {list(found.range)}"
    if drawn := [name for name in index.auto_splits if name != "train"]:
        yield note(
            f"There is no split for {' and '.join(drawn)}: drawn by the seed, class by class. "
            "Copies of one image stay together.",
            indent=2,
        )
        shares = ", ".join(f"{name}: {getattr(SplitShares(), name)}" for name in drawn)
        yield f"  split: {{{shares}}}"
    if found.num_bad:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.bad_by_kind.items())
        examples = join_names((p.path for p in found.problems if p.severity == "bad"), 3)
        yield note(
            f"{found.num_bad:,} files cannot be used ({kinds}): {examples}. `cvtrain data check` "
            "lists them. With `skip` they are left out, with `error` nothing starts before they "
            "are corrected; of an image in two splits the later split keeps it.",
            indent=2,
        )
        yield "  on_bad: skip"


def _augment(recipe: ConfigTemplate) -> Iterator[str]:
    found = recipe.found
    yield "\n# Random changes of the training images, new ones in every epoch."
    if found.are_characters:
        yield note("No flip: the classes read as characters, and a mirrored one is another.")
        yield "augment: {rotate: 10, shift: 0.1, zoom: 0.1}"
        return
    shift = 0.08 if min(found.median_size) >= 64 else 0.05
    yield note("Where left and right matter, as in text, take the flip out.")
    yield f"augment: {{flip: horizontal, rotate: 10, shift: {shift}, zoom: 0.15}}"


def _fit(recipe: ConfigTemplate) -> Iterator[str]:
    found = recipe.found
    stages = next(number for number in range(3, 6) if found.side >> number < 13)
    yield f"\n{note(_what('fit', 'a convnet from scratch', recipe))}"
    yield "fit:"
    yield "  model:"
    yield f"    filters: {yaml_text(_FILTERS[:stages])}"
    yield note(f"Each stage halves the map: {found.side} -> {found.side >> stages} pixels.", 4)
    yield "    padding: same"
    yield "    pooling: 2"
    yield "    dense: [256]"
    yield "    dropout: 0.5"
    if found.is_grey:
        yield note("No image has colour.", indent=4)
        yield "    grayscale: true"
    yield f"  epochs: {recipe.epochs(100_000, 5, 60)}"
    yield f"  batch_size: {recipe.batch_size}"
    yield "  optimizer: {name: adam, learning_rate: 1e-3}"
    yield "  schedule: {name: cosine, warmup_epochs: 1}"
    if recipe.weighs_classes:
        yield note(
            f"The commonest class has {recipe.found.imbalance:.0f} times the images of the rarest: "
            "balanced, all count the same.",
            indent=2,
        )
    yield from _class_weights(recipe)


def _extract_features(recipe: ConfigTemplate) -> Iterator[str]:
    backbone, count = recipe.backbone, recipe.found.num_train
    views = 4 if count <= 10_000 else 2 if count <= 30_000 else 1
    alpha = "" if backbone.alpha is None else f"alpha: {backbone.alpha:g}, "
    value = recipe.weights.value
    weights = value if value in ("imagenet", "none") else yaml_text(value)
    what = "a head on a frozen backbone, which is run once for each view of an image"
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
    # Found for the narrowest MobileNet, on photographs; wider networks want smaller steps.
    rate = "5e-4" if recipe.backbone == KerasWeights("mobilenet", 0.25) else "2e-4"
    yield f"\n{note(_what('finetune', 'the upper blocks of that backbone learn, too', recipe))}"
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

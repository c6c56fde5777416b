"""`cvtrain init`: inspect images, and write a commented config that is ready to train."""

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

from cvtrain.commands.init.config_template import ConfigTemplate, Timing, Weights
from cvtrain.commands.init.dataset_profile import DatasetProfile, profile_dataset
from cvtrain.config import load_config
from cvtrain.data.labels import check_patterns
from cvtrain.data.scan import join_names
from cvtrain.data.sources import NAMED_SETS
from cvtrain.errors import ConfigError
from cvtrain.models.hdf5 import is_hdf5
from cvtrain.models.imagenet import BACKBONES, KerasWeights, network_of, problem_fetching
from cvtrain.runs.commands import MODEL_COMMANDS
from cvtrain.sections import Columns
from cvtrain.sections.architectures import ARCHITECTURES
from cvtrain.steps.dataset import columns_of, show_notes, summary
from cvtrain.system.console import Console, duration
from cvtrain.system.files import commit_text
from cvtrain.system.json_subprocess import run_json_subprocess
from cvtrain.system.outputs import check_replaceable
from cvtrain.system.signals import stop_on_signals
from cvtrain.system.text import escape, shell_quote

_MOST_SECONDS = 90.0
_MOST_CLASSES = 6


def init(
    source: str,
    output: Path,
    *,
    weights_file: Path | None,
    label: str | None = None,
    columns: Columns | None = None,
    force: bool,
    estimate: bool,
    console: Console,
) -> ConfigTemplate:
    """Inspect images and write a config for them; then measure how long its stages will take.

    The config is written before the measurement, and again after it.

    Args:
        source: a value of `data.source`; a path is relative to the current folder.
        output: the config to write.
        weights_file: a file of ImageNet weights with its original name (default: weights that Keras
            has or can download).
        label: a pattern that finds the class in each path (default: see `profile_dataset`).
        columns: the columns of a manifest (default: found if there is no doubt).
        force: whether to replace an existing config.
        estimate: whether to measure, in another process; otherwise the cheapest backbone is used.

    Returns:
        The config that was written.

    Raises:
        ConfigError: the config exists, the weights belong to no known network, or `label` is not a
            pattern.
        DataError: the images cannot be used for training.
        ResourceError: the config cannot be written.
        Stopped: on request.
    """
    check_patterns({"--label": label})
    check_replaceable(output, force=force)
    named = _from(output.parent, source)
    backbone = _backbone_of(weights_file) if weights_file else None
    smallest = ARCHITECTURES[backbone.name].smallest_side if backbone else 0
    with stop_on_signals() as stop:
        found = profile_dataset(
            source,
            label_pattern=label,
            columns=columns,
            smallest_side=smallest,
            stop=stop,
            console=console,
        )
    weights = _weights(found.side, weights_file, backbone, output.parent)
    recipe = ConfigTemplate(
        found=found,
        source=named,
        backbone=weights.backbones[0],
        weights=weights,
        timing=Timing({}, "The minutes were not measured, because of --no-estimate."),
        output=output,
    )
    _write(recipe)
    _print_findings(recipe, console)
    if estimate:
        console.info(f"measuring each stage, for at most {duration(_MOST_SECONDS)}")
        recipe = _measured(recipe)
        _write(recipe)
    _print_next(recipe, console)
    return recipe


def _backbone_of(file: Path) -> KerasWeights:
    if not file.is_file():
        raise ConfigError(
            f"--weights {escape(file)}: there is no such file",
            "Name a file of Keras weights, such as mobilenet_2_5_224_tf_no_top.h5.",
        )
    backbone = network_of(file)
    if backbone is None:
        raise ConfigError(
            f"--weights {escape(file)}: the architecture is not clear from the file name",
            "Give it its original name, such as mobilenet_2_5_224_tf_no_top.h5.",
        )
    if not is_hdf5(file):
        raise ConfigError(
            f"--weights {escape(file)}: not an HDF5 file, despite its name",
            "Download it again: weights files of Keras are HDF5.",
        )
    return backbone


def _weights(side: int, file: Path | None, backbone: KerasWeights | None, folder: Path) -> Weights:
    """The available weights: those of `file`, those that Keras has or can download, or none."""
    if file is not None and backbone is not None:
        remark = f"ImageNet weights of {backbone}, from a file."
        return Weights((backbone,), _from(folder, str(file)), remark)
    cached = tuple(backbone for backbone in BACKBONES if backbone.cached(side).is_file())
    problem = problem_fetching(BACKBONES[0].address(side)) if cached != BACKBONES else ""
    if not problem:
        remark = "ImageNet weights, which Keras downloads once and keeps in its own folder."
        return Weights(BACKBONES, "imagenet", remark)
    if cached:
        return Weights(cached, "imagenet", "ImageNet weights, which Keras has already downloaded.")
    wanted = BACKBONES[0]
    return Weights(
        (wanted,),
        "none",
        f"NO PRETRAINED WEIGHTS: they could not be downloaded ({problem}). The weights of this "
        "backbone are random, and both stages will be less accurate than `fit`. Download "
        f"{wanted.address(side)} on another machine. Then put the file into "
        f"{wanted.cached(side).parent}/ and write `weights: imagenet`, or write `weights: FILE`. A "
        "run of `fit` can be the backbone, too: `backbone: {weights: runs/NAME}`.",
    )


def _from(folder: Path, path: str) -> str:
    """Convert `path` from the current folder to the folder of the config."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{escape(path)}: the name is not UTF-8, so it cannot be written into a config",
            "Rename the folder or the file.",
        ) from error
    if path in NAMED_SETS or Path(path).is_absolute():
        return path
    relative = os.path.relpath(path, folder)
    # A folder may have the name of a named set.
    return f"./{relative}" if relative in NAMED_SETS else relative


def _write(recipe: ConfigTemplate) -> None:
    commit_text(recipe.output, recipe.text)
    load_config(recipe.output)


def _measured(recipe: ConfigTemplate) -> ConfigTemplate:
    """The config with the best backbone that is fast enough here, and the measured durations."""
    backbones = json.dumps(
        [[backbone.name, backbone.alpha] for backbone in recipe.weights.backbones]
    )
    facts, problem = run_json_subprocess(
        "cvtrain.commands.init.stage_timing", str(recipe.output), backbones, seconds=_MOST_SECONDS
    )
    seconds = {stage: facts[stage] for stage in MODEL_COMMANDS if stage in facts}
    device = facts.get("device")
    remark = f"The minutes were measured with steps of each stage on {device}, {date.today()}."
    if problem:
        which = ", ".join(stage for stage in MODEL_COMMANDS if stage not in seconds)
        missing = f"The minutes of {which} were not measured: {problem}."
        remark = f"{remark} {missing}" if seconds else missing
    backbone = KerasWeights(*facts["backbone"]) if "backbone" in facts else recipe.backbone
    return replace(recipe, backbone=backbone, timing=Timing(seconds, remark))


def _print_findings(recipe: ConfigTemplate, console: Console) -> None:
    """Print the profile of the images, and the keys of the config that follow from it."""
    found = recipe.found
    counts = found.index.counts["train"]
    least, most = (f"{counts[key]:,} ({escape(key)})" for key in _ends(counts))
    are_even = len(set(counts.values())) == 1
    height, width = found.median_size
    drawn = " and ".join(name for name in found.index.auto_splits if name != "train")
    rows = [
        ("images", summary(found.index.counts), f"split: {drawn} drawn" if drawn else "as split"),
        ("size", f"median {width} x {height}", f"image_size: {found.side}"),
        (
            "training images",
            f"{counts[next(iter(counts))]:,} of each class"
            if are_even
            else f"{least} to {most} per class",
            f"class_weights: {'balanced' if recipe.weighs_classes else 'none'}",
        ),
    ]
    if found.range != "auto":
        rows.append(("values", "almost no contrast as stored", f"range: {list(found.range)}"))
    if says := _what_says_labels(found):
        totals = sum(map(Counter, found.index.counts.values()), Counter())
        classes = join_names(
            (f"{name} ({count:,})" for name, count in totals.items()), _MOST_CLASSES
        )
        rows.append(("labels", classes, says))
    if found.too_rare:
        rows.append(("too rare to split", join_names(found.too_rare), "classes: without them"))
    if found.num_bad:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.bad_by_kind.items())
        rows.append(("unusable files", kinds, "on_bad: skip"))
    backbones = " or ".join(map(str, recipe.weights.backbones))
    rows.append(("weights", escape(recipe.weights.value), f"backbone: {backbones}"))
    wide = min(50, max(len(seen) for _, seen, _ in rows))
    for what, seen, chosen in rows:
        console.print(f"{what:<17}  {seen:<{wide}}  -> {chosen}")
    show_notes(found.index, (), console)
    if found.num_bad:
        console.warning(
            f"{found.num_bad:,} files cannot be used: `cvtrain data check "
            f"{shell_quote(recipe.output)}` lists them"
        )
    if recipe.weights.value == "none":
        console.warning(recipe.weights.remark)


def _what_says_labels(found: DatasetProfile) -> str:
    """The key that finds the labels, with its value; empty if folders or a header do."""
    if found.label_pattern is not None:
        return f"label_pattern: {found.label_pattern}"
    columns = columns_of(found.columns)
    return f"columns: {columns.as_yaml()}" if columns else ""


def _ends(counts: Mapping[str, int]) -> tuple[str, str]:
    """The smallest class and the largest."""
    return min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)


def _print_next(recipe: ConfigTemplate, console: Console) -> None:
    timing = recipe.timing
    console.print(f"written: {escape(recipe.output)}, with {recipe.backbone} as backbone. Next:")
    for stage, command in recipe.commands.items():
        console.print(f"  {command:<32}  {timing.of(stage)}".rstrip())
    if not timing.seconds:
        console.info(timing.remark)

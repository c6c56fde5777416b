"""`cvtrain data split`: write a stratified, group-aware split to a CSV manifest."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from cvtrain.config import Config
from cvtrain.data.check import resolve
from cvtrain.data.index import Index, recorded_index
from cvtrain.data.labels import check_patterns, label_in_name
from cvtrain.data.manifest import manifest_text
from cvtrain.data.scan import join_names
from cvtrain.data.splitting import divide_groups
from cvtrain.errors import ConfigError, DataError
from cvtrain.sections import Columns, Data, SplitShares
from cvtrain.sections.base import compile_pattern
from cvtrain.steps.dataset import scan, show_notes, summary
from cvtrain.system.console import Console
from cvtrain.system.files import commit_text
from cvtrain.system.outputs import check_replaceable
from cvtrain.system.signals import stop_on_signals
from cvtrain.system.text import escape

_MOST_LISTED = 20


def data_split(
    source: str,
    output: Path,
    *,
    validation: float,
    test: float,
    seed: int,
    group: str | None,
    label: str | None,
    columns: Columns | None = None,
    console: Console,
    force: bool = False,
) -> None:
    """Split the images of `source` and write the CSV manifest `output`.

    Without groups, it is the split that training draws with the same shares and seed. Splits of the
    source are kept. Unusable images are listed and left out.

    Args:
        source: a folder, a manifest without splits, or a named set.
        output: the manifest to write; its paths are relative to its folder.
        validation, test: the shares of the images of each class, 0 to 1.
        seed: the random seed of the split.
        group: a pattern that finds the group in each path; a group is kept in one split.
        label: a pattern that finds the class in each path (default: folders or manifest).
        columns: the columns of a manifest (default: from its header).
        force: whether to replace an existing file.

    Raises:
        ConfigError: shares or patterns are invalid, or `output` exists.
        DataError: the source is not a data set, or cannot be split in this way.
        ResourceError: the manifest cannot be written.
    """
    _check_possible(source, output, validation + test, {"--group": group, "--label": label})
    check_replaceable(output, force=force)
    # Groups are drawn later, when it is known which of them share an image.
    drawn_now = (0.0, 0.0) if group else (validation, test)
    split = SplitShares(validation=drawn_now[0], test=drawn_now[1])
    data = Data(source=source, label_pattern=label, columns=columns, split=split)
    config = Config(seed=seed, data=data)
    with stop_on_signals() as stop:
        index, _, report = scan(config, stop, console)
    index, messages = resolve(index, report, on_bad="skip", on_leak="error")
    show_notes(index, messages, console)
    if kept := [name for name in index.splits if name not in index.auto_splits]:
        console.info(f"splits of the source that are kept: {', '.join(kept)}")
    if group:
        shares = {"test": test, "validation": validation}
        groups = _groups(index, compile_pattern(group), report.images)
        found = divide_groups(index.root, index.by_class(), shares, seed, groups)
        index = recorded_index(index.root, index.class_names, found)
        _print_groups(index, groups, console)
    commit_text(output, manifest_text(_samples(index, output)))
    rows = [
        (escape(name), *(f"{counts[name]:,}" for counts in index.counts.values()))
        for name in index.class_names
    ]
    console.table(("class", *index.counts), rows)
    console.print(f"{escape(output)}: {summary(index.counts)}")
    console.info(f"To train on this split: data: {{source: {escape(output)}}}")


def _check_possible(
    source: str, output: Path, share: float, patterns: Mapping[str, str | None]
) -> None:
    if share >= 1:
        raise ConfigError(
            f"--validation and --test: must leave images for training; together they are {share:g}",
            "For example: --validation 0.15 --test 0.15",
        )
    if Path(source).exists() and output.exists() and output.samefile(source):
        raise ConfigError(f"--output {escape(output)}: is the source itself", "Name another file.")
    check_patterns(patterns)


def _groups(index: Index, pattern: re.Pattern[str], images: Mapping[str, bytes]) -> dict[str, str]:
    """The group of each path; groups that share an image are merged."""
    paths = [path for split in index.splits.values() for path in split.paths]
    named = {path: label_in_name(path, pattern) for path in paths}
    if others := [path for path in paths if not named[path]]:
        raise DataError(
            f"{escape(index.root)}: the group pattern {escape(pattern.pattern)} does not "
            f"match {len(others):,} of {len(paths):,} images: {join_names(others, _MOST_LISTED)}",
            "It must match the path of every image below the source.",
        )
    parent = {group: group for group in named.values()}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = group = parent[parent[group]]
        return group

    group_with: dict[bytes, str] = {}
    for path, group in named.items():
        if image := images.get(path):
            parent[root(group)] = root(group_with.setdefault(image, group))
    return {path: root(group) for path, group in named.items()}


def _print_groups(index: Index, groups: Mapping[str, str], console: Console) -> None:
    splits_of: dict[str, dict[str, None]] = {}
    for name, split in index.splits.items():
        for path in split.paths:
            splits_of.setdefault(groups[path], {})[name] = None
    counts = Counter(name for splits in splits_of.values() for name in splits)
    each = ", ".join(f"{counts[name]:,} {name}" for name in index.splits)
    console.info(f"groups: {len(splits_of):,}: {each}")
    # Only splits of the source can divide a group.
    if torn := [group for group, splits in splits_of.items() if len(splits) > 1]:
        console.warning(f"groups in two splits of the source: {len(torn):,}: {join_names(torn)}")
    for name, per_class in index.counts.items():
        if missing := [label for label, count in per_class.items() if not count]:
            console.warning(f"{name} has no images of class {join_names(missing)}: too few groups")


def _samples(index: Index, output: Path) -> Iterator[tuple[str, str, str]]:
    """(split, label, path) of each image; the path is relative to the folder of the manifest."""
    # Links are resolved, because `..` is relative to the target of a link.
    above = os.path.relpath(os.path.realpath(index.root), os.path.realpath(output.parent))
    for name, split in index.splits.items():
        for path, label in zip(split.paths, split.labels.tolist(), strict=True):
            yield name, index.class_names[label], path if above == "." else f"{above}/{path}"

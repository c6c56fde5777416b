"""`cvtrain data split`: a split is drawn once, and written to a manifest that says it for good."""

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

    Without groups it is the split that training draws by the same shares and seed. Splits that the
    source has are kept. Unusable images are named and left out.

    Args:
        source: folder, manifest without splits, or named set.
        output: the manifest; its paths count from its folder.
        validation, test: shares of the images of each class, 0 to 1.
        seed: another seed draws another split.
        group: pattern that finds the group of each path; a group falls into one split as a whole.
        label: pattern that finds the class of each path; None: folders or manifest say it.
        columns: which column of a manifest is what; None: its header says it.
        console: shows the progress and the counts.
        force: replace the file that is there.

    Raises:
        ConfigError: shares or patterns are impossible, or `output` is there already.
        DataError: the source is no data set, or it cannot be split in this way.
        ResourceError: the manifest cannot be written.
    """
    _check_possible(source, output, validation + test, {"--group": group, "--label": label})
    check_replaceable(output, force=force)
    # Groups can be drawn when it is known which of them share an image.
    drawn_now = (0.0, 0.0) if group else (validation, test)
    split = SplitShares(validation=drawn_now[0], test=drawn_now[1])
    data = Data(source=source, label_pattern=label, columns=columns, split=split)
    config = Config(seed=seed, data=data)
    with stop_on_signals() as stop:
        index, _, report = scan(config, stop, console)
    index, messages = resolve(index, report, on_bad="skip", on_leak="error")
    show_notes(index, messages, console)
    if kept := [name for name in index.splits if name not in index.auto_splits]:
        console.remark(f"kept as the source has them: {', '.join(kept)}")
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
    console.result(f"{escape(output)}: {summary(index.counts)}")
    console.remark(f"to train on it: data: {{source: {escape(output)}}}")


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
    """The group of each path; those that share an image are one group, named after its first."""
    paths = [path for split in index.splits.values() for path in split.paths]
    named = {path: label_in_name(path, pattern) for path in paths}
    if others := [path for path in paths if not named[path]]:
        raise DataError(
            f"{escape(index.root)}: the group pattern {escape(pattern.pattern)} does not "
            f"match {len(others):,} of {len(paths):,} images: {join_names(others, _MOST_LISTED)}",
            "Let it match the path of every image below the source: each needs a group.",
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
    console.remark(f"groups: {len(splits_of):,}: {each}")
    # Only the source's own splits can do this.
    if torn := [group for group, splits in splits_of.items() if len(splits) > 1]:
        console.warn(f"groups that the source has in two splits: {len(torn):,}: {join_names(torn)}")
    for name, per_class in index.counts.items():
        if missing := [label for label, count in per_class.items() if not count]:
            console.warn(f"{name} has no images of class {join_names(missing)}: too few groups")


def _samples(index: Index, output: Path) -> Iterator[tuple[str, str, str]]:
    """(split, label, path) of each image, its path as it is seen from the manifest's folder."""
    # Both real, because `..` leads out of where a link leads to.
    above = os.path.relpath(os.path.realpath(index.root), os.path.realpath(output.parent))
    for name, split in index.splits.items():
        for path, label in zip(split.paths, split.labels.tolist(), strict=True):
            yield name, index.class_names[label], path if above == "." else f"{above}/{path}"

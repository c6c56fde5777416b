"""`cvtrain data stats`: report classes, sizes, colours, duplicates and near duplicates."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from cvtrain.config import Config
from cvtrain.data.index import Index
from cvtrain.data.near_duplicates import SMALLEST
from cvtrain.data.problems import same_classes, too_few_different
from cvtrain.data.splitting import choose
from cvtrain.data.statistics import Statistics, collect_statistics
from cvtrain.errors import DataError
from cvtrain.images.decode import read_image
from cvtrain.steps.dataset import check, decoder_of, find_to_look, show_notes
from cvtrain.system.console import Console
from cvtrain.system.files import commit_text, committed_folder
from cvtrain.system.outputs import check_own_folder, commit_mark
from cvtrain.system.signals import stop_on_signals
from cvtrain.system.text import csv_text, escape

_MARK = "stats.json"
_MOST_LISTED = 10
_PER_CLASS = 6  # images on the contact sheet
_MOST_CLASSES = 20
_MOST_PAIRS = 24
_PICTURE = (160, 160)

_Place = tuple[str, str]
"""Split and class of an image."""


def data_stats(config: Config, *, output: Path | None, console: Console) -> None:
    """Count, measure and compare the images of a config, and draw contact sheets.

    The folder `output` (default `stats/SOURCE`) then holds stats.json, duplicates.csv,
    contact_sheet.png, and near_duplicates.png where there are any.

    Raises:
        DataError: the source is not a data set, or none of its images can be decoded.
        ResourceError: the folder contains other files, or cannot be written.
        Stopped: a stop was requested.
    """
    output = output or Path("stats") / _word(config.data.source)
    check_own_folder(output, _MARK)
    with stop_on_signals() as stop:
        index, unsplit = find_to_look(config, stop, console)
        if unsplit:
            console.warning(unsplit.message)
        if config.data.train_per_class is not None:  # the choice depends on copies
            _, report = check(index, decoder_of(config), stop, console, on_leak=config.data.on_leak)
            index = report.index
        paths = [path for split in index.splits.values() for path in split.paths]
        with console.task("reading images") as show:
            found = collect_statistics(
                index.root, paths, decoder_of(config), stop=stop, on_progress=show
            )
    if not found.facts:
        raise DataError(
            f"{escape(index.root)}: none of {len(paths):,} images can be decoded",
            "`cvtrain data check` lists the reasons.",
        )
    images = {path: facts.image for path, facts in found.facts.items()}
    index = index.reassign_splits(images, found.unusable, on_leak=config.data.on_leak)
    if error := same_classes(index, images) or too_few_different(index, ()):
        console.warning(error.message)
    index = index.without(found.unusable)
    places = {
        path: (name, index.class_names[label])
        for name, split in index.splits.items()
        for path, label in zip(split.paths, split.labels.tolist(), strict=True)
    }
    stats = describe(index, found, places, config)
    _show(stats, index, console)
    _print_doubts(found, places, console)
    with committed_folder(output, mark=_MARK) as folder:
        commit_text(folder / "duplicates.csv", csv_text(_duplicate_rows(found, places)))
        _draw(index, found, places, folder, config)
        commit_mark(folder, _MARK, stats)
    if len(index.class_names) > _MOST_CLASSES:
        console.info(f"contact_sheet.png shows the first {_MOST_CLASSES} classes")
    console.print(f"{escape(output)}: stats.json, duplicates.csv and pictures")


def describe(
    index: Index, found: Statistics, places: Mapping[str, _Place], config: Config
) -> dict[str, Any]:
    """The content of stats.json."""
    facts = found.facts.values()
    copies = found.copies()
    training = [count for count in index.counts.get("train", {}).values() if count]
    return {
        "source": config.data.source,
        "num_files": len(facts) + len(found.unusable),
        "num_usable": len(facts),
        "unusable": dict(found.unusable),
        "counts": {split: dict(counts) for split, counts in index.counts.items()},
        "imbalance": max(training) / min(training) if training else None,
        "bytes": sum(each.num_bytes for each in facts),
        "width": _spread(each.width for each in facts),
        "height": _spread(each.height for each in facts),
        "aspect": _spread(each.width / each.height for each in facts),
        "formats": dict(Counter(each.format for each in facts).most_common()),
        "modes": dict(Counter(each.mode for each in facts).most_common()),
        "pixels": {
            "image_size": list(config.data.image_size),
            "mean": found.channel_means().tolist(),
            "standard_deviation": found.channel_deviations().tolist(),
        },
        "exact_duplicates": {
            "images": len(copies),
            "files": sum(map(len, copies)),
            "across_splits": sum(len({places[p][0] for p in group}) > 1 for group in copies),
            "across_classes": sum(len({places[p][1] for p in group}) > 1 for group in copies),
        },
        "near_duplicates": {
            "pairs": len(found.near_duplicates),
            "across_splits": sum(places[a][0] != places[b][0] for a, b, _ in found.near_duplicates),
            "across_classes": sum(
                places[a][1] != places[b][1] for a, b, _ in found.near_duplicates
            ),
        },
        "not_compared": {"small": found.num_small, "plain": found.num_plain},
    }


def _spread(values: Iterable[float]) -> dict[str, float]:
    values = list(values)
    return {"min": min(values), "median": median(values), "max": max(values)}


def _show(stats: dict[str, Any], index: Index, console: Console) -> None:
    show_notes(index, (), console)
    rows = [
        (escape(name), *(f"{counts[name]:,}" for counts in index.counts.values()))
        for name in index.class_names
    ]
    console.table(("class", *index.counts), rows)
    if stats["imbalance"] is not None:
        console.print(
            f"imbalance: the largest class has {stats['imbalance']:.1f} times the training images "
            "of the smallest"
        )
    width, height, aspect = stats["width"], stats["height"], stats["aspect"]
    console.print(
        f"size: {width['min']} to {width['max']} wide (median {width['median']:g}), "
        f"{height['min']} to {height['max']} high (median {height['median']:g}), "
        f"width / height {aspect['min']:.2f} to {aspect['max']:.2f} (median {aspect['median']:.2f})"
    )
    console.print(
        f"stored: {_counted(stats['formats'])}; {_counted(stats['modes'])}; "
        f"{stats['bytes'] / 1e6:,.1f} MB"
    )
    pixels = stats["pixels"]
    means, deviations = (
        ", ".join(f"{value:.1f}" for value in pixels[key]) for key in ("mean", "standard_deviation")
    )
    size = "x".join(map(str, pixels["image_size"]))
    console.print(f"red, green, blue at {size}: mean {means}, standard deviation {deviations}")
    exact, near = stats["exact_duplicates"], stats["near_duplicates"]
    console.print(f"exact duplicates: {exact['files'] - exact['images']:,} copies of other files")
    console.print(
        f"near duplicates, in pairs: {near['pairs']:,}, of these across splits "
        f"{near['across_splits']:,}, across classes {near['across_classes']:,}"
    )
    reasons = {"small": f"smaller than {SMALLEST} pixels", "plain": "with too little contrast"}
    left_out = [f"{n:,} {reasons[why]}" for why, n in stats["not_compared"].items() if n]
    if left_out:
        console.print(f"images that were not compared: {', '.join(left_out)}")


def _counted(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {escape(name)}" for name, count in numbers.items())


def _print_doubts(found: Statistics, places: Mapping[str, _Place], console: Console) -> None:
    if found.unusable:
        console.warning(
            f"files that cannot be used, and are left out here: {len(found.unusable):,}; "
            "`cvtrain data check` lists them"
        )
    copied = [group for group in found.copies() if len({places[path] for path in group}) > 1]
    if copied:
        console.warning(
            "images that are in two splits or under two labels: "
            f"{len(copied):,}; `cvtrain data check` lists them"
        )
    pairs = [pair[:2] for pair in found.near_duplicates if _is_suspicious(pair[:2], places)]
    if pairs:
        lines = [f"  {_named(a, places)} and {_named(b, places)}" for a, b in pairs[:_MOST_LISTED]]
        if more := pairs[_MOST_LISTED:]:
            lines.append(f"  and {len(more):,} more, in duplicates.csv")
        console.warning(
            "similar pairs in two splits (probably a leak) or in two classes (one label is "
            f"wrong): {len(pairs):,}\n"
            + "\n".join(lines)
            + "\n  See near_duplicates.png, and remove one image of each true pair. If the file "
            "names contain a group, cvtrain data split --group keeps each group in one split."
        )


def _is_suspicious(pair: Sequence[str], places: Mapping[str, _Place]) -> bool:
    return places[pair[0]] != places[pair[1]]


def _named(path: str, places: Mapping[str, _Place]) -> str:
    return f"{escape(path)} ({escape('/'.join(places[path]))})"


def _duplicate_rows(found: Statistics, places: Mapping[str, _Place]) -> Iterable[Sequence[Any]]:
    """One row for each pair: copies with the first file of the image, then near duplicates."""
    yield (
        *("kind", "path", "split", "class", "other_path", "other_split", "other_class"),
        *("hash_distance", "pixel_difference"),
    )
    for first, *others in found.copies():
        for other in others:
            yield "exact", first, *places[first], other, *places[other], 0, 0.0
    for first, other, pair in found.near_duplicates:
        figures = pair.distance, f"{pair.difference:.3f}"
        yield "near", first, *places[first], other, *places[other], *figures


def _draw(
    index: Index, found: Statistics, places: Mapping[str, _Place], folder: Path, config: Config
) -> None:
    from cvtrain.plots.figures import draw_contact_sheet, save

    decode = replace(decoder_of(config), size=_PICTURE, resize="pad")

    def panel(path: str, *caption: str) -> tuple[Any, str]:
        return decode(read_image(index.root / path)).pixels, "\n".join(caption)

    of_class: dict[str, list[str]] = {name: [] for name in index.class_names}
    for path in found.facts:
        of_class[places[path][1]].append(path)
    rows = [
        [panel(path, name, Path(path).name) for path in choose(paths, _PER_CLASS, config.seed)]
        for name, paths in of_class.items()
        if paths
    ]
    save(draw_contact_sheet(rows[:_MOST_CLASSES]), folder / "contact_sheet.png")
    pairs = sorted(found.near_duplicates, key=lambda pair: not _is_suspicious(pair[:2], places))
    if pairs:
        sheet = [
            [panel(path, "/".join(places[path]), Path(path).name) for path in pair[:2]]
            for pair in pairs[:_MOST_PAIRS]
        ]
        save(draw_contact_sheet(sheet), folder / "near_duplicates.png")


def _word(source: str) -> str:
    """The name of the source as a folder name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source).resolve().stem).strip("-.") or "images"

"""Inspect images, and choose an image size for them."""

import re
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from cvtrain.config import Config
from cvtrain.data.check import resolve
from cvtrain.data.index import Index
from cvtrain.data.labels import suggest_pattern
from cvtrain.data.manifest import SPLIT_NAMES, UnreadManifest, read_manifest
from cvtrain.data.metadata import find_manifests
from cvtrain.data.problems import Problem
from cvtrain.data.scan import list_folder
from cvtrain.errors import DataError
from cvtrain.images.decode import Decoded, DecodeError, Decoder, Range, read_image
from cvtrain.images.file_types import none_readable
from cvtrain.sections import Columns, Data, SplitShares
from cvtrain.steps.dataset import check, find
from cvtrain.system.console import Console
from cvtrain.system.machine import num_threads
from cvtrain.system.signals import Stop
from cvtrain.system.text import escape

SIDES = (64, 96, 128, 160, 192, 224)
"""Image sizes to choose from, multiples of 32, by which backbones shrink their feature maps. The
ImageNet networks were trained at 224; below 64 they end in a single cell."""

_SAMPLE = 64
_MOST_IMAGES = {224: 10_000, 160: 50_000}
_GREY = 2.0


@dataclass(frozen=True)
class DatasetProfile:
    """The properties of a data set.

    Attributes:
        index: the usable images, in their splits.
        label_pattern: the pattern that finds the class in a file name; None for class folders.
        columns: the columns of a manifest; None if its header is known.
        too_rare: the number of training images of each class that is too small to be split; these
            classes are not in the index.
        problems: the problems that the check found at `side`, also of files outside the index.
        num_bad: the number of unusable files, including leaks.
        median_size: the median height and width of the files in pixels.
        is_grey: whether all images are grey.
        range: the stored values of black and white, or "auto".
        side: the suggested height and width in pixels.
    """

    index: Index
    label_pattern: str | None
    columns: Columns | None
    too_rare: dict[str, int]
    problems: tuple[Problem, ...]
    num_bad: int
    median_size: tuple[int, int]
    is_grey: bool
    range: Range
    side: int

    @property
    def num_train(self) -> int:
        """The number of training images."""
        return len(self.index.splits["train"].paths)

    @property
    def imbalance(self) -> float:
        """The ratio of the largest class to the smallest, in training images."""
        counts = self.index.counts["train"].values()
        return max(counts) / min(counts)

    @property
    def are_characters(self) -> bool:
        """Whether all class names are digits or letters, which must not be mirrored."""
        return all(re.fullmatch(r"\d{1,2}|[^\W\d]", name) for name in self.index.class_names)

    @property
    def bad_by_kind(self) -> Counter[str]:
        """The number of unusable files by the kind of problem."""
        kinds = {p.path: p.kind for p in self.problems if p.severity == "bad"}
        return Counter(kinds.values())


def profile_dataset(
    source: str,
    *,
    smallest_side: int,
    label_pattern: str | None = None,
    columns: Columns | None = None,
    stop: Stop,
    console: Console,
) -> DatasetProfile:
    """Find the images of a source, choose a size, and check every image.

    Args:
        source: a value of `data.source`.
        smallest_side: the smallest image size of the backbone, in pixels.
        label_pattern: the pattern that finds the class in each path (default: class folders or, if
            there are none, a pattern that matches the file names).
        columns: the columns of a manifest (default: from its header, or found if there is no
            doubt).
        stop: the request to stop, which is polled.
        console: the console for progress and notes.

    Raises:
        DataError: the source is not a data set, or a class has no usable image.
        ResourceError: a named set cannot be written.
        Stopped: a stop was requested.
    """
    data = Data(
        source=source,
        label_pattern=label_pattern or (_flat_names(Path(source)) if columns is None else None),
        columns=columns or _columns(Path(source)),
    )
    index, too_rare = _divided(data, {}, stop, console)
    looks = _sample(index)
    height, width = (
        int(np.median([getattr(d, key) for d in looks])) for key in ("height", "width")
    )
    side = image_side(min(height, width), len(index.splits["train"].paths), smallest_side)
    # At the size of the config, so that `fit` can use the result.
    decoder = Decoder((side, side))
    _, report = check(index, decoder, stop, console)
    if report.range:
        decoder = replace(decoder, range=report.range)
        _, report = check(index, decoder, stop, console)
    spoilt = report.index.assignment.too_few if report.index.assignment else {}
    if spoilt and not report.same_classes:
        index, too_rare = _divided(data, too_rare | spoilt, stop, console)
        _, report = check(index, decoder, stop, console)
    usable, _ = resolve(report.index, report, on_bad="skip", on_leak="error")
    _check_splits(usable)
    bad = {problem.path for problem in report.problems if problem.severity == "bad"}
    is_grey = all(np.ptp(look.pixels, axis=2).mean() < _GREY for look in looks)
    return DatasetProfile(
        index=usable,
        label_pattern=data.label_pattern,
        columns=data.columns,
        too_rare=too_rare,
        problems=report.problems,
        num_bad=len(bad),
        median_size=(height, width),
        is_grey=is_grey,
        range=decoder.range,
        side=side,
    )


def image_side(median: int, num_train: int, smallest: int) -> int:
    """The largest of `SIDES` that does not enlarge the images and is fast enough.

    Args:
        median: the median of the shorter sides of the files, in pixels.
        num_train: the number of training images; more images are made smaller.
        smallest: the smallest image size of the backbone, in pixels.
    """
    most = next((side for side, count in _MOST_IMAGES.items() if num_train <= count), 128)
    allowed = [side for side in SIDES if side >= smallest]
    return max((side for side in allowed if side <= min(median, most)), default=allowed[0])


def _flat_names(path: Path) -> str | None:
    """A pattern of the labels in the file names; None if there are class folders."""
    if not path.is_dir() or find_manifests(path):
        return None
    listing = list_folder(path, "", {})
    if listing.folders and all(name.lower() in SPLIT_NAMES for name in listing.folders):
        listing = list_folder(path, listing.folders[0], {})
    return None if listing.folders else suggest_pattern(listing.images) or None


def _columns(path: Path) -> Columns | None:
    """The columns of a manifest with an unknown header, if there is no doubt about them."""
    try:
        for manifest in find_manifests(path):
            read_manifest(manifest)
    except UnreadManifest as error:
        if (columns := error.proposal.columns) and error.proposal.is_certain:
            return Columns(**asdict(columns))
    except DataError:
        pass  # raised again when the images are listed
    return None


def _divided(
    data: Data, spoilt: Mapping[str, int], stop: Stop, console: Console
) -> tuple[Index, dict[str, int]]:
    """The index, and the classes that were left out because they are too small to be split.

    Args:
        data: the section of the config.
        spoilt: classes with too few intact, different images, and their numbers.
    """

    def index_of(split: SplitShares, classes: list[str] | None = None) -> Index:
        part = data.model_copy(update={"split": split, "classes": classes})
        return find(Config(data=part), stop, console)

    whole = index_of(SplitShares(validation=0.0, test=0.0))
    num_missing = len({"validation", "test"} - set(whole.splits))
    counts = whole.counts["train"]
    too_rare = {name: count for name, count in counts.items() if count <= num_missing}
    too_rare |= spoilt
    classes = [name for name in whole.class_names if name not in too_rare]
    if not too_rare or len(classes) < 2:  # a single class is an error of the index
        return index_of(SplitShares()), {}
    return index_of(SplitShares(), classes), too_rare


def _sample(index: Index) -> list[Decoded]:
    """A sample of the images, decoded to a small size."""
    paths = [path for split in index.splits.values() for path in split.paths]
    places = np.linspace(0, len(paths) - 1, min(len(paths), _SAMPLE)).round().astype(int)
    decoder = Decoder((64, 64))

    def look(place: int) -> Decoded | DecodeError:
        try:
            return decoder(read_image(index.root / paths[place]))
        except DecodeError as error:
            return error

    with ThreadPoolExecutor(num_threads()) as pool:
        looks = list(pool.map(look, places))
    decoded = [each for each in looks if isinstance(each, Decoded)]
    if not decoded:
        pairs = zip(places, looks, strict=True)
        errors = {paths[place]: e for place, e in pairs if isinstance(e, DecodeError)}
        raise none_readable(index.root, errors)
    return decoded


def _check_splits(index: Index) -> None:
    for split in ("train", "validation", "test"):
        if split not in index.splits:
            raise DataError(
                f"{escape(index.root)}: the split {split} has no images",
                "Add images, or remove it: it is then drawn from the training images.",
            )

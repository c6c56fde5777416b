"""What there is to know about images before anything is chosen for them."""

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
"""Image sizes to choose from, all multiples of 32, by which the backbones shrink their maps.
ImageNet's
networks were trained at 224; below 64 they end in a single cell."""

_SAMPLE = 64
_MOST_IMAGES = {224: 10_000, 160: 50_000}
_GREY = 2.0


@dataclass(frozen=True)
class DatasetProfile:
    """What was found.

    Attributes:
        index: the images that can be used, in their splits.
        label_pattern: that finds the class in the names of files; None where folders are classes.
        columns: which column of a manifest is what; None where its header says it.
        too_rare: training images of classes that have too few to be split, by name; they are not in
            the index.
        problems: of the check at `side`, those of files that are not in the index included.
        num_bad: files that cannot be used, leaks included.
        median_size: height and width of the files in pixels.
        is_grey: no image has colour.
        range: of the values in the files: "auto", or the one without which they show nothing.
        side: height and width in pixels that suits them.
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
        """How many images there are to train on."""
        return len(self.index.splits["train"].paths)

    @property
    def imbalance(self) -> float:
        """Training images of the commonest class over those of the rarest."""
        counts = self.index.counts["train"].values()
        return max(counts) / min(counts)

    @property
    def are_characters(self) -> bool:
        """The names of all classes are digits or letters, which mirrored are none."""
        return all(re.fullmatch(r"\d{1,2}|[^\W\d]", name) for name in self.index.class_names)

    @property
    def bad_by_kind(self) -> Counter[str]:
        """How many files are unusable, by what is wrong in a few words."""
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
    """Look at the images of a source: find them, choose a size, check every one.

    Args:
        source: what `data.source` may be.
        label_pattern: finds the class in each path; None: folders say it or, where there are none,
            a pattern that fits the names of the files.
        columns: which column of a manifest is what; None: as its header says, or as there is no
            doubt.
        smallest_side: in pixels, that the backbone can take.

    Raises:
        DataError: the source is no data set, or nothing is left of a class without the bad files.
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
    # At the size of the config, so that `fit` need not look again.
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
    """The largest of `SIDES` that adds no pixels and takes no unreasonable time.

    Args:
        median: of the shorter sides of the files, in pixels.
        num_train: training images; the more there are, the smaller they may be.
        smallest: that the backbone can take.
    """
    most = next((side for side, count in _MOST_IMAGES.items() if num_train <= count), 128)
    allowed = [side for side in SIDES if side >= smallest]
    return max((side for side in allowed if side <= min(median, most)), default=allowed[0])


def _flat_names(path: Path) -> str | None:
    """The pattern of the labels in the names of files, where there are no folders of classes."""
    if not path.is_dir() or find_manifests(path):
        return None
    listing = list_folder(path, "", {})
    if listing.folders and all(name.lower() in SPLIT_NAMES for name in listing.folders):
        listing = list_folder(path, listing.folders[0], {})
    return None if listing.folders else suggest_pattern(listing.images) or None


def _columns(path: Path) -> Columns | None:
    """What a manifest needs to be read, where there is no doubt about it."""
    try:
        for manifest in find_manifests(path):
            read_manifest(manifest)
    except UnreadManifest as error:
        if (columns := error.proposal.columns) and error.proposal.is_certain:
            return Columns(**asdict(columns))
    except DataError:
        pass  # who finds the images tells it
    return None


def _divided(
    data: Data, spoilt: Mapping[str, int], stop: Stop, console: Console
) -> tuple[Index, dict[str, int]]:
    """The index, and which classes were left out because they have too few images to be split.

    Args:
        data: where the images are, and what tells their labels.
        spoilt: classes that have too few for want of intact files of different images, and how many
            those are.
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
    if not too_rare or len(classes) < 2:  # what one class leaves is no task: the index says so
        return index_of(SplitShares()), {}
    return index_of(SplitShares(), classes), too_rare


def _sample(index: Index) -> list[Decoded]:
    """Some images from all over the index, decoded small."""
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
                f"{escape(index.root)}: there is a split {split}, and no image in it",
                "Fill it, or remove it: then it is drawn from the training images.",
            )

"""Open the images of a config: find them, check them, and refuse or skip unusable ones."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvtrain import sections
from cvtrain.config import Config
from cvtrain.data.check import CheckReport, check_index, resolve
from cvtrain.data.columns import Columns
from cvtrain.data.index import Index, build_index
from cvtrain.data.scan import describe_left_out, is_ordinary
from cvtrain.data.sources import locate_source
from cvtrain.errors import ConfigError, DataError
from cvtrain.images.decode import Decoder
from cvtrain.images.pixel_cache import PixelCache
from cvtrain.sections import SplitShares
from cvtrain.sections.base import compile_pattern
from cvtrain.system.console import Console
from cvtrain.system.signals import Stop
from cvtrain.system.text import escape

DATA_DIR = Path("data")
_MOST_RECORDED = 200  # problems in run.json


@dataclass(frozen=True)
class Dataset:
    """Images that have passed the check.

    Attributes:
        index: the images of each class and split.
        pixels: their decoded pixels, by path.
        report: the result of the check.
    """

    index: Index
    pixels: PixelCache
    report: CheckReport

    @property
    def digest(self) -> str:
        """SHA-256 over split, path, class and content of every file."""
        return self.report.digest

    def describe(self) -> dict[str, Any]:
        """The part `data` of run.json."""
        return {
            "root": str(self.index.root.absolute()),
            "digest": self.digest,
            "counts": {split: dict(counts) for split, counts in self.index.counts.items()},
            "check": self._describe_check(),
        }

    def _describe_check(self) -> dict[str, Any]:
        """The result of the check for run.json; counts are of files."""
        problems = self.report.problems
        bad = [problem for problem in problems if problem.severity == "bad"]
        doubtful = [problem for problem in problems if problem.severity != "bad"]
        num_kept = sum(len(split.paths) for split in self.index.splits.values())
        return {
            "num_files": self.report.num_files,
            "bad": len({problem.path for problem in bad if not problem.is_leak}),
            "leaks": len({problem.path for problem in bad if problem.is_leak}),
            "doubtful": len({problem.path for problem in doubtful}),
            "skipped": self.report.num_files - num_kept,
            "problems": [
                {"path": each.path, "severity": each.severity, "what": each.what}
                for each in (*bad, *doubtful)[:_MOST_RECORDED]
            ],
        }


def scan(config: Config, stop: Stop, console: Console) -> tuple[Index, PixelCache, CheckReport]:
    """Find and check the images of a config.

    Raises:
        DataError: the source is not a data set.
        Stopped: a stop was requested while checking.
    """
    index = find(config, stop, console)
    pixels, report = check(index, decoder_of(config), stop, console, on_leak=config.data.on_leak)
    return report.index, pixels, report


def find(config: Config, stop: Stop, console: Console) -> Index:
    """Find the images of a config; a named set is fetched at its first use.

    Raises:
        DataError: the source is not a data set.
        Stopped: a stop was requested while fetching.
    """
    source = locate_source(config.data.source, data_dir=DATA_DIR, stop=stop, task=console.task)
    pattern = config.data.label_pattern
    return build_index(
        source,
        validation=config.data.split.validation,
        test=config.data.split.test,
        seed=config.seed,
        classes=config.data.classes,
        train_per_class=config.data.train_per_class,
        label_pattern=None if pattern is None else compile_pattern(pattern),
        columns=columns_of(config.data.columns),
    )


def columns_of(section: sections.Columns | None) -> Columns | None:
    """The section `data.columns` as the columns of a manifest."""
    if section is None:
        return None
    return Columns(**section.model_dump())


def find_to_look(config: Config, stop: Stop, console: Console) -> tuple[Index, DataError | None]:
    """Find images as `find` does; if they cannot be split, return them unsplit, and the error."""
    try:
        return find(config, stop, console), None
    except DataError as error:
        split = SplitShares(validation=0.0, test=0.0)
        data = config.data.model_copy(update={"split": split, "train_per_class": None})
        with contextlib.suppress(DataError):
            return find(config.model_copy(update={"data": data}), stop, console), error
        raise


def show_notes(index: Index, messages: Iterable[str], console: Console) -> None:
    """Print notes about the source, further messages, and the files that were left out."""
    for message in (*index.notes, *messages):
        console.warning(message)
    show_left_out(index.left_out, console)


def show_left_out(left_out: Mapping[str, Sequence[str]], console: Console) -> None:
    """Print in one line which files and folders were left out and why."""
    if text := describe_left_out(left_out):
        show = console.info if is_ordinary(left_out) else console.warning
        show(f"left out: {text}")


def check(
    index: Index, decoder: Decoder, stop: Stop, console: Console, *, on_leak: str = "error"
) -> tuple[PixelCache, CheckReport]:
    """Check every file of `index` with a progress bar."""
    pixels = PixelCache(index.root, decoder)
    with console.task("checking images") as show:
        report = check_index(index, pixels, on_leak=on_leak, stop=stop, on_progress=show)
    return pixels, report


def open_dataset(config: Config, stop: Stop, console: Console) -> Dataset:
    """Find the images of a config, check them, and refuse or skip what is unusable.

    Raises:
        ConfigError: the config leaves no images for a split that the source does not have.
        DataError: the source is not a data set, files are bad or leak (unless the config allows
            that), or a split is missing.
        Stopped: a stop was requested while checking.
    """
    index = find(config, stop, console)
    _check_split_shares(index, config)
    pixels, report = check(index, decoder_of(config), stop, console, on_leak=config.data.on_leak)
    index, messages = resolve(
        report.index, report, on_bad=config.data.on_bad, on_leak=config.data.on_leak
    )
    show_notes(index, messages, console)
    if doubtful := {p.path for p in report.problems if p.severity == "doubtful"}:
        console.warning(f"doubtful files: {len(doubtful):,}; `cvtrain data check` lists them")
    for split in ("train", "validation", "test"):
        if split not in index.splits:
            raise DataError(
                f"{index.root}: there are no images for {split}",
                f"Add a {split} folder, or set data.split.{split} above 0.",
            )
    console.info(f"data: {summary(index.counts)}")
    return Dataset(index, pixels, report)


def _check_split_shares(index: Index, config: Config) -> None:
    """Raise ConfigError if a split gets no images from the config or the source."""
    shares = config.data.split.model_dump()
    missing = [split for split, share in shares.items() if not share and split not in index.splits]
    if missing:
        raise ConfigError(
            "\n".join(
                f"{config.name('data', 'split', split)}: 0 leaves no images for {split}, and "
                f"{escape(index.root)} has no such split"
                for split in missing
            ),
            f"Set it above 0, such as 0.15, or add the split: a folder {missing[0]}/ of class "
            "folders, or rows of a manifest.",
        )


def decoder_of(config: Config) -> Decoder:
    """The one decoder, with the settings of a config."""
    data = config.data
    return Decoder(
        data.image_size, resize=data.resize, background=data.background, range=data.range
    )


def summary(counts: Mapping[str, Mapping[str, int]]) -> str:
    """`10 classes, 3,068 train, 341 validation, 372 test images`."""
    names = {name for per_class in counts.values() for name in per_class}
    sizes = (f"{sum(per_class.values()):,} {split}" for split, per_class in counts.items())
    return f"{len(names)} classes, {', '.join(sizes)} images"

"""Which images, of which class, in which split.

A source is a folder of split folders of class folders, one folder of class folders, a manifest, or
a folder that holds one; with a label pattern, folders may be laid out in any way. What the source
does not split itself is split by `shares`.
"""

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from cvtrain.data.columns import Columns
from cvtrain.data.folders import Classes, nfc, read_folder
from cvtrain.data.metadata import find_manifests, read_manifests
from cvtrain.data.scan import (
    BEYOND_SUBSET,
    OTHER_CLASSES,
    LeftOut,
    in_parentheses,
    join_names,
    natural_key,
)
from cvtrain.data.splitting import SplitAssignment, too_few_error
from cvtrain.errors import DataError
from cvtrain.system.text import escape

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """The samples of one split.

    Attributes:
        paths: POSIX paths relative to the index's root.
        labels: int32 of shape (len(paths),), positions in the index's class names.
    """

    paths: tuple[str, ...]
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Index:
    """All samples of a data set.

    Attributes:
        root: folder that paths are relative to.
        class_names: in the order of the labels.
        splits: by name, in the order train, validation, test; none is empty.
        left_out: paths of the files and folders that are no samples, by reason.
        notes: what a person should know about how the source was read.
        auto_splits: the splits that cvtrain has drawn, train first; empty where the source has its
            own.
        assignment: how they were drawn, and can be drawn again; None for a recorded index.
    """

    root: Path
    class_names: tuple[str, ...]
    splits: Mapping[str, Split]
    left_out: Mapping[str, Sequence[str]]
    notes: tuple[str, ...] = ()
    auto_splits: tuple[str, ...] = ()
    assignment: SplitAssignment | None = None

    @cached_property
    def counts(self) -> dict[str, dict[str, int]]:
        """How many images each class has in each split: {split: {class: number}}."""
        counts = {}
        for name, split in self.splits.items():
            numbers = np.bincount(split.labels, minlength=len(self.class_names)).tolist()
            counts[name] = dict(zip(self.class_names, numbers, strict=True))
        return counts

    def without(self, paths: Collection[str]) -> "Index":
        """The same index less the samples at `paths`; splits that end empty are gone."""
        splits = {}
        for name, split in self.splits.items():
            kept = [i for i, path in enumerate(split.paths) if path not in paths]
            if kept:
                splits[name] = Split(tuple(split.paths[i] for i in kept), split.labels[kept])
        auto_splits = tuple(name for name in self.auto_splits if name in splits)
        return replace(self, splits=splits, auto_splits=auto_splits)

    def reassign_splits(
        self, digests: Mapping[str, bytes], unusable: Collection[str], *, on_leak: str
    ) -> "Index":
        """The same index with its splits drawn among different, usable images; copies go along.

        Where a class has too few of them (`assignment.too_few`), no split is drawn.

        Args:
            digests, unusable, on_leak: what is known of the files, as
                `SplitAssignment.with_duplicates_known` takes it.
        """
        if self.assignment is None or self.assignment.image_of is not None:
            return self
        assignment = self.assignment.with_duplicates_known(digests, unusable, on_leak=on_leak)
        if not assignment.drawn and assignment.train_per_class is None:
            return replace(self, assignment=assignment)
        splits = _splits(assignment.assign_splits(), self.class_names)
        auto_splits, notes = _assigned_splits(splits, assignment), self.notes
        paths = [path for name in auto_splits for path in splits[name].paths]
        num_copies = sum(map(assignment.is_copy, paths))
        if num_copies and len(auto_splits) > 1:
            notes += (f"copies of other images, each in the split of its image: {num_copies:,}",)
        left_out = {**self.left_out, **_beyond_subset(assignment, splits)}
        return replace(
            self,
            splits=splits,
            left_out=left_out,
            notes=notes,
            auto_splits=auto_splits,
            assignment=assignment,
        )

    def different_images(self) -> dict[str, dict[str, list[str]]]:
        """The training images: {class: {path of one copy: [path of each copy, ...]}}."""
        known = (self.assignment and self.assignment.image_of) or {}
        found: dict[str, dict[str, list[str]]] = {}
        for name, paths in self.by_class().get("train", {}).items():
            copies = found.setdefault(name, {})
            for path in paths:
                copies.setdefault(known.get(path, path), []).append(path)
        return found

    def by_class(self) -> dict[str, dict[str, list[str]]]:
        """{split: {class: [path, ...]}}, which a run records and `recorded_index` reads back."""
        return {
            name: {
                class_name: [split.paths[i] for i in np.flatnonzero(split.labels == label)]
                for label, class_name in enumerate(self.class_names)
            }
            for name, split in self.splits.items()
        }


def build_index(
    source: Path,
    *,
    validation: float,
    test: float,
    seed: int,
    classes: Collection[str] | None = None,
    train_per_class: int | None = None,
    class_names: Sequence[str] | None = None,
    label_pattern: re.Pattern[str] | None = None,
    columns: Columns | None = None,
) -> Index:
    """Index the images of a source.

    Args:
        source: folder or manifest.
        validation: share of the images for validation where the source has no such split, 0 to 1;
            they are taken from the training images, class by class.
        test: the same for the test.
        seed: another seed gives another split.
        classes: the others are left out; None: none is.
        train_per_class: at most so many training images of each class are taken, by the hash that
            splits; more includes fewer, and copies come last. None: all.
        class_names: of a trained model; the classes of the source are matched by name and may be
            fewer, and the source needs no training images. None: the source decides.
        label_pattern: its group finds the label in each path below a folder, as
            `labels.compile_pattern` says. None: folders are the labels.
        columns: which column of a manifest is what. None: its header says it.

    Raises:
        DataError: the source is no data set, or not a usable one.
    """
    source = Path(source)
    notes: list[str] = []
    left_out: LeftOut = {}
    is_by_name = source.is_dir() and label_pattern is not None
    manifests = {} if is_by_name else find_manifests(source, columns, notes)
    if manifests and label_pattern is not None:
        raise DataError(
            f"{escape(source)}: a manifest has its own labels, and a label pattern is given",
            "Leave the pattern out, or name the folder of the images.",
        )
    if manifests:
        root, samples = read_manifests(source, manifests, columns, left_out, notes)
        found = _group(samples)
    elif columns is not None:
        raise DataError(
            f"{escape(source)}: no manifest, and data.columns names the columns of one",
            "Leave data.columns out, or name the manifest.",
        )
    elif source.is_dir():
        root, found = source, read_folder(source, label_pattern, left_out, notes)
    else:
        raise DataError(
            f"{escape(source)}: neither a folder nor a .csv manifest",
            "Name a folder of images (unpack archives first) or a manifest.",
        )
    if not any(found.values()):
        raise DataError(
            f"{escape(source)}: no images{in_parentheses(left_out)}",
            "Put one folder of images per class there; JPEG, PNG, BMP, GIF and WebP are read.",
        )
    if classes is not None:
        found = _only(source, found, [nfc(name) for name in classes], left_out)
    names = _class_names(source, found, class_names, left_out)
    if class_names is None:
        notes += _similar_names(names)
    # The test comes first, so that another share for validation leaves it as it is.
    assignment = SplitAssignment(
        found, {"test": test, "validation": validation}, seed, train_per_class
    )
    if assignment.too_few:
        raise too_few_error(source, assignment.too_few, assignment.drawn)
    splits = _splits(assignment.assign_splits(), names)
    if class_names is None:
        notes += _missing_classes(splits, names)
    auto_splits = _assigned_splits(splits, assignment)
    left_out |= _beyond_subset(assignment, splits)
    return Index(root, names, splits, left_out, tuple(notes), auto_splits, assignment)


def _beyond_subset(assignment: SplitAssignment, splits: Mapping[str, Split]) -> LeftOut:
    """Training images that `data.train_per_class` leaves out."""
    if assignment.train_per_class is None:
        return {}
    used = {path for split in splits.values() for path in split.paths}
    return {BEYOND_SUBSET: [path for path in assignment.paths if path not in used]}


def recorded_index(
    root: Path, class_names: Sequence[str], by_class: Mapping[str, Mapping[str, Sequence[str]]]
) -> Index:
    """The index that `Index.by_class` recorded, whatever has been added to the folder since."""
    names = tuple(class_names)
    return Index(Path(root), names, _splits(by_class, names), {})


def _group(samples: list[tuple[str, str, str]]) -> dict[str, Classes]:
    found: dict[str, Classes] = {}
    for split, label, path in samples:
        found.setdefault(split, {}).setdefault(label, []).append(path)
    return found


def _only(
    source: Path, found: dict[str, Classes], wanted: Sequence[str], left_out: LeftOut
) -> dict[str, Classes]:
    known = sorted({name for classes in found.values() for name in classes}, key=natural_key)
    if unknown := [name for name in wanted if name not in known]:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        raise DataError(
            f"{escape(source)}: there is no class {join_names(unknown)}, as data.classes says",
            f"Did you mean {near[0]}?" if near else f"The classes are {join_names(known)}.",
        )
    others = [
        path
        for classes in found.values()
        for name, paths in classes.items()
        if name not in wanted
        for path in paths
    ]
    left_out.setdefault(OTHER_CLASSES, []).extend(others)
    return {
        split: {name: paths for name, paths in classes.items() if name in wanted}
        for split, classes in found.items()
    }


def _class_names(
    source: Path,
    found: dict[str, Classes],
    given: Sequence[str] | None,
    left_out: LeftOut,
) -> tuple[str, ...]:
    """Names in the order of labels; an error names classes that training cannot know."""
    where = escape(source)
    if given is None:
        training = found.get("train", found.get(""))
        if training is None:
            raise DataError(
                f"{where}: there are images for {', '.join(sorted(found))} but none for training",
                "Add a folder train/ of class folders.",
            )
        if empty := sorted(
            (name for name, paths in training.items() if not paths), key=natural_key
        ):
            raise DataError(
                f"{where}: no images in class {join_names(empty)}{in_parentheses(left_out)}",
                "Fill or remove the folder.",
            )
        if len(training) < 2:
            raise DataError(
                f"{where}: only one class, {join_names(training)}",
                _advice_for_one_class(source, found),
            )
        given = sorted(training, key=natural_key)
    for split, classes in found.items():
        unknown = [name for name, paths in classes.items() if paths and name not in set(given)]
        if unknown:
            near = difflib.get_close_matches(unknown[0], given, n=1)
            raise DataError(
                f"{where}: {split or 'the data'} has class {join_names(unknown)}, "
                "which training does not know",
                f"Did you mean {near[0]}? Class names must match exactly."
                if near
                else f"The classes are {join_names(given)}.",
            )
    return tuple(given)


def _advice_for_one_class(source: Path, found: Mapping[str, Classes]) -> str:
    """Often an archive was unpacked into a folder of its own name."""
    for name, paths in found.get("", {}).items():
        inside = [path.split("/")[:-1] for path in paths]
        if all(len(folders) > 1 and nfc(folders[0]) == name for folders in inside):
            deeper = escape(source / inside[0][0])
            return f"Its images lie in folders of their own. Are these the classes? Name {deeper}"
    return "A classifier needs at least two folders of images, one per class."


def _splits(
    found: Mapping[str, Mapping[str, Sequence[str]]], names: Sequence[str]
) -> dict[str, Split]:
    return {
        name: _split(found[name], names) for name in SPLITS if any(found.get(name, {}).values())
    }


def _split(classes: Mapping[str, Sequence[str]], names: Sequence[str]) -> Split:
    paths = [classes.get(name, []) for name in names]
    labels = np.repeat(np.arange(len(names), dtype=np.int32), [len(part) for part in paths])
    return Split(tuple(path for part in paths for path in part), labels)


def _similar_names(names: Iterable[str]) -> Iterator[str]:
    """A note on each pair of names that are probably meant as one, whatever source they are from.

    They differ in case, spaces, dashes, dots, the width of letters or leading zeros alone.
    """
    seen: dict[str, str] = {}
    for name in names:
        text = re.sub(r"[\s._-]+", "", unicodedata.normalize("NFKC", name).casefold())
        other = seen.setdefault(re.sub(r"(?<!\d)0+(?=\d)", "", text) or name, name)
        if other != name:
            yield f"'{other}' and '{name}' are two classes; is that meant?"


def _assigned_splits(splits: Mapping[str, Split], assignment: SplitAssignment) -> tuple[str, ...]:
    return tuple(name for name in splits if name == "train" or name in assignment.drawn)


def _missing_classes(splits: Mapping[str, Split], names: Sequence[str]) -> list[str]:
    notes = []
    for split, samples in splits.items():
        present = set(samples.labels.tolist())
        if missing := [name for label, name in enumerate(names) if label not in present]:
            notes.append(f"{split} has no images of class {join_names(missing)}")
    return notes

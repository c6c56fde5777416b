"""Index of a data set: paths and labels of each split.

A source is a folder of split folders of class folders, one folder of class folders, a manifest, or
a folder that contains one; with a label pattern, the structure of folders is free. Splits that the
source lacks are drawn by `splitting`.
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
        paths: POSIX paths relative to the root of the index.
        labels: int32 of shape (len(paths),), indices in the class names of the index.
    """

    paths: tuple[str, ...]
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Index:
    """All samples of a data set.

    Attributes:
        root: Folder that paths are relative to.
        class_names: Names of the classes in the order of the labels.
        splits: Splits by name, in the order train, validation, test; none is empty.
        left_out: Paths of the files and folders that are not samples, by reason.
        notes: Remarks on the interpretation of the source.
        auto_splits: Splits that cvtrain has drawn, train first; empty if the source has its own.
        assignment: The parameters of the draw, so that it can be repeated; None for a recorded
            index.
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
        """Number of images of each class in each split: {split: {class: number}}."""
        counts = {}
        for name, split in self.splits.items():
            numbers = np.bincount(split.labels, minlength=len(self.class_names)).tolist()
            counts[name] = dict(zip(self.class_names, numbers, strict=True))
        return counts

    def without(self, paths: Collection[str]) -> "Index":
        """The same index without the samples at `paths` and without empty splits."""
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
        """The same index with its splits drawn among different, usable images.

        Copies are in the split of their image. No split is drawn if a class has too few images
        (`assignment.too_few`).

        Args:
            digests, unusable, on_leak: As in `SplitAssignment.with_duplicates_known`.
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
        """{split: {class: [path, ...]}}, which a run records and `recorded_index` reads."""
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
        source: Folder or manifest.
        validation: Fraction of the training images of each class for validation, 0 to 1, if the
            source has no such split.
        test: The same for the test split.
        seed: Random seed of the splits.
        classes: Classes to use; None: all.
        train_per_class: Largest number of training images of each class, drawn by the hash that
            splits; larger subsets include smaller ones, and copies come last. None: all.
        class_names: Classes of a trained model, which classes of the source must match; then the
            source may have fewer classes and no training images. None: the classes of the source.
        label_pattern: Pattern whose group is the label in each path, see
            `sections.base.compile_pattern`. None: folders are the labels.
        columns: The columns of a manifest. None: those of its header.

    Raises:
        DataError: The source is not a usable data set.
    """
    source = Path(source)
    notes: list[str] = []
    left_out: LeftOut = {}
    root, found = _read_source(source, label_pattern, columns, left_out, notes)
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
    # The test split is drawn first, so that it does not depend on the fraction for validation.
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


def _read_source(
    source: Path,
    label_pattern: re.Pattern[str] | None,
    columns: Columns | None,
    left_out: LeftOut,
    notes: list[str],
) -> tuple[Path, dict[str, Classes]]:
    """The folder that paths are relative to, and the paths by split and class."""
    is_by_name = source.is_dir() and label_pattern is not None
    manifests = {} if is_by_name else find_manifests(source, columns, notes)
    if manifests and label_pattern is not None:
        raise DataError(
            f"{escape(source)}: a manifest has its own labels, and a label pattern is given",
            "Leave the pattern out, or name the folder of the images.",
        )
    if manifests:
        root, samples = read_manifests(source, manifests, columns, left_out, notes)
        found: dict[str, Classes] = {}
        for split, label, path in samples:
            found.setdefault(split, {}).setdefault(label, []).append(path)
        return root, found
    if columns is not None:
        raise DataError(
            f"{escape(source)}: no manifest, and data.columns names the columns of one",
            "Leave data.columns out, or name the manifest.",
        )
    if source.is_dir():
        return source, read_folder(source, label_pattern, left_out, notes)
    raise DataError(
        f"{escape(source)}: neither a folder nor a .csv manifest",
        "Name a folder of images (unpack archives first) or a manifest.",
    )


def _beyond_subset(assignment: SplitAssignment, splits: Mapping[str, Split]) -> LeftOut:
    """Training images that `data.train_per_class` leaves out."""
    if assignment.train_per_class is None:
        return {}
    used = {path for split in splits.values() for path in split.paths}
    return {BEYOND_SUBSET: [path for path in assignment.paths if path not in used]}


def recorded_index(
    root: Path, class_names: Sequence[str], by_class: Mapping[str, Mapping[str, Sequence[str]]]
) -> Index:
    """The index that `Index.by_class` recorded, without files that were added since."""
    names = tuple(class_names)
    return Index(Path(root), names, _splits(by_class, names), {})


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
    """Names in the order of labels; DataError for classes that are not in training."""
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
    for name, paths in found.get("", {}).items():  # an archive unpacked into a folder of its name
        inside = [path.split("/")[:-1] for path in paths]
        if all(len(folders) > 1 and nfc(folders[0]) == name for folders in inside):
            deeper = escape(source / inside[0][0])
            return f"If the folders in it are the classes, name {deeper}"
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
    """Notes on names that differ only in case, white space, punctuation or leading zeros."""
    seen: dict[str, str] = {}
    for name in names:
        text = re.sub(r"[\s._-]+", "", unicodedata.normalize("NFKC", name).casefold())
        other = seen.setdefault(re.sub(r"(?<!\d)0+(?=\d)", "", text) or name, name)
        if other != name:
            yield f"'{other}' and '{name}' are different classes; is this intended?"


def _assigned_splits(splits: Mapping[str, Split], assignment: SplitAssignment) -> tuple[str, ...]:
    return tuple(name for name in splits if name == "train" or name in assignment.drawn)


def _missing_classes(splits: Mapping[str, Split], names: Sequence[str]) -> list[str]:
    notes = []
    for split, samples in splits.items():
        present = set(samples.labels.tolist())
        if missing := [name for label, name in enumerate(names) if label not in present]:
            notes.append(f"{split} has no images of class {join_names(missing)}")
    return notes

"""Folders of images -> paths by split and class."""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from cvtrain.data.labels import read_by_name, suggest_pattern
from cvtrain.data.manifest import SPLIT_NAMES
from cvtrain.data.scan import Listing, images_below, list_folder, listed
from cvtrain.errors import DataError
from cvtrain.files import printable

Classes = dict[str, list[str]]
"""Class name -> paths of its images."""


def read_folder(
    root: Path, label_pattern: re.Pattern[str] | None, ignored: Counter[str], notes: list[str]
) -> dict[str, Classes]:
    """Classes by split, or all of them under the name "" when there are no split folders.

    Args:
        root: folder that paths are relative to.
        label_pattern: finds the label in each path; None: folders are the labels.
        ignored: counts what is left out, by reason.
        notes: is told what a person should know about how the folder was read.

    Raises:
        DataError: the folder is no data set, or cannot be read.
    """

    def read(folders: Mapping[str, str]) -> dict[str, Classes]:
        if label_pattern is not None:
            return read_by_name(root, folders, label_pattern, ignored, notes)
        return {
            split: _read_classes(root, name, list_folder(root / name, ignored), ignored, notes)
            for name, split in folders.items()
        }

    ignored_here = Counter()
    top = list_folder(root, ignored_here)
    _refuse_misspelt_splits(root, top.folders)
    named = {name: SPLIT_NAMES[key] for name in top.folders if (key := name.lower()) in SPLIT_NAMES}
    # A class may be called "train" as well, as in bus/ car/ train/: then images lie right in it.
    is_split = any(_has_folders(root / name) for name in named) or len(named) == len(top.folders)
    if named and (is_split or label_pattern is not None):
        twice = [split for split, count in Counter(named.values()).items() if count > 1]
        if twice:
            same = ", ".join(f"{name}/" for name, split in named.items() if split in twice)
            raise DataError(
                f"{printable(root)}: {same} mean the same split", "Put their images into one."
            )
        if others := [name for name in top.folders if name not in named]:
            notes.append(f"folders beside the splits are left out: {listed(others)}")
        ignored.update(ignored_here)
        found = read(named)
    else:
        found = read({"": ""})
    if links := ignored["links to folders"]:
        notes.append(f"{links:,} links to folders are left out; list their images in a manifest")
    return found


def _refuse_misspelt_splits(root: Path, folders: list[str]) -> None:
    for name in folders:
        if name.lower() not in SPLIT_NAMES:
            near = difflib.get_close_matches(name.lower(), SPLIT_NAMES, n=1, cutoff=0.75)
            if near and _has_folders(root / name):
                raise DataError(
                    f"{printable(root / name)}: a folder of folders that is no split",
                    f"Did you mean {near[0]}/? Rename it or move it elsewhere.",
                )


def _has_folders(folder: Path) -> bool:
    return bool(list_folder(folder, Counter()).folders)


def _read_classes(
    root: Path, folder: str, listing: Listing, ignored: Counter[str], notes: list[str]
) -> Classes:
    here = printable(root / folder)
    num_flat = len(listing.images)
    if not listing.folders and num_flat:
        advice = "Make one folder per class, or list path,label in a CSV manifest."
        if pattern := suggest_pattern(listing.images):
            advice += (
                f" Or take the label from the names: --set 'data.label_pattern={pattern}'; "
                f"of data split: --label '{pattern}'"
            )
        raise DataError(
            f"{here}: {num_flat:,} images but no class folders, so they have no labels", advice
        )
    if num_flat:
        ignored["images beside the class folders"] += num_flat
        notes.append(f"{here}: {num_flat:,} images beside the class folders are left out")
    classes, folders = {}, {}
    for name in listing.folders:
        label = nfc(name)
        path = f"{folder}/{name}" if folder else name
        if not name.isprintable():
            raise DataError(
                f"{printable(root / path)}: the name holds {_unprintable(name)}",
                "Rename the folder: its name is the name of a class.",
            )
        if label in folders:
            pair = ascii(folders[label]), ascii(name)
            raise DataError(
                f"{here}: {pair[0]} and {pair[1]} are one name in two Unicode forms",
                "Put their images into one folder.",
            )
        folders[label] = name
        classes[label] = list(images_below(root, path, ignored))
    notes += [f"{here}: {pair} are two classes; is that meant?" for pair in _look_alikes(classes)]
    return classes


def _unprintable(name: str) -> str:
    """The first character of a name that no terminal shows, in words."""
    character = next(c for c in name if not c.isprintable())
    if "\udc80" <= character <= "\udcff":  # what Python makes of bytes beyond UTF-8
        return "bytes that are not UTF-8"
    return f"the invisible character U+{ord(character):04X}"


def _look_alikes(names: Iterable[str]) -> Iterator[str]:
    """Pairs of names that differ in case, spaces or the width of letters alone."""
    seen: dict[str, str] = {}
    for name in names:
        shape = "".join(unicodedata.normalize("NFKC", name).casefold().split())
        other = seen.setdefault(shape, name)
        if other != name:
            yield f"'{other}' and '{name}'"


def nfc(name: str) -> str:
    """`name` in Unicode's form NFC, in which equal names are equal texts."""
    return unicodedata.normalize("NFC", name)

"""Read folders of images: paths by split and class."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from cvtrain.data.labels import read_by_name, suggest_pattern
from cvtrain.data.layout import describe_inner_splits, describe_outer_splits, find_splits
from cvtrain.data.manifest import SPLIT_NAMES
from cvtrain.data.scan import (
    OUTPUTS,
    LeftOut,
    Listing,
    images_below,
    join_names,
    join_path,
    list_folder,
)
from cvtrain.errors import DataError
from cvtrain.system.outputs import FETCHED_SET, read_mark
from cvtrain.system.text import escape, shell_quote

Classes = dict[str, list[str]]
"""Class name -> paths of its images."""


def read_folder(
    root: Path, label_pattern: re.Pattern[str] | None, left_out: LeftOut, notes: list[str]
) -> dict[str, Classes]:
    """Classes by split, or all of them under the name "" if there are no split folders.

    Args:
        root: Folder that paths are relative to.
        label_pattern: Pattern of the label in each path; None: folders are the labels.
        left_out: Mapping to which files that are left out are added, by reason.
        notes: List to which remarks on the interpretation of the folder are added.

    Raises:
        DataError: The folder is not a data set, or cannot be read.
    """
    _check_not_output(root)
    left_out_here: LeftOut = {}
    top = list_folder(root, "", left_out_here)
    by_pattern = label_pattern is not None
    splits = find_splits(root, top, left_out_here, notes, by_pattern=by_pattern)
    if splits:
        left_out.update(left_out_here)
    else:  # the folder itself is read below
        splits = {"": ""}
    if label_pattern is not None:
        return read_by_name(root, splits, label_pattern, left_out)
    return _read_splits(root, splits, left_out, notes)


def _check_not_output(root: Path) -> None:
    mark = read_mark(root)
    if mark not in ("", FETCHED_SET):
        raise DataError(
            f"{escape(root)}: a folder that cvtrain wrote (it has {escape(mark)}), and no "
            "images to train on",
            "Name the folder of the images.",
        )


def _read_splits(
    root: Path, splits: Mapping[str, str], left_out: LeftOut, notes: list[str]
) -> dict[str, Classes]:
    listings = {folder: list_folder(root, folder, left_out) for folder in splits}
    _require_labels(root, listings, splits)
    found = {
        split: _read_classes(root, folder, listings[folder], left_out)
        for folder, split in splits.items()
    }
    if list(found) == [""]:
        return _read_repeated_folders(root, found[""], notes)
    return found


def _require_labels(root: Path, listings: Mapping[str, Listing], splits: Mapping[str, str]) -> None:
    """Raise DataError for folders of images without class folders."""
    flat = [f for f, each in listings.items() if each.images and not each.folders]
    if not flat:
        return
    folder = flat[0]
    labelled = next((f for f in listings if splits[f] == "train" and f not in flat), None)
    if labelled is not None:
        alone, others = root / labelled, root / folder
        advice = (
            f"To train on {escape(alone)} alone, name that folder as the source; "
            f"then classify the others: cvtrain predict {shell_quote(others)}"
        )
    else:
        advice = _advice_for_flat(listings[folder])
    raise DataError(
        f"{escape(root / folder)}: {len(listings[folder].images):,} images but no class "
        "folders, so they have no labels",
        advice,
    )


def _advice_for_flat(listing: Listing) -> str:
    advice = "Make one folder per class, or list path,label in a CSV manifest."
    if pattern := suggest_pattern(listing.images):
        advice += (
            f" Or take the label from the names: --set 'data.label_pattern={pattern}'; "
            f"of init and data split: --label '{pattern}'"
        )
    return advice


def _read_classes(root: Path, folder: str, listing: Listing, left_out: LeftOut) -> Classes:
    here = escape(root / folder)
    if listing.images:
        beside = [join_path(folder, name) for name in listing.images]
        left_out.setdefault("images beside the class folders", []).extend(beside)
    classes: Classes = {}
    folders: dict[str, str] = {}
    for name in listing.folders:
        label = nfc(name)
        path = join_path(folder, name)
        if not name.isprintable():
            raise DataError(
                f"{escape(root / path)}: the name holds {_unprintable(name)}",
                "Rename the folder: its name is the name of a class.",
            )
        if label in folders:
            pair = ascii(folders[label]), ascii(name)
            raise DataError(
                f"{here}: {pair[0]} and {pair[1]} are one name in two Unicode forms",
                "Put their images into one folder.",
            )
        images = list(images_below(root, path, left_out))
        if images or not _holds_output(path, left_out):
            folders[label] = name
            classes[label] = images
    return classes


def _holds_output(folder: str, left_out: LeftOut) -> bool:
    """Whether a folder is or contains an output of cvtrain, so it is not an empty class."""
    outputs = left_out.get(OUTPUTS, [])
    return any(f"{path}/".startswith(f"{folder}/") for path in outputs)


def _read_repeated_folders(root: Path, classes: Classes, notes: list[str]) -> dict[str, Classes]:
    """{split: classes}, where all class folders may contain the same folders.

    These may be splits, parts of a class (days, cameras), or the classes themselves; DataError if
    this is not clear.
    """
    inner = {label: Counter(_inner(path) for path in paths) for label, paths in classes.items()}
    inner = {label: folders for label, folders in inner.items() if folders}
    in_classes = Counter(name for folders in inner.values() for name in folders if name)
    repeated = {name for name, count in in_classes.items() if count > 1}
    num_repeated = sum(in_classes[name] for name in repeated)
    are_repeated = len(repeated) > 1 and 2 * num_repeated >= in_classes.total()
    if len(inner) < 2 or any("" in folders for folders in inner.values()) or not are_repeated:
        return {"": classes}
    names = sorted(repeated)
    if all(name.lower() in SPLIT_NAMES for name in in_classes):
        notes.append(f"read as splits of each class: the folders {join_names(names)}")
        return _split_inside(classes)
    if all(map(_is_part, names)) and not any(map(_is_part, inner)):
        notes.append(
            f"the classes are {join_names(inner)}, and the same folders in them "
            f"({join_names(names)}) are parts of them. {describe_inner_splits()}"
        )
        return {"": classes}
    raise DataError(
        f"{escape(root)}: {join_names(inner)} have the same folders in them "
        f"({join_names(names)}), so it is not clear which are the classes",
        f"{describe_inner_splits()}; or name one of them: {escape(root / next(iter(inner)))}. "
        f"{describe_outer_splits()}",
    )


def _inner(path: str) -> str:
    """Name of the folder in the class folder; empty for an image directly in the class folder."""
    parts = path.split("/")
    return parts[1] if len(parts) > 2 else ""


def _is_part(name: str) -> bool:
    """Whether a name is probably a day, a camera or a patient: day1, 2026-05-01."""
    has_number = any(map(str.isdigit, name)) and not name.isdigit()
    return has_number and not name.lower().startswith(("class", "label"))


def _split_inside(classes: Classes) -> dict[str, Classes]:
    found: dict[str, Classes] = {}
    for label, paths in classes.items():
        for path in paths:
            split = SPLIT_NAMES[_inner(path).lower()]
            found.setdefault(split, {}).setdefault(label, []).append(path)
    return found


def _unprintable(name: str) -> str:
    """Description of the first unprintable character of a name."""
    character = next(c for c in name if not c.isprintable())
    if "\udc80" <= character <= "\udcff":  # surrogates, by which Python represents such bytes
        return "bytes that are not UTF-8"
    return f"the invisible character U+{ord(character):04X}"


def nfc(name: str) -> str:
    """`name` in the Unicode normal form NFC, in which equal names are equal strings."""
    return unicodedata.normalize("NFC", name)

"""Find the folders of a source that are splits, by their names, such as `train` and `seg_test`.

Unambiguous names are accepted, and a note says how they are read. Folders that could be splits or
classes are refused; the advice shows how to choose either.
"""

import difflib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cvtrain.data.manifest import SPLIT_NAMES
from cvtrain.data.scan import (
    BROKEN_LINKS,
    LINKS,
    LeftOut,
    Listing,
    join_names,
    join_path,
    list_folder,
)
from cvtrain.errors import DataError
from cvtrain.system.text import escape

BESIDE_SPLITS = "folders beside the splits (predict can classify what has no labels)"
OUTER = "^([^/]+)/"
INNER = "^[^/]+/([^/]+)/"
"""Label patterns for classes that are the folders of the source, or those one level deeper."""

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_a-zA-Z]+")
_SPLIT_OF_WORD = SPLIT_NAMES | {
    f"{name}{what}": split
    for name, split in SPLIT_NAMES.items()
    for what in ("set", "data", "images", "imgs")
}
_SURELY_MISSPELT = 0.85  # similarity; words such as vest and brain are below


@dataclass(frozen=True)
class _Candidate:
    """A folder whose name contains that of a split.

    Attributes:
        split: train, validation or test.
        rest: The other words of its name; empty for the plain name of a split.
        folders: Names of the folders in it.
    """

    split: str
    rest: tuple[str, ...]
    folders: frozenset[str]


def find_splits(
    root: Path, top: Listing, left_out: LeftOut, notes: list[str], *, by_pattern: bool
) -> dict[str, str]:
    """{folder: split} of a source; empty if its folders are classes.

    Args:
        root: The source.
        top: Its content, from `list_folder`.
        left_out: Its files that are left out; links to splits are followed, and removed there.
        notes: List to which remarks on the interpretation of names are added.
        by_pattern: Whether a label pattern finds the classes, so splits need no class folders.

    Raises:
        DataError: Names are misspelt, mean the same split, or may be splits or classes; or a link
            with the name of a split is broken or leads back to the source.
    """
    _check_links(root, left_out)
    candidates = {
        name: candidate
        for name in (*top.folders, *top.links)
        if (candidate := _candidate(root, name))
    }
    plain = {name: c.split for name, c in candidates.items() if not c.rest}
    _check_spelling(root, top.folders, plain)
    # A class may be called "train" as well, as in bus/ car/ train/; then it contains images.
    has_classes = any(candidates[name].folders for name in plain)
    if plain and (has_classes or by_pattern or len(plain) == len(top.folders) + len(top.links)):
        check_distinct_splits(root, plain)
        splits = plain | ({} if by_pattern else _by_words(candidates, plain))
    else:
        splits = {} if by_pattern else _by_words(candidates, {})
        if not splits and not by_pattern:
            _check_unambiguous(root, top, candidates)
    if not splits:
        return {}
    _follow_links(root, [name for name in splits if name in top.links], left_out)
    if others := [name for name in top.folders if name not in splits]:
        left_out.setdefault(BESIDE_SPLITS, []).extend(others)
    deeper = splits if by_pattern else _deeper(root, splits)
    if read := [f"{f}/ as {s}" for f, s in deeper.items() if f.lower() not in SPLIT_NAMES]:
        notes.append(f"read from the names of the folders: {', '.join(map(escape, read))}")
    return deeper


def _candidate(root: Path, name: str) -> _Candidate | None:
    words = [word.lower() for word in _WORD.findall(name)]
    if name.lower() in SPLIT_NAMES:
        split, rest = SPLIT_NAMES[name.lower()], ()
    else:
        found = {_SPLIT_OF_WORD[word] for word in words if word in _SPLIT_OF_WORD}
        if len(found) != 1:
            return None
        (split,) = found
        # Not empty, because "train-" is not the plain name.
        rest = (*(word for word in words if word not in _SPLIT_OF_WORD), "")
    return _Candidate(split, rest, frozenset(list_folder(root, name, {}).folders))


def _by_words(candidates: Mapping[str, _Candidate], plain: Mapping[str, str]) -> dict[str, str]:
    """{folder: split} if there is one train folder, and others share its other words or folders."""
    of_split: dict[str, list[str]] = {}
    for name, candidate in candidates.items():
        of_split.setdefault(candidate.split, []).append(name)
    trains = [n for n, split in plain.items() if split == "train"] or of_split.get("train", [])
    if len(trains) != 1:
        return {}
    train = candidates[trains[0]]
    found = {}
    for split in ("validation", "test"):
        names = of_split.get(split, [])
        if split not in plain.values() and len(names) == 1:
            other = candidates[names[0]]
            same_words = other.rest == train.rest and bool(other.folders)
            if train.folders and (same_words or train.folders & other.folders):
                found[names[0]] = split
    return {trains[0]: "train"} | found if found else {}


def _check_unambiguous(root: Path, top: Listing, candidates: Mapping[str, _Candidate]) -> None:
    """Raise DataError for folders that look like several splits and may not be classes."""
    splits = {candidate.split for candidate in candidates.values()}
    if "train" not in splits or len(splits) < 2:
        return
    rests = Counter(candidate.rest for candidate in candidates.values())
    inner = Counter(name for candidate in candidates.values() for name in candidate.folders)
    are_all = len(candidates) == len(top.folders) + len(top.links)
    if not are_all and max(rests.values()) < 2 and max(inner.values(), default=0) < 2:
        return
    train = next(name for name, c in candidates.items() if c.split == "train")
    raise DataError(
        f"{escape(root)}: {join_names(candidates)} are named like splits "
        f"({', '.join(sorted(splits))}), so they cannot be the classes",
        f"Rename them to train/, validation/ and test/ with one folder per class in each, or name "
        f"the one to train on: {escape(root / train)}. Labels in a table can be read from a CSV "
        f"manifest. {describe_outer_splits()}",
    )


def describe_outer_splits() -> str:
    """Advice for a source whose folders are the classes after all."""
    return f"If these folders are the classes: {_by_pattern(OUTER)}"


def describe_inner_splits() -> str:
    """Advice for a source whose classes are one level deeper."""
    return f"If the folders in them are the classes: {_by_pattern(INNER)}"


def _by_pattern(pattern: str) -> str:
    return f"--set 'data.label_pattern={pattern}' (of init and data split: --label '{pattern}')"


def _check_spelling(root: Path, folders: Sequence[str], plain: Mapping[str, str]) -> None:
    """Raise DataError for misspelt splits; classes may be called vest and brain."""
    near = {}
    for name in folders:
        matches = difflib.get_close_matches(name.lower(), SPLIT_NAMES, n=1, cutoff=0.75)
        if name not in plain and matches and list_folder(root, name, {}).folders:
            near[name] = matches[0]
    # There must be another split: a plain one, or one that is surely misspelt.
    splits = {SPLIT_NAMES[match] for match in near.values()}
    are_all = 1 < len(near) == len(folders) == len(splits)
    sure = [
        name
        for name, match in near.items()
        if difflib.SequenceMatcher(None, name.lower(), match).ratio() >= _SURELY_MISSPELT
        and name != f"{match}s"
    ]
    if near and (plain or (are_all and sure)):
        name, match = next(iter(near.items()))
        raise DataError(
            f"{escape(root / name)}: a folder of folders whose name is not that of a split",
            f"Did you mean {match}/? Rename it or move it elsewhere.",
        )


def check_distinct_splits(root: Path, splits: Mapping[str, str]) -> None:
    """Raise DataError if two folders of {folder: split} are of one split."""
    twice = [split for split, count in Counter(splits.values()).items() if count > 1]
    if twice:
        same = ", ".join(f"{name}/" for name, split in splits.items() if split in twice)
        raise DataError(
            f"{escape(root)}: {escape(same)} mean the same split",
            "Put their images into one.",
        )


def _check_links(root: Path, left_out: Mapping[str, list[str]]) -> None:
    for name in left_out.get(BROKEN_LINKS, []):
        if name.lower() in SPLIT_NAMES:
            raise DataError(
                f"{escape(root / name)}: a link to a folder that is not there",
                "Restore the folder, or remove the link: then the split is drawn from train.",
            )


def _follow_links(root: Path, links: Iterable[str], left_out: LeftOut) -> None:
    """Let splits be links to folders elsewhere."""
    for name in links:
        target, source = Path(os.path.realpath(root / name)), Path(os.path.realpath(root))
        if source.is_relative_to(target):
            raise DataError(
                f"{escape(root / name)}: a link that leads back to {escape(target)}",
                "Let it lead to a folder of class folders, or remove it.",
            )
        left_out[LINKS].remove(name)


def _deeper(root: Path, splits: Mapping[str, str]) -> dict[str, str]:
    """Descend into single folders, such as train/train/ of archives and images/ of tools."""
    found = dict(splits)
    while True:
        only = {name: _only_folder(root, name) for name in found}
        if all(only.values()) and all(
            list_folder(root, join_path(name, inner), {}).folders for name, inner in only.items()
        ):
            steps = only
        else:
            steps = {n: i for n, i in only.items() if i.lower() == n.rpartition("/")[2].lower()}
        if not steps:
            return found
        found = {
            join_path(name, steps[name]) if name in steps else name: split
            for name, split in found.items()
        }


def _only_folder(root: Path, folder: str) -> str:
    """Name of the only folder in a folder without images; empty for other folders."""
    listing = list_folder(root, folder, {})
    is_one = len(listing.folders) == 1 and not listing.images
    return listing.folders[0] if is_one else ""

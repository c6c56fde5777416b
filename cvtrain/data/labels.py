"""Find labels and groups in file names by a regular expression.

The pattern of either is searched in the path below the source, and its one group is the result:
`(cat|dog)\\.` finds the label of `train/cat.12.jpg`, `^(p\\d+)_` the patient of `p07_left.png`.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from cvtrain.data.scan import LeftOut, images_below, join_names
from cvtrain.errors import ConfigError, DataError
from cvtrain.sections.base import compile_pattern
from cvtrain.system.text import escape

_NEARLY_ALL = 0.9
# A name that ends before a number, with any separators between its words.
_NAMED = r"([^\d/]*[^\d\s(/._-])[\s(._-]*\d[^/]*$"
_SUGGESTIONS = (
    rf"(?:^|/){_NAMED}",  # cat.0.jpg, cat12.jpg, great_dane_7.jpg
    r"\d[\s._-]+([^\W\d_][^\d/]*)\.\w+$",  # 0001_cat.jpg
    rf"(?:^|/)[^\W\d_]+[\s._-]+{_NAMED}",  # photo_cat_12.jpg
)
# Generic prefixes of the names of photographs.
_OF_ANYTHING = re.compile(
    r"_?(?:P|(?i:IMG[EP]?|MVIMG|DSC[FN]?|PXL|GOPR|DJI|VID|WhatsApp Image|image|photo|picture|pic"
    r"|scan|screen ?shot))(?![^\W\d_])"
)


def check_patterns(patterns: Mapping[str, str | None]) -> None:
    """Raise ConfigError for the first pattern, by its option, that `compile_pattern` refuses."""
    for option, pattern in patterns.items():
        try:
            if pattern is not None:
                compile_pattern(pattern)
        except ValueError as error:
            raise ConfigError(f"{option} {escape(pattern)}: {error}") from error


def label_in_name(path: str, pattern: re.Pattern[str]) -> str:
    """The group of `pattern` in `path`, in the Unicode normal form NFC; empty for no match."""
    match = pattern.search(path)
    found = unicodedata.normalize("NFC", match[1] or "") if match else ""
    return found if found.isprintable() else ""


def read_by_name(
    root: Path, folders: Mapping[str, str], pattern: re.Pattern[str], left_out: LeftOut
) -> dict[str, dict[str, list[str]]]:
    """{split: {label: paths}} of images with the label in their names.

    Args:
        root: Folder that paths are relative to.
        folders: {folder below `root`: split}.
        pattern: Pattern of the label in a path.
        left_out: Mapping to which files that are left out are added, by reason; also images that
            the pattern does not match.

    Raises:
        DataError: The pattern matches no image, or a folder cannot be read.
    """
    found: dict[str, dict[str, list[str]]] = {}
    others = []
    for folder, split in folders.items():
        classes = found.setdefault(split, {})
        for path in images_below(root, folder, left_out):
            if label := label_in_name(path, pattern):
                classes.setdefault(label, []).append(path)
            else:
                others.append(path)
    if others and not any(found.values()):
        suggestion = suggest_pattern(others)
        raise DataError(
            f"{escape(root)}: the label pattern {escape(pattern.pattern)} matches none of "
            f"{len(others):,} images, such as {join_names(others[:1])}",
            f"Did you mean {suggestion}?"
            if suggestion
            else "It is searched in the path below the source; its group is the label.",
        )
    if others:
        left_out.setdefault("images that the label pattern does not match", []).extend(others)
    return found


def suggest_pattern(paths: Sequence[str]) -> str:
    """A pattern that finds labels in nearly all paths, each in several; empty if there is none.

    Generic names of cameras, such as IMG_1234, are not labels.
    """
    for pattern in map(re.compile, _SUGGESTIONS):
        counts = Counter(label_in_name(path, pattern) for path in paths)
        labels = {
            label: count
            for label, count in counts.items()
            if label and count > 1 and not _OF_ANYTHING.match(label)
        }
        if len(labels) > 1 and sum(labels.values()) >= _NEARLY_ALL * len(paths):
            return pattern.pattern
    return ""

"""Resolve the paths of a manifest to files.

A path that differs only in spelling (backslashes, upper case, percent-encoding, quotes, Unicode
normal form) is resolved to the one file that matches. Another folder or suffix is only proposed.
"""

import itertools
import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from cvtrain.data.scan import IMAGE_EXTENSIONS
from cvtrain.system.text import escape

_SAMPLE = 20
_PROBES = 3
_LARGE_SAMPLE = 300
_NEARLY_ALL = 0.8
_MOST_FOLDERS = 300
_DEEPEST = 3
ANY_SUFFIX = ".*"
"""As `PathRule.suffix`: the suffix of the only image with this name."""

_BLANKS = " '\"`"
_ELSEWHERE = (
    (re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://"), "the paths are URLs, which are not downloaded"),
    (re.compile(r"[A-Za-z]:[\\/]|\\\\"), "the paths are absolute paths of Windows"),
    (re.compile(r"~"), "only a shell expands ~"),
    (re.compile(r"[\\/]"), "the paths are absolute"),
    (re.compile(r".*\\"), "the paths have backslashes, as on Windows"),
)


class PathRule(NamedTuple):
    """Conversion of a path in a manifest to the path of a file below the folder of the manifest.

    Attributes:
        folder: Folder that the path is relative to, or several folders to search.
        strip: Prefix to remove.
        suffix: Suffix to add, in place of the suffix of another image format; see `ANY_SUFFIX`.
    """

    folder: str | tuple[str, ...] = ""
    strip: str = ""
    suffix: str = ""

    def paths(self, value: str) -> list[str]:
        """The path in each folder, with an unchanged suffix."""
        plain, start = value.replace("\\", "/"), self.strip.replace("\\", "/")
        if start and plain.startswith(start):
            value = plain.removeprefix(start).lstrip("/")
        folders = self.folder if isinstance(self.folder, tuple) else (self.folder,)
        return [posixpath.join(folder, value) for folder in folders]


@dataclass(frozen=True)
class _Listing:
    """The content of a folder by normalized name: names, and suffixes of images by stem."""

    names: dict[str, list[str]]
    suffixes: dict[str, list[str]]


@dataclass
class Files:
    """The files below `root`, the folder of a manifest."""

    root: Path
    _listings: dict[str, _Listing] = field(default_factory=dict)

    def find(self, value: str, rule: PathRule) -> str:
        """Path of the file that `value` names, in the spelling of the file; empty if none."""
        paths = self.paths(value, rule)
        exact = next((path for path in paths if self._has(path)), "")
        if exact:
            return exact
        return next((path for path in map(self.spelled, paths) if self._has(path)), "")

    def paths(self, value: str, rule: PathRule) -> list[str]:
        """Possible paths of the file that `value` names, the likeliest first."""
        paths = []
        for path in rule.paths(value):
            stem, own = _split_suffix(path)
            suffixes = self.suffixes(path) if rule.suffix == ANY_SUFFIX else [rule.suffix]
            if own or not rule.suffix or len(suffixes) != 1:
                paths.append(path)
            if rule.suffix and len(suffixes) == 1:
                paths.append(stem + suffixes[0])
        return paths

    def suffixes(self, path: str) -> list[str]:
        """The suffixes of the images with the same name except for the suffix."""
        folder, name = posixpath.split(path.replace("\\", "/"))
        if folder and not (folder := self.spelled(folder)):
            return []
        return self.listing(folder).suffixes.get(_shape(_split_suffix(name)[0]), [])

    def are_inside(self, values: Sequence[str], rule: PathRule) -> bool:
        """Whether the first of these files that exists is below the root."""
        first = next(filter(None, (self.find(value, rule) for value in values)), "..")
        root = os.path.realpath(self.root)
        return os.path.realpath(self.root / first).startswith(f"{root}{os.sep}")

    def spelled(self, path: str) -> str:
        """The only file or folder whose path differs in spelling; empty if none or several."""
        here = ""
        for part in _parts(path):
            whole = posixpath.join(here, part)
            if part not in ("/", ".", "..") and not os.path.lexists(self.root / whole):
                names = self.listing(here).names.get(_shape(part), [])
                if len(names) != 1:
                    return ""
                whole = posixpath.join(here, names[0])
            here = whole
        return here

    def listing(self, folder: str) -> _Listing:
        """The content of a folder below the root; empty if the folder does not exist."""
        if folder not in self._listings:
            self._listings[folder] = listing = _Listing({}, {})
            try:
                names = sorted(os.listdir(self.root / folder))  # noqa: PTH208 - names, not paths
            except (OSError, ValueError):
                names = []
            for name in names:
                listing.names.setdefault(_shape(name), []).append(name)
                stem, suffix = _split_suffix(name)
                if suffix:
                    listing.suffixes.setdefault(_shape(stem), []).append(suffix)
        return self._listings[folder]

    def _has(self, path: str) -> bool:
        try:
            return bool(path) and (self.root / path).is_file()
        except (OSError, ValueError):  # too long, not permitted, or not a path
            return False


def find_path_rules(files: Files, values: Sequence[str]) -> list[PathRule]:
    """Rules that find the files of nearly all values; several if names occur in several folders.

    The folder of the manifest and those below are searched; if they contain no images, also those
    beside and above.
    """
    sample = _spread(sorted(set(values)), _SAMPLE)
    if not sample:
        return []
    if _are_nearly_all(files, sample, PathRule()):
        return [PathRule()]
    home = [os.path.expanduser("~")] if values[0].startswith("~/") else []  # noqa: PTH111
    below = ["", *_folders_below(files.root, "", _DEEPEST)]
    beside = []
    if not any(files.listing(folder).suffixes for folder in below):
        beside = ["..", *_folders_below(files.root, "..", _DEEPEST - 1), "../.."]
    for folders in (below, [*beside, *home]):
        if rules := _rules_in(files, folders, sample):
            return rules
        if rule := _rule_for_several(files, folders, _spread(sorted(set(values)), _LARGE_SAMPLE)):
            return [rule]
    return []


def _rules_in(files: Files, folders: Iterable[str], sample: Sequence[str]) -> list[PathRule]:
    rules: dict[str, PathRule] = {}
    for folder in folders:
        for strip in _beginnings(sample):
            for suffix in _suffixes(files, PathRule(folder, strip), sample):
                rule = PathRule(folder, strip, suffix)
                if found := _are_nearly_all(files, sample, rule):
                    rules.setdefault(os.path.realpath(files.root / found), rule)
    return list(rules.values())


def _rule_for_several(
    files: Files, folders: Sequence[str], sample: Sequence[str]
) -> PathRule | None:
    """A rule for files in several folders, or None."""
    folders = [folder for folder in folders if files.listing(folder).suffixes]
    for strip, suffix in itertools.product(_beginnings(sample), ("", ANY_SUFFIX)):
        rule = PathRule(tuple(folders), strip, suffix)
        if not _are_nearly_all(files, _spread(sample, _SAMPLE), rule):
            continue
        used: dict[str, None] = {}
        suffixes = set()
        for value in sample:
            for folder in folders:
                if path := files.find(value, PathRule(folder, strip, suffix)):
                    used[folder] = None
                    suffixes.add(_split_suffix(path)[1])
                    break
        return PathRule(
            tuple(used), strip, suffixes.pop() if suffix and len(suffixes) == 1 else suffix
        )
    return None


def _are_nearly_all(files: Files, sample: Sequence[str], rule: PathRule) -> str:
    """The first file of the sample if nearly all are found; else empty."""
    found = [path for value in sample if (path := files.find(value, rule))]
    return found[0] if found and len(found) >= _NEARLY_ALL * len(sample) else ""


def explain(value: str, rule: PathRule | None) -> list[str]:
    """Reasons why a path in a manifest does not name its file.

    Args:
        value: The path.
        rule: The rule that finds the file, or None.
    """
    reasons = [what for pattern, what in _ELSEWHERE if pattern.match(value)][:1]
    if rule is None:
        return reasons
    if rule.strip and not reasons:
        reasons.append(f"there is no {escape(rule.strip)} that the paths begin with")
    if rule.folder:
        folders = rule.folder if isinstance(rule.folder, tuple) else (rule.folder,)
        reasons.append(f"the files lie in {' and '.join(map(escape, folders))}")
    if rule.suffix:
        own = _split_suffix(value)[1]
        have = f"the paths end in {own}" if own else "the paths have no suffix"
        theirs = "several suffixes" if rule.suffix == ANY_SUFFIX else rule.suffix
        reasons.append(f"{have}, the files end in {escape(theirs)}")
    return reasons


def beginning_of(values: Sequence[str]) -> str:
    """The folders that all values begin with; may be empty."""
    return _beginnings(values)[-1]


def same_number(files: Files, value: str) -> str:
    """A file whose name is the same number: `0007.jpg` for `7` and `7.0`; empty if none."""
    given = _split_suffix(value)[0]
    stem = given.removesuffix(".0")
    if not (stem.isascii() and stem.isdigit()):
        return ""
    for folder in ["", *_folders_below(files.root, "", _DEEPEST)]:
        for name, suffixes in files.listing(folder).suffixes.items():
            if name != given and name.isdigit() and name.lstrip("0") == stem.lstrip("0"):
                return posixpath.join(folder, name + suffixes[0])
    return ""


def has_image_suffix(name: str) -> bool:
    """Whether a name has the suffix of an image."""
    return _split_suffix(name)[1] != ""


def spelling_of(value: str, path: str) -> str:
    """The difference in spelling between a value and the path of its file."""
    if "\\" in value and "\\" not in path:
        return "backslashes"
    if unicodedata.normalize("NFC", value) == unicodedata.normalize("NFC", path):
        return "another form of Unicode"
    if value.casefold() == path.casefold():
        return "upper or lower case"
    if unquote(value) != value or unquote(path) != path:
        return "percent-encoding"
    return "quotes, spaces or case"


def _suffixes(files: Files, rule: PathRule, values: Sequence[str]) -> list[str]:
    """Possible values of `PathRule.suffix`, the simplest first."""
    if any(files.find(value, rule) for value in values[:_PROBES]):
        return [""]
    if not any(files.suffixes(*rule.paths(value)) for value in values[:_PROBES]):
        return []
    found = {suffix for value in values for suffix in files.suffixes(*rule.paths(value))}
    return [*sorted(found), ANY_SUFFIX]


def _folders_below(root: Path, top: str, depth: int) -> Iterator[str]:
    """Folders below `top`, breadth first, up to a limit."""
    waiting, num_left = [(top, depth)], _MOST_FOLDERS
    while waiting and num_left > 0:
        above, depth = waiting.pop(0)
        try:
            with os.scandir(root / above) as entries:
                names = sorted(e.name for e in entries if e.is_dir() and e.name[0] != ".")
        except OSError:
            continue
        for name in names[:num_left]:
            num_left -= 1
            folder = posixpath.join(above, name)
            yield folder
            if depth > 1:
                waiting.append((folder, depth - 1))


def _beginnings(values: Sequence[str]) -> list[str]:
    """The common prefixes of all values: none, one folder, two folders, ..."""
    split = [value.replace("\\", "/").split("/")[:-1] for value in values]
    columns = itertools.takewhile(lambda parts: len({*parts}) == 1, zip(*split, strict=False))
    common = [parts[0] for parts in columns]
    return ["", *("/".join(common[: n + 1]) + "/" for n in range(len(common)))]


def _spread(values: Sequence[str], most: int) -> Sequence[str]:
    """At most `most` of the values, evenly spaced."""
    return [values[i * len(values) // most] for i in range(most)] if len(values) > most else values


def _parts(path: str) -> list[str]:
    """The parts of a path; the first is `/` for an absolute path."""
    path = path.strip(_BLANKS).replace("\\", "/")
    if "\0" in path:
        return []
    return ["/"] * path.startswith("/") + [part for part in path.split("/") if part]


def _split_suffix(path: str) -> tuple[str, str]:
    """`a/b.JPG` -> (`a/b`, `.JPG`); the suffix is empty if it is not that of an image."""
    stem, dot, extension = path.rpartition(".")
    is_suffix = stem and not stem.endswith(("/", "\\")) and extension.lower() in IMAGE_EXTENSIONS
    return (stem, dot + extension) if is_suffix else (path, "")


def _shape(name: str) -> str:
    """Normalize a name, so that names that differ only in spelling are equal."""
    return unicodedata.normalize("NFC", unquote(name)).casefold().strip(_BLANKS)

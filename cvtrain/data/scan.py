"""Folders -> image files: what counts as an image, what is left out and why, in natural order.

Only regular files count, and links to them. Links to folders are not followed: they may lead in
circles, and show an image as often as there are ways to it. Files are judged by name here; what
they contain is for `cvtrain.data.check`.
"""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cvtrain.errors import DataError
from cvtrain.files import printable

_READABLE = {"jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif", "webp"}
# Not readable, but surely meant as images: the check names them, which beats leaving them out.
_CONVERTIBLE = {"tif", "tiff", "avif", "heic", "heif", "jxl", "jp2"}
_IMAGES = _READABLE | _CONVERTIBLE

_SYSTEM = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"}


@dataclass
class Listing:
    """One folder: names of its sub-folders and of its images, both in natural order."""

    folders: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """One thing that was asked for: an image file, or why there is none.

    Attributes:
        path: of the file, as the person would write it.
        problem: empty for an image.
    """

    path: str
    problem: str = ""


def natural_key(name: str) -> tuple:
    """Sorts `1, 9, 10` and `cat, Dog` as people do; distinct names get distinct keys."""
    parts = re.split(r"([0-9]+)", name.casefold())
    digits = [part.lstrip("0") for part in parts[1::2]]
    # As text of known length, because Python refuses to convert numbers of thousands of digits.
    parts[1::2] = [(len(number), number) for number in digits]
    return parts, name


def list_folder(folder: Path, ignored: Counter[str]) -> Listing:
    """What `folder` itself holds; what it leaves out is counted in `ignored` by reason.

    Raises:
        DataError: the folder cannot be read.
    """
    listing = Listing()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if reason := _reason_to_ignore(entry):
                    ignored[reason] += 1
                elif entry.is_dir(follow_symlinks=False):
                    listing.folders.append(entry.name)
                else:
                    listing.images.append(entry.name)
    except OSError as error:
        raise DataError(
            f"{printable(folder)}: cannot be read: {(error.strerror or str(error)).lower()}",
            "Check the folder and its permissions.",
        ) from error
    listing.folders.sort(key=natural_key)
    listing.images.sort(key=natural_key)
    return listing


def images_below(root: Path, folder: str, ignored: Counter[str]) -> Iterator[str]:
    """Images in `folder` and all folders below it, as POSIX paths relative to `root`.

    Memory holds one folder's names at a time. What is left out is counted in `ignored`.

    Raises:
        DataError: a folder cannot be read.
    """
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        listing = list_folder(root / folder, ignored)
        yield from (_joined(folder, name) for name in listing.images)
        waiting.extend(_joined(folder, name) for name in reversed(listing.folders))


def find_images(paths: Iterable[str]) -> Iterator[Found]:
    """Image files among files, folders (with all below them) and globs, one at a time.

    Files that are named one by one count whatever their name is. What is missing, empty or
    unreadable is reported in its place and does not stop the others.
    """
    for path in map(str, paths):
        if os.path.lexists(path):
            yield from _find_at(path)
        elif not glob.has_magic(path):
            yield Found(path, "no such file or folder")
        elif matches := _matches(path):
            for match in matches:
                yield from _find_at(match)
        else:
            yield Found(path, "matches no file")


def _matches(pattern: str) -> list[str]:
    matches = sorted(glob.glob(pattern, recursive=True), key=natural_key)  # noqa: PTH207 - may be absolute
    if "**" in pattern:  # it matches folders and what they hold, which would count twice
        matches = [match for match in matches if not os.path.isdir(match)]  # noqa: PTH112
    return matches


def _find_at(path: str) -> Iterator[Found]:
    if not os.path.isdir(path):  # noqa: PTH112 - keeps the path as the person wrote it
        yield Found(path)
        return
    ignored = Counter()
    empty = True
    try:
        for image in images_below(Path(path), "", ignored):
            empty = False
            yield Found(os.path.join(path, image))  # noqa: PTH118
    except DataError as error:
        yield Found(path, error.message)
        return
    if empty:
        yield Found(path, f"holds no images{describe_ignored(ignored)}")


def describe_ignored(ignored: Counter[str]) -> str:
    """` (ignored: 2 hidden, 1 .txt file)`, or nothing."""
    listed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(ignored.items()))
    return f" (ignored: {listed})" if listed else ""


def listed(names: Iterable[str], most: int = 10) -> str:
    """`cat, dog and 3 more`: the first few names, printable."""
    names = list(names)
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(printable(name) for name in names[:most]) + more


def _reason_to_ignore(entry: os.DirEntry) -> str:
    """Why an entry counts neither as a folder nor as an image; empty when it does."""
    name = entry.name
    if name.startswith("."):
        return "hidden"
    if name.casefold() in _SYSTEM:
        return "system files"
    if entry.is_dir(follow_symlinks=False):
        return ""
    if entry.is_symlink() and (reason := _reason_to_ignore_link(entry)):
        return reason
    if not entry.is_file():
        return "special files"
    _, dot, extension = name.lower().rpartition(".")
    if not dot:
        return "files without an extension"
    return "" if extension in _IMAGES else f".{printable(extension)} files"


def _reason_to_ignore_link(link: os.DirEntry) -> str:
    try:
        if link.is_dir():
            return "links to folders"
        return "" if Path(link.path).exists() else "broken links"
    except OSError:  # a link that leads to itself
        return "broken links"


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name

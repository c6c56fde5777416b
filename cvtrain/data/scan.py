"""Find image files in folders, in natural order, and record the files that are left out.

Only regular files and links to them are used. Links to folders are not followed, because they may
form cycles and repeat images. A file is an image by its suffix, or by its first bytes if the suffix
is unknown; `cvtrain.data.check` finds damaged files. Every file and folder that is left out is
recorded with the reason.
"""

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cvtrain.errors import DataError
from cvtrain.images.file_types import HEAD_BYTES, is_photograph
from cvtrain.system.outputs import FETCHED_SET, read_mark
from cvtrain.system.text import escape

LeftOut = dict[str, list[str]]
"""Reason -> paths, below the source, of the files and folders that are left out."""

LINKS = "links to folders (a manifest can list their images)"
BROKEN_LINKS = "broken links"
OUTPUTS = "folders that cvtrain wrote"
OTHER_CLASSES = "images of other classes than data.classes"
BEYOND_SUBSET = "training images beyond data.train_per_class"
_ORDINARY = {
    *("hidden files", "hidden folders", "system files", "system folders"),
    *(OTHER_CLASSES, BEYOND_SUBSET),
}

IMAGE_EXTENSIONS = {
    *("jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif", "webp"),
    # Images that are not readable: the check reports them, so they are not left out silently.
    *("tif", "tiff", "avif", "heic", "heif", "jxl", "jp2", "ppm", "pgm", "pbm", "pnm", "tga"),
    *("dcm", "dicom"),
}
"""Suffixes of images, in lower case and without the dot."""
# Cameras write a raw file beside its JPEG; its first bytes are those of a TIFF.
_RAW = {"arw", "cr2", "cr3", "dng", "nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "srw"}

_SYSTEM = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"}
_MOST_NAMED = 3


@dataclass
class Listing:
    """One folder: names of its sub-folders, links to folders and images, each in natural order."""

    folders: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """An image file, or the problem of a path of the command line.

    Attributes:
        path: Path of the file, as the user would write it.
        problem: Description of the problem; empty for an image.
    """

    path: str
    problem: str = ""


def natural_key(name: str) -> tuple:
    """Key of natural order, `1, 9, 10` and `cat, Dog`; distinct names have distinct keys."""
    parts = re.split(r"([0-9]+)", name.casefold())
    digits = [part.lstrip("0") for part in parts[1::2]]
    # As strings of known length, because Python does not convert numbers of thousands of digits.
    parts[1::2] = [(len(number), number) for number in digits]
    return parts, name


def list_folder(root: Path, folder: str, left_out: LeftOut) -> Listing:
    """List `root/folder` itself; record files that are left out in `left_out` by reason.

    A folder below `root` that cvtrain wrote is left out as a whole. Links to folders are recorded
    as left out, too; a caller that follows one has to remove it there.

    Raises:
        DataError: The folder cannot be read.
    """
    listing = Listing()
    if folder and read_mark(root / folder):
        left_out.setdefault(OUTPUTS, []).append(folder)
        return listing
    try:
        with os.scandir(root / folder) as found:
            for entry in sorted(found, key=lambda entry: natural_key(entry.name)):
                if entry.name == FETCHED_SET:
                    continue  # the mark of cvtrain in a source
                if reason := _reason_to_ignore(entry):
                    left_out.setdefault(reason, []).append(join_path(folder, entry.name))
                    if reason == LINKS:
                        listing.links.append(entry.name)
                elif entry.is_dir(follow_symlinks=False):
                    listing.folders.append(entry.name)
                else:
                    listing.images.append(entry.name)
    except OSError as error:
        raise DataError(
            f"{escape(root / folder)}: cannot be read: {(error.strerror or str(error)).lower()}",
            "Check the folder and its permissions.",
        ) from error
    return listing


def images_below(root: Path, folder: str, left_out: LeftOut) -> Iterator[str]:
    """Images in `folder` and all folders below it, as POSIX paths relative to `root`.

    Memory holds the names of one folder at a time. Files that are left out are recorded in
    `left_out`.

    Raises:
        DataError: A folder cannot be read.
    """
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        listing = list_folder(root, folder, left_out)
        yield from (join_path(folder, name) for name in listing.images)
        waiting.extend(join_path(folder, name) for name in reversed(listing.folders))


def find_images(paths: Iterable[str], left_out: LeftOut) -> Iterator[Found]:
    """Yield the image files of files, folders (recursively) and glob patterns.

    Files that are named explicitly are images with any suffix. A missing, empty or unreadable path
    yields a problem and does not stop the iteration. Files in folders that are left out are
    recorded in `left_out`.
    """
    for path in map(str, paths):
        if os.path.lexists(path):
            yield from _find_at(path, left_out)
        elif not glob.has_magic(path):
            yield Found(path, "no such file or folder")
        elif matches := _matches(path):
            for match in matches:
                yield from _find_at(match, left_out)
        else:
            yield Found(path, "matches no file")


def _matches(pattern: str) -> list[str]:
    matches = sorted(glob.glob(pattern, recursive=True), key=natural_key)  # noqa: PTH207 - may be absolute
    if "**" in pattern:  # it matches folders as well as their files, which would count twice
        matches = [match for match in matches if not os.path.isdir(match)]  # noqa: PTH112
    return matches


def _find_at(path: str, left_out: LeftOut) -> Iterator[Found]:
    if not os.path.isdir(path):  # noqa: PTH112 - keeps the path as the user wrote it
        yield Found(path)
        return
    here: LeftOut = {}
    empty = True
    try:
        for image in images_below(Path(path), "", here):
            empty = False
            yield Found(os.path.join(path, image))  # noqa: PTH118
    except DataError as error:
        yield Found(path, error.message)
        return
    if empty:
        yield Found(path, f"holds no images{in_parentheses(here)}")
        return
    for reason, names in here.items():
        left_out.setdefault(reason, []).extend(os.path.join(path, name) for name in names)  # noqa: PTH118


def describe_left_out(left_out: Mapping[str, Sequence[str]]) -> str:
    """Every reason with the first names: `.txt files: 2 (a.txt, b.txt); hidden files: 1 (.x)`."""
    return "; ".join(
        f"{reason}: {len(paths):,} ({join_names(paths, _MOST_NAMED)})"
        for reason, paths in sorted(left_out.items())
        if paths
    )


def in_parentheses(left_out: Mapping[str, Sequence[str]]) -> str:
    """` (left out: .txt files: 1 (a.txt))`; empty if nothing was left out."""
    text = describe_left_out(left_out)
    return f" (left out: {text})" if text else ""


def is_ordinary(left_out: Mapping[str, Sequence[str]]) -> bool:
    """Whether only hidden and system files and those excluded by the config were left out."""
    return all(reason in _ORDINARY for reason, paths in left_out.items() if paths)


def join_names(names: Iterable[str], most: int = 10) -> str:
    """The first names, escaped: `cat, dog and 3 more`."""
    names = list(names)
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(escape(name) for name in names[:most]) + more


def join_path(folder: str, name: str) -> str:
    """`folder/name`, or `name` if `folder` is empty."""
    return f"{folder}/{name}" if folder else name


def _reason_to_ignore(entry: os.DirEntry) -> str:
    """Reason why an entry is neither a folder nor an image; empty if it is one."""
    name = entry.name
    is_folder = entry.is_dir(follow_symlinks=False)
    if name.startswith("."):
        return "hidden folders" if is_folder else "hidden files"
    if name.casefold() in _SYSTEM:
        return "system folders" if is_folder else "system files"
    if is_folder:
        return ""
    if entry.is_symlink() and (reason := _reason_to_ignore_link(entry)):
        return reason
    if not entry.is_file():
        return "special files"
    _, dot, extension = name.lower().rpartition(".")
    if dot and extension in IMAGE_EXTENSIONS:
        return ""
    return "" if _holds_photograph(entry, extension) else _kind_by_name(extension if dot else "")


def _holds_photograph(entry: os.DirEntry, extension: str) -> bool:
    """Whether a file without a known suffix, such as `x.jpg?w=200`, begins like an image."""
    if extension in _RAW:
        return False
    try:
        with Path(entry.path).open("rb", buffering=0) as file:
            return is_photograph(file.read(HEAD_BYTES))
    except OSError:
        return False


def _kind_by_name(extension: str) -> str:
    if not extension:
        return "files without a suffix that are no images"
    return f".{escape(extension)} files"


def _reason_to_ignore_link(link: os.DirEntry) -> str:
    try:
        if link.is_dir():
            return LINKS
        return "" if Path(link.path).exists() else BROKEN_LINKS
    except OSError:  # a link that leads to itself
        return BROKEN_LINKS

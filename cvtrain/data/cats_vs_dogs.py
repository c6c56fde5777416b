"""Microsoft's archive of cats and dogs -> class folders, without damaged files."""

import itertools
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from cvtrain.data.download import Show
from cvtrain.errors import DataError
from cvtrain.images.decode import DecodeError, Decoder
from cvtrain.system.text import escape

_PHOTO = re.compile(r"PetImages/(Cat|Dog)/([0-9]{1,6})\.jpg")
_MAX_PHOTO = 2**24  # bytes; the largest of the published ones has 0.2 MB
_DECODER = Decoder((64, 64))  # small, because damage is detected at any size

Counts = Mapping[str, int]  # split -> photographs of each class


def write_cats_vs_dogs(folder: Path, archive: Path, counts: Counts | None, show: Show) -> list[str]:
    """Write the unchanged photographs as [SPLIT/]CLASS/NUMBER.jpg.

    Only the numbers are taken from the names in the archive.

    Args:
        folder: Parent folder of the splits, or of the classes cat and dog.
        archive: The ZIP file.
        counts: Number of photographs of each class in each split, assigned in the order of their
            numbers; None: all photographs, without splits.
        show: Function called after each photograph with the numbers of done and of all.

    Returns:
        The files that are left out because they are not usable, each with the reason.

    Raises:
        DataError: The file is another archive or damaged, or has too few photographs.
    """
    left_out: list[str] = []
    try:
        with zipfile.ZipFile(archive) as photos:
            found = _photos(photos)
            if not all(found.values()):
                raise DataError(
                    f"{escape(archive)}: the archive does not contain PetImages/Cat/NUMBER.jpg and "
                    "PetImages/Dog/NUMBER.jpg",
                    "Use Microsoft's archive kagglecatsanddogs_5340.zip.",
                )
            places = sum(counts.values()) if counts else max(map(len, found.values()))
            done, total = 0, sum(min(places, len(members)) for members in found.values())
            for name, members in found.items():
                done_before = done
                targets = _targets(folder, name, counts)
                usable = _usable(photos, members, left_out)
                for target, (number, content) in zip(targets, usable, strict=False):
                    target.mkdir(parents=True, exist_ok=True)
                    (target / f"{number}.jpg").write_bytes(content)
                    done += 1
                    show(done, total)
                if counts and done - done_before < places:
                    raise DataError(
                        f"{escape(archive)}: fewer than {places:,} usable photographs of {name}",
                        "Name the whole archive, or leave the subset out.",
                    )
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(f"{escape(archive)}: {escape(error)}", "Download it again.") from error
    return left_out


def _photos(archive: zipfile.ZipFile) -> dict[str, dict[int, zipfile.ZipInfo]]:
    """The photographs of each class by their numbers, in ascending order."""
    found: dict[str, dict[int, zipfile.ZipInfo]] = {"cat": {}, "dog": {}}
    for member in archive.infolist():
        if match := _PHOTO.fullmatch(member.filename):
            found[match[1].lower()][int(match[2])] = member
    return {name: dict(sorted(members.items())) for name, members in found.items()}


def _targets(folder: Path, name: str, counts: Counts | None) -> Iterator[Path]:
    """The folder of each photograph of a class, in turn."""
    if counts is None:
        return itertools.repeat(folder / name)
    return (folder / split / name for split, count in counts.items() for _ in range(count))


def _usable(
    archive: zipfile.ZipFile, members: Mapping[int, zipfile.ZipInfo], left_out: list[str]
) -> Iterator[tuple[int, bytes]]:
    for number, member in members.items():
        if member.file_size > _MAX_PHOTO:
            left_out.append(f"{member.filename}: {member.file_size:,} bytes")
            continue
        content = archive.read(member)
        try:
            _DECODER(content)
        except DecodeError as error:
            left_out.append(f"{member.filename}: {error.message}")
        else:
            yield number, content

"""Find and read manifests in folders of images.

Hugging Face's imagefolder has `metadata.csv` or `metadata.jsonl`, an export of Roboflow has
`_classes.csv`, either in the folder itself or in the folder of each split.
"""

import contextlib
import posixpath
from collections.abc import Mapping
from pathlib import Path

from cvtrain.data.columns import SPLIT_NAMES, Columns, usual_columns
from cvtrain.data.layout import check_distinct_splits
from cvtrain.data.manifest import Sample, has_columns, read_manifest
from cvtrain.data.scan import LeftOut, images_below, join_names
from cvtrain.data.tables import TABLE_SUFFIXES, read_rows
from cvtrain.errors import DataError
from cvtrain.system.text import escape

_NAMES = ("metadata.jsonl", "metadata.csv", "_classes.csv")
_FILE_NAMES = {"file_name", "filename"}


def find_manifests(
    source: Path, columns: Columns | None = None, notes: list[str] | None = None
) -> dict[Path, str]:
    """The manifest that `source` is or contains, or those of its splits: {path: split}.

    The split is empty for a manifest that may define splits itself.

    Args:
        source: A file or a folder.
        columns: Columns that a manifest in a folder may have in addition to the usual ones.
        notes: List to which remarks on tables that are not manifests are added.
    """
    notes = [] if notes is None else notes
    if not source.is_dir():
        return {source: ""} if source.suffix.lower() in TABLE_SUFFIXES else {}
    if here := _manifest_in(source, columns, notes):
        return {here: ""}
    splits = {name: SPLIT_NAMES.get(name.lower()) for name in _folders_in(source)}
    return {
        path: split
        for name, split in splits.items()
        if split and (path := _manifest_in(source / name, columns, notes))
    }


def read_manifests(
    source: Path,
    manifests: Mapping[Path, str],
    columns: Columns | None,
    left_out: LeftOut,
    notes: list[str],
) -> tuple[Path, list[Sample]]:
    """The folder that paths are relative to, and (split, label, path) of each image.

    Args:
        source: A manifest, or a folder that contains manifests.
        manifests: Result of `find_manifests`.
        columns: The columns; None: those of the headers.
        left_out: Mapping to which files that are not listed are added, by reason.
        notes: List to which remarks on the interpretation of the manifests are added.

    Raises:
        DataError: As in `read_manifest`, or two folders are of one split.
    """
    if not source.is_dir():
        return source.parent, read_manifest(source, columns, notes)
    check_distinct_splits(source, {path.parent.name: split for path, split in manifests.items()})
    names = join_names(path.relative_to(source).as_posix() for path in manifests)
    notes.append(f"{escape(source)}: labels are read from {names}, not from folders")
    samples = []
    for manifest, split in manifests.items():
        folder = manifest.parent.relative_to(source).as_posix()
        samples += [
            (split or own, label, posixpath.normpath(posixpath.join(folder, path)))
            for own, label, path in read_manifest(manifest, columns, notes)
        ]
    _leave_out_others(source, manifests, {path for _, _, path in samples}, left_out)
    return source, _with_splits_of_folders(samples)


def _manifest_in(folder: Path, columns: Columns | None, notes: list[str]) -> Path | None:
    """The table of the labels of a folder's images, or None."""
    for path in (folder / name for name in _NAMES):
        if path.is_file():
            header: list[str] = []
            with contextlib.suppress(DataError):
                header = next(read_rows(path), (1, []))[1]
            if usual_columns(path, header) or (columns and has_columns(path, columns)):
                return path
            if not _FILE_NAMES.isdisjoint(name.strip().lower() for name in header):
                if not _folders_in(folder):  # which could be the classes
                    return path
                what = f"has no column label, but {join_names(header)}"
                notes.append(f"{escape(path)} {what}; the folders are the classes")
    return None


def _folders_in(folder: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(each.name for each in folder.iterdir() if each.is_dir())
    return []


def _with_splits_of_folders(samples: list[Sample]) -> list[Sample]:
    """Take splits from the folders of the images if the manifests define none."""
    tops = {path.partition("/")[0].lower() for _, _, path in samples}
    if any(split for split, _, _ in samples) or not tops <= {*SPLIT_NAMES}:
        return samples
    return [(SPLIT_NAMES[p.partition("/")[0].lower()], label, p) for _, label, p in samples]


def _leave_out_others(
    source: Path, manifests: Mapping[Path, str], used: set[str], left_out: LeftOut
) -> None:
    """Record files that are in the folder and in no manifest."""
    others = [path for path in images_below(source, "", left_out) if path not in used]
    for path in manifests:
        reason = f"{path.suffix} files"
        left_out[reason].remove(path.relative_to(source).as_posix())
        if not left_out[reason]:
            del left_out[reason]
    if others:
        left_out["images that are not listed"] = others

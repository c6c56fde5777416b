"""CSV manifests: a header `path,label` or `path,label,split`, then one line per image."""

import csv
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from cvtrain.data.scan import listed
from cvtrain.errors import DataError
from cvtrain.files import csv_cell, csv_text, printable

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}
"""What people call the splits -> what cvtrain calls them."""

_MOST_LISTED = 20


def read_manifest(manifest: Path) -> list[tuple[str, str, str]]:
    """(split, label, path) of each line; the split is empty where there is no such column.

    Paths are relative to the manifest's folder. The text is UTF-8; commas separate, quotes protect.

    Raises:
        DataError: the file is no manifest, or lines are wrong: all are named by their numbers.
    """
    rows = _rows(manifest)
    line, header = next(rows, (1, []))
    columns = [column.strip().lower() for column in header]
    if sorted(columns) not in (["label", "path"], ["label", "path", "split"]):
        raise DataError(
            f"{printable(manifest)}:{line}: the header must be path,label or path,label,split; "
            f"received: {printable(','.join(header))[:200] or 'nothing'}",
            "Name the columns in the first line, separated by commas.",
        )
    samples, errors, seen = [], [], {}
    for line, row in rows:
        values = dict(zip(columns, (value.strip() for value in row), strict=False))
        path = values.get("path", "")
        if len(row) != len(columns):
            error = f"{len(row)} values for {len(columns)} columns"
        elif path in seen:
            error = f"{printable(path)} is already in line {seen[path]}"
        else:
            error = _error(manifest.parent, **values)
        if error:
            errors.append(f"{printable(manifest)}:{line}: {error}")
        else:
            seen[path] = line
            split = SPLIT_NAMES[values["split"].lower()] if "split" in values else ""
            samples.append((split, unicodedata.normalize("NFC", values["label"]), path))
    if errors:
        more = len(errors) - _MOST_LISTED
        lines = errors[:_MOST_LISTED] + ([f"and {more:,} more"] if more > 0 else [])
        raise DataError("\n".join(lines), "Mend or remove these lines.")
    return samples


def manifest_text(samples: Iterable[tuple[str, str, str]]) -> str:
    """The manifest that `read_manifest` reads as these (split, label, path).

    Raises:
        DataError: names cannot stand in a manifest; they are listed.
    """
    rows = []
    for split, label, path in samples:
        # What a spreadsheet would run as a formula is harmless with a folder before it.
        rows.append((path if _stands_as_it_is(path) else f"./{path}", label, split))
    if wrong := dict.fromkeys(cell for row in rows for cell in row if not _stands_as_it_is(cell)):
        raise DataError(
            f"names that cannot stand in a manifest: {len(wrong):,}: {listed(wrong)}",
            "Rename them: not UTF-8, control characters, spaces at an end, or a class named as a "
            "spreadsheet's formula.",
        )
    return csv_text([("path", "label", "split"), *rows])


def _stands_as_it_is(cell: str) -> bool:
    return csv_cell(cell) == cell == cell.strip()


def _rows(manifest: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, values) of each line that is not blank."""
    if manifest.exists() and not manifest.is_file():  # opening a pipe would wait for a writer
        raise DataError(
            f"{printable(manifest)}: not a regular file", "Name a CSV file of path,label[,split]."
        )
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            try:
                for row in reader:
                    if row:
                        yield reader.line_num, row
            except (csv.Error, UnicodeDecodeError) as error:
                what = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
                raise DataError(
                    f"{printable(manifest)}:{reader.line_num + 1}: {what}",
                    "Save the manifest as CSV in UTF-8.",
                ) from error
    except OSError as error:
        raise DataError(
            f"{printable(manifest)}: cannot be read: {(error.strerror or str(error)).lower()}",
            "Check the file and its permissions.",
        ) from error


def _error(folder: Path, path: str, label: str, split: str = "train") -> str:
    """What is wrong with the values of one line; empty when nothing is."""
    if not path:
        return "the path is empty"
    if not label:
        return "the label is empty"
    if not label.isprintable():
        return f"the label {printable(label)} holds control characters"
    if split.lower() not in SPLIT_NAMES:
        return f"split must be train, validation or test; received: {printable(split) or 'nothing'}"
    if not _is_file(folder / path):
        return f"there is no file {printable(path[:200])}"
    return ""


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long, or a folder may not be entered
        return False

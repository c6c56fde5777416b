"""Read and write manifests: tables with one line per image, CSV or JSON Lines.

The usual header is `path,label` or `path,label,split`.
"""

import difflib
import itertools
import posixpath
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cvtrain.data.array_files import how_to_store_table
from cvtrain.data.columns import (
    SPLIT_NAMES,
    TRUTHS,
    Columns,
    Name,
    Proposal,
    propose_columns,
    propose_rule,
    usual_columns,
)
from cvtrain.data.path_resolution import Files, spelling_of
from cvtrain.data.scan import join_names
from cvtrain.data.tables import read_rows
from cvtrain.errors import DataError
from cvtrain.system.text import csv_cell, csv_text, escape

Sample = tuple[str, str, str]
"""(split, label, path) of an image; the split is empty if it is unknown."""

_MOST_LISTED = 20
_MOST_ROWS = 100_000  # for guessing columns
_NEARLY_ALL = 0.9
_JOINTS = "|;,"


class UnreadManifest(DataError):
    """The header is unknown, or nearly none of the files exists.

    Attributes:
        proposal: A guess of the columns to read it with.
    """

    def __init__(self, message: str, proposal: Proposal):
        columns = proposal.columns
        super().__init__(
            message, f"To read it: {columns.as_options()}" if columns else proposal.advice
        )
        self.proposal = proposal


def read_manifest(
    manifest: Path, columns: Columns | None = None, notes: list[str] | None = None
) -> list[Sample]:
    """(split, label, path) of each line.

    Paths are relative to the folder of the manifest. They are those of existing files, and may be
    spelled differently in the manifest (see `path_resolution`).

    Args:
        manifest: A CSV file or JSON Lines, see `tables.read_rows`.
        columns: The columns; None: those of the header.
        notes: List to which remarks on the interpretation of the manifest are added.

    Raises:
        UnreadManifest: The header is unknown, or nearly none of the files exists.
        DataError: The file is not a manifest, or lines are wrong; all of them are listed.
    """
    rows = read_rows(manifest)
    line, header = next(rows, (1, []))
    files = Files(manifest.parent)
    columns = columns or usual_columns(manifest, header)
    if columns is None:
        raise _unknown_header(manifest, line, header, files, [row for _, row in rows])
    fields = _fields(manifest, line, header, columns)
    if isinstance(columns.path, int):  # there is no header
        rows = itertools.chain([(line, header)], rows)
    samples: dict[int, Sample] = {}
    missing: dict[int, tuple[str, str]] = {}  # line -> path and label
    errors: dict[int, str] = {}
    respelled: dict[str, str] = {}  # path in the manifest -> path of the file
    line_of: dict[str, int] = {}
    for line, row in rows:
        try:
            split, label, value = fields.read(row)
        except ValueError as error:
            errors[line] = str(error)
            continue
        path = files.find(value, columns.rule)
        if not path:
            missing[line] = value, label
        elif (first := line_of.setdefault(posixpath.normpath(path), line)) != line:
            errors[line] = f"{escape(path)} is already in line {first}"
        else:
            samples[line] = split, label, path
            if path not in files.paths(value, columns.rule):
                respelled[value] = path
    if len(missing) > max(1, _NEARLY_ALL * (len(missing) + len(samples))):
        raise _missing_files(manifest, files, columns, [*missing.values()], len(samples))
    errors |= _several_labels(samples)
    for line, (value, _) in missing.items():
        path = files.paths(value, columns.rule)[-1]
        errors[line] = f"there is no file {escape(path[:200])}"
    _raise_errors(manifest, errors)
    if respelled and notes is not None:
        notes.append(_respelling(manifest, respelled))
    return list(samples.values())


def has_columns(manifest: Path, columns: Columns) -> bool:
    """Whether a manifest has these columns."""
    try:
        line, header = next(read_rows(manifest), (1, []))
        _fields(manifest, line, header, columns)
    except DataError:
        return False
    return True


def manifest_text(samples: Iterable[Sample]) -> str:
    """The text of a manifest of these (split, label, path).

    Raises:
        DataError: Names cannot be stored in a manifest; they are listed.
    """
    rows = []
    for split, label, path in samples:
        # "./" prevents that a spreadsheet runs a name as a formula.
        rows.append((path if _is_safe(path) else f"./{path}", label, split))
    if wrong := dict.fromkeys(cell for row in rows for cell in row if not _is_safe(cell)):
        raise DataError(
            f"names that cannot be written to a manifest: {len(wrong):,}: {join_names(wrong)}",
            "Rename them: they are not UTF-8, contain control characters, begin or end with a "
            "space, or are classes that a spreadsheet would read as formulas.",
        )
    return csv_text([("path", "label", "split"), *rows])


def _is_safe(cell: str) -> bool:
    return csv_cell(cell) == cell == cell.strip()


class _Fields(NamedTuple):
    """The columns of a manifest by their indices.

    Attributes:
        width: Number of values in a row.
        path: Index of the path.
        labels: Names of the columns of labels, by their indices.
        has_ones: Whether the labels are one-hot, with a column for each class.
        split: Index of the split, or None.
    """

    width: int
    path: int
    labels: Mapping[int, str]
    has_ones: bool
    split: int | None

    def read(self, row: Sequence[str]) -> Sample:
        """(split, label, path) of a row; ValueError says what is wrong with it."""
        if len(row) != self.width:
            raise ValueError(f"{len(row)} values for {self.width} columns")
        path = row[self.path].strip()
        if not path:
            raise ValueError("the path is empty")
        label = self._class_with_one(row) if self.has_ones else row[min(self.labels)].strip()
        if not label:
            raise ValueError("the label is empty")
        if not label.isprintable():
            raise ValueError(f"the label {escape(label)} holds control characters")
        split = "" if self.split is None else row[self.split].strip()
        if self.split is not None and split.lower() not in SPLIT_NAMES:
            received = escape(split) or "nothing"
            raise ValueError(f"split must be train, validation or test; received: {received}")
        return SPLIT_NAMES.get(split.lower(), ""), unicodedata.normalize("NFC", label), path

    def _class_with_one(self, row: Sequence[str]) -> str:
        found = []
        for position, name in self.labels.items():
            value = row[position].strip().lower()
            if value not in TRUTHS:
                received = escape(value[:80]) or "nothing"
                raise ValueError(f"{escape(name)} must be 0 or 1; received: {received}")
            if TRUTHS[value]:
                found.append(name)
        if len(found) > 1:
            raise ValueError(f"{join_names(found)} are 1, and several labels are not supported")
        if not found:
            raise ValueError("no class has a 1")
        return found[0]


def _fields(manifest: Path, line: int, header: Sequence[str], columns: Columns) -> _Fields:
    names = [name.strip() for name in header]
    has_ones = isinstance(columns.label, tuple)
    wanted = columns.label if isinstance(columns.label, tuple) else (columns.label,)
    split = columns.split
    if split is None and "split" in map(str.lower, names) and isinstance(columns.path, str):
        split = "split"
    try:
        return _Fields(
            width=len(names),
            path=_position(names, columns.path),
            labels={_position(names, column): str(column) for column in wanted},
            has_ones=has_ones,
            split=None if split is None else _position(names, split),
        )
    except LookupError as error:
        near = difflib.get_close_matches(str(error.args[1]), names, n=1)
        meant = f"Did you mean {escape(near[0])}? " if near else ""
        raise DataError(
            f"{escape(manifest)}:{line}: {error.args[0]}; "
            f"the columns are {join_names(names, _MOST_LISTED)}",
            f"{meant}In data.columns, use the names of the first line, or numbers from 1 if there "
            "is no header.",
        ) from error


def _position(names: Sequence[str], column: Name) -> int:
    """Index of a column; LookupError(message, column) if there is none, or several."""
    if isinstance(column, int):
        matches = [column - 1] if column <= len(names) else []
    else:
        matches = [i for i, name in enumerate(names) if name == column]
        matches = matches or [i for i, name in enumerate(names) if name.lower() == column.lower()]
    if len(matches) == 1:
        return matches[0]
    what = f"{len(matches)} columns are called" if matches else "there is no column"
    raise LookupError(f"{what} {escape(column)}", column)


def _unknown_header(
    manifest: Path, line: int, header: Sequence[str], files: Files, rows: Sequence[Sequence[str]]
) -> UnreadManifest:
    if line_of_python := how_to_store_table(manifest, header, rows[:1]):
        advice = f"To store them as images, and name the .npz file: {line_of_python}"
        proposal = Proposal(remarks=("the columns are pixels, not files",), advice=advice)
    else:
        proposal = propose_columns(files, header, rows[:_MOST_ROWS])
    what = "".join(f"; {remark}" for remark in proposal.remarks)
    return UnreadManifest(
        f"{escape(manifest)}:{line}: the header must be path,label or path,label,split; "
        f"received: {escape(','.join(header))[:200] or 'nothing'}{what}",
        proposal,
    )


def _missing_files(
    manifest: Path,
    files: Files,
    columns: Columns,
    missing: Sequence[tuple[str, str]],
    num_found: int,
) -> UnreadManifest:
    """Error for a manifest with nearly no existing file; `missing` has the paths and labels."""
    proposal = propose_rule(files, columns, missing)
    total = len(missing) + num_found
    are_missing = (
        f"{len(missing):,} of the {total:,} files are not there"
        if num_found
        else f"none of the {total:,} files is there"
    )
    first = escape(files.paths(missing[0][0], columns.rule)[-1][:200])
    return UnreadManifest(
        f"{escape(manifest)}: {are_missing}, such as {first} in "
        f"{escape(files.root.absolute())}: {'; '.join(proposal.remarks)}",
        proposal,
    )


def _several_labels(samples: Mapping[int, Sample]) -> dict[int, str]:
    """Errors of lines whose label consists of several labels of other lines, by line number."""
    known = {label for _, label, _ in samples.values()}
    errors = {}
    for line, (_, label, _) in samples.items():
        for joint in _JOINTS:
            parts = [part.strip() for part in label.split(joint)]
            if len(parts) > 1 and known.issuperset(parts):
                errors[line] = f"{escape(label)} are several labels, which is not supported"
    return errors


def _raise_errors(manifest: Path, errors: Mapping[int, str]) -> None:
    if errors:
        lines = [f"{escape(manifest)}:{line}: {errors[line]}" for line in sorted(errors)]
        if (more := len(lines) - _MOST_LISTED) > 0:
            lines[_MOST_LISTED:] = [f"and {more:,} more"]
        raise DataError("\n".join(lines), "Correct or remove these lines.")


def _respelling(manifest: Path, respelled: Mapping[str, str]) -> str:
    value, path = next(iter(respelled.items()))
    return (
        f"{escape(manifest.name)}: {len(respelled):,} paths are spelled differently from their "
        f"files ({spelling_of(value, path)}): {escape(value)} is {escape(path)}"
    )

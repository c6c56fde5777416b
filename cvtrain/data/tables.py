"""Read tables, CSV and JSON Lines, as rows of strings with their line numbers."""

import csv
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from cvtrain.errors import DataError
from cvtrain.system.text import escape

Rows = Iterator[tuple[int, list[str]]]
"""(line number, values) of each line that is not blank; JSON Lines begin with their keys."""

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")

_SEPARATORS = ",;\t|"
_EXCEL_SEPARATOR = re.compile(r'"?sep=([,;\t|])"?\s*', re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')
_LONGEST_LINE = 2**20


def read_rows(path: Path) -> Rows:
    """The rows of a table in UTF-8, with or without a byte order mark.

    The separator of CSV is the most frequent of comma, semicolon, tab and bar in its first line,
    outside quotes, or that of a line `sep=;` of Excel before it.

    Raises:
        DataError: The file cannot be read, or a line is neither CSV nor JSON.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait for a writer
        raise DataError(
            f"{escape(path)}: not a regular file", "Name a CSV file of path,label[,split]."
        )
    read = _json_rows if path.suffix.lower() == ".jsonl" else _csv_rows
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from read(path, file)
    except OSError as error:
        raise DataError(
            f"{escape(path)}: cannot be read: {(error.strerror or str(error)).lower()}",
            "Check the file and its permissions.",
        ) from error


def _csv_rows(path: Path, file: TextIO) -> Rows:
    line = 0
    try:
        first = file.readline(_LONGEST_LINE)
        excel = _EXCEL_SEPARATOR.fullmatch(first)
        separator = excel[1] if excel else _most_frequent(first)
        lines = itertools.chain(["\n" if excel else first], file)
        reader = csv.reader(lines, strict=True, delimiter=separator)
        for row in reader:
            line = reader.line_num
            if row:
                yield line, row
    except (csv.Error, UnicodeDecodeError) as error:
        what = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise DataError(
            f"{escape(path)}:{line + 1}: {what}", "Save the manifest as CSV in UTF-8."
        ) from error


def _most_frequent(line: str) -> str:
    plain = _QUOTED.sub("", line)
    return max(_SEPARATORS, key=plain.count)  # the first of equally frequent ones


def _json_rows(path: Path, file: TextIO) -> Rows:
    keys, line = None, 0
    try:
        for text in iter(lambda: file.readline(_LONGEST_LINE), ""):
            line += 1
            if not text.strip():
                continue
            value = json.loads(text)
            if not isinstance(value, dict):
                raise ValueError("no object")
            if keys is None:
                keys = list(value)
                yield line, keys
            yield line, [_cell(value.get(key)) for key in keys]
    except UnicodeDecodeError as error:
        raise DataError(
            f"{escape(path)}:{line + 1}: not UTF-8", "Save the manifest in UTF-8."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{escape(path)}:{line}: not an object of JSON on one line",
            'Each line of a .jsonl file is one: {"file_name": "0001.jpg", "label": "cat"}',
        ) from error


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)

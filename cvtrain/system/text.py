"""Escape untrusted texts for terminals, shells, spreadsheets and file names."""

import csv
import io
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

# Spreadsheets take full-width signs for signs, too. A number of ours may begin with a minus.
_FORMULA = re.compile(r"[=+@\t\r\uff1d\uff0b\uff0d\uff20]|-(?!\d*\.?\d+(e[-+]?\d+)?\Z)")


def escape(name: object) -> str:
    r"""`name` with all that a terminal obeys or cannot show escaped: `a\x1b[31m`, `caf\udce9`."""
    text = str(name)
    if text.isprintable():  # at once: a page holds pictures of thousands of characters
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def truncate(name: object, length: int = 24) -> str:
    """`name`, escaped and cut to `length` characters."""
    text = escape(name)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def shell_quote(path: object) -> str:
    """A path for a command line that users copy: escaped, in quotes if a shell needs them."""
    return shlex.quote(escape(path))


def reason_of(error: Exception) -> str:
    """The first line of an error's message, escaped, at most 200 characters; else its class."""
    return escape(str(error).strip().partition("\n")[0])[:200] or type(error).__name__


def safe_name(name: str) -> str:
    """`name` as a part of a file name: at most 60 ASCII letters, digits, dots and dashes."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name)[:60]


def csv_cell(cell: str) -> str:
    """`cell`, escaped for terminals and spreadsheets."""
    return ("'" if _FORMULA.match(cell) else "") + escape(cell)


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV, one line each, with texts escaped by `csv_cell`.

    A text that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow(csv_cell(cell) if isinstance(cell, str) else cell for cell in row)
    return text.getvalue()

"""Names and cells are harmless."""

import csv
import io
import shlex
from pathlib import Path

import pytest

from cvtrain.system.text import csv_cell, csv_text, escape, safe_name, shell_quote, truncate


@pytest.mark.parametrize("cell", ["=1+1", "+1", "@SUM(A1)", "-cmd", "\tx", "\r=x"])
def test_cells_that_would_run_are_guarded(cell):
    ((guarded,),) = csv.reader(io.StringIO(csv_text([[cell]]), newline=""))
    assert guarded == f"'{escape(cell)}"


@pytest.mark.parametrize("cell", ["a.jpg", 'he said "x", ok', "-1.5", "ä", 3, 0.25])
def test_other_cells_survive(cell):
    ((same,),) = csv.reader(io.StringIO(csv_text([[cell]]), newline=""))
    assert same == str(cell)


def test_a_row_is_a_line():
    assert csv_text([["two\nlines", 1]]) == "two\\nlines,1\n"


@pytest.mark.parametrize("name", ["../../etc", "a/b", "a\nb", "<img>", "caf\udce9", "é" * 300, ""])
def test_any_name_becomes_a_harmless_part_of_a_file_name(name):
    safe = safe_name(name)
    assert len(safe) == min(60, len(name))
    assert safe.isascii()
    assert "/" not in safe
    assert safe.isprintable()


def test_printable_escapes_what_a_terminal_obeys():
    assert escape("a\x1b[31m\n\udce9é") == "a\\x1b[31m\\n\\udce9é"


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("-2+3+cmd|' /C calc'!A0", "'-2+3+cmd|' /C calc'!A0"),
        ("-rf", "'-rf"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("\t=1", r"'\t=1"),
        ("-5", "-5"),
        ("-0.25", "-0.25"),
        ("-1.5e-07", "-1.5e-07"),
        ("-5\n", r"'-5\n"),
        ("a-1", "a-1"),
    ],
)
def test_a_cell_is_no_formula_and_a_number_stays_one(cell, written):
    assert csv_cell(cell) == written


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("runs/20260101-120000-fit-config", "runs/20260101-120000-fit-config"),
        ("my runs/st op", "'my runs/st op'"),
        ("a;b $(c)", "'a;b $(c)'"),
        ("it's", "'it'\"'\"'s'"),
        ("a\x1b[31m", "'a\\x1b[31m'"),
    ],
)
def test_a_path_in_a_command_line_is_one_word(path, shown):
    assert shell_quote(path) == shown
    assert shlex.split(shell_quote(Path(path))) == [escape(path)]


def test_short_names_are_printable_and_no_longer_than_that():
    assert truncate("caf\udce9") == r"caf\udce9"
    assert truncate("n" * 24) == "n" * 24
    assert truncate("n" * 25) == "n" * 23 + "…"

"""What PyYAML says of bad syntax, in words for people who have not read the standard."""

import re
from typing import NamedTuple

import yaml


class _Mistake(NamedTuple):
    """One way to go wrong: by what PyYAML says of it, what it is and what to do.

    `begins` tells that the line to look at is where the thing begins, not where PyYAML gave up.
    """

    said: str
    what: str
    advice: str
    begins: bool = False


_QUOTE = "Put the whole text in single quotes."
_ALIKE = "Indent the keys of one section alike, with spaces."
_MISTAKES = (
    _Mistake(r"character '\\t'", "a tab", "Indent with spaces."),
    _Mistake(
        "quoted scalar.*end of stream",
        "a quote that begins here is never closed",
        "Close it; within single quotes '' stands for one.",
        begins=True,
    ),
    _Mistake(
        "parsing a flow (sequence|mapping)",
        "a bracket that begins here is not closed, or a comma is missing in it",
        "Separate values by commas, and close the bracket.",
        begins=True,
    ),
    _Mistake("found ('[]}]')", "a bracket too many", "Remove it."),
    _Mistake("end>, but found '<scalar>'", "something follows a closing quote", _QUOTE),
    _Mistake("end>, but found '-'", "a list entry among keys", _ALIKE),
    _Mistake("end>, but found '[?]'", "a key among list entries", _ALIKE),
    _Mistake("expected <block end>", "indented otherwise than the lines before it", _ALIKE),
    _Mistake(
        "mapping values are not allowed",
        "a second ': ' in one line, or a line that is indented too far",
        "Put texts with ': ' in single quotes; indent the keys of one section alike.",
    ),
    _Mistake("sequence entries are not", "a list begins in the line of its key", _ALIKE),
    _Mistake("expected ':'", "a line without a key", "Write key: value.", begins=True),
    _Mistake("another document|document start", "a second document", "Keep one in a file."),
    _Mistake(
        "undefined alias|scanning an (alias|anchor)", "a text that begins with * or &", _QUOTE
    ),
    _Mistake("character '[@`%]'|a directive", "a text that begins with @, ` or %", _QUOTE),
    _Mistake(
        "double-quoted scalar",
        "an unknown escape; in double quotes a backslash begins one",
        "Use single quotes, in which it is nothing special.",
    ),
)


def explained(error: yaml.MarkedYAMLError) -> tuple[int, str, str]:
    """(line counted from 1, what is wrong, what to do) of what PyYAML has refused."""
    said = " ".join(part for part in (error.context, error.problem) if part)
    for mistake in _MISTAKES:
        if re.search(mistake.said, said):
            mark = error.context_mark if mistake.begins else error.problem_mark
            return _line(mark), mistake.what, mistake.advice
    return _line(error.problem_mark or error.context_mark), said, ""


def _line(mark: yaml.Mark | None) -> int:
    return mark.line + 1 if mark else 1

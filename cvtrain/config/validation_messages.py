"""Turn pydantic's errors into one sentence per key: the expected and received values, and a
suggestion.
"""

import difflib
import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from cvtrain.config import yaml
from cvtrain.config.project import Config, KeyPath
from cvtrain.sections.base import Section, field_docs, sections_in
from cvtrain.system.text import escape

_MOST_CHARACTERS = 1000
_LONGEST_NUMBER = 60
_PLAIN_WORDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "string_too_short": "a text that is not empty",
    "tuple_type": "a list such as [1, 2]",
}


_BOOLEANS = dict.fromkeys(("yes", "y", "on", "true"), "true")
_BOOLEANS |= dict.fromkeys(("no", "n", "off", "false"), "false")
_NUMBER = re.compile(
    r"['\"\u2018\u2019\u201c\u201d]*([-+]?[\d.,_]*\d[.,_]?(?:[eE][-+]?\d+)?) ?(%?)\D*"
)


def mistakes(error: ValidationError, values: Any) -> dict[KeyPath, str]:
    """The message for each key, beginning with its name.

    Args:
        error: the error of the sections for `values`.
        values: the config as plain dicts, lists and scalars.
    """
    found: dict[KeyPath, str] = {}
    for item in error.errors(include_url=False):
        loc = (*item["loc"], "name") if item["type"] == "union_tag_invalid" else item["loc"]
        path = _path_in(values, loc, missing=item["type"] in ("missing", "extra_forbidden"))
        found.setdefault(path, _what(item, path))
    return found


def _path_in(values: Any, loc: KeyPath, *, missing: bool) -> KeyPath:
    """The part of pydantic's `loc` that names keys of the file (it also names types of a union)."""
    path: KeyPath = ()
    for part in loc:
        known = isinstance(values, dict) and part in values
        known = known or (isinstance(values, list) and isinstance(part, int) and part < len(values))
        if known:
            path, values = (*path, part), values[part]
    return (*path, loc[-1]) if missing and path[-1:] != loc[-1:] else path


def _what(item: Mapping[str, Any], path: KeyPath) -> str:
    key = ".".join(map(str, path))
    received, loc = item["input"], item["loc"]
    match item["type"]:
        case "extra_forbidden":
            return f"{key}: there is no such key. {_did_you_mean(path, loc)}"
        case "missing":
            return f"{key}: is missing. {_meaning(loc)}"
        case "literal_error":
            choices = [c for c in _choices(loc) if isinstance(c, str)]
            expected = item["ctx"]["expected"].replace("'", "")
            return f"{key}: must be {expected}; received {_one_of(received, choices)}"
        case "union_tag_invalid":
            choices = item["ctx"]["expected_tags"].replace("'", "").split(", ")
            known = " or ".join(choices)
            return f"{key}: must be {known}; received {_one_of(received['name'], choices)}"
        case "value_error":
            text = str(item["ctx"]["error"])
            tail = "" if isinstance(received, dict) else f"; received {in_words(received)}"
            return f"{key}: {text}{tail}" if key else text
        case "too_short":
            at_least = item["ctx"]["min_length"]
            values = "value" if at_least == 1 else "values"
            return f"{key}: must have at least {at_least} {values}; received {in_words(received)}"
        case "model_type" | "model_attributes_type" | "dict_type":
            keys = ", ".join(_fields(loc))
            what = f"{key}: must be a section with keys ({keys}); received {in_words(received)}"
            is_glued = isinstance(received, str) and re.match(r"\w+:\S", received)
            return what + (". A space belongs after each colon." if is_glued else "")
    what = _PLAIN_WORDS.get(item["type"], item["msg"].removeprefix("Input should be "))
    meant = _meant(received, item["type"])
    tail = f". Did you mean {meant}?" if meant else ""
    return f"{key}: must be {what}; received {in_words(received)}{tail}"


def _meant(received: Any, kind: str) -> str:
    """Suggested value for a text in place of a number or a boolean; else empty."""
    if not isinstance(received, str) or len(received) > _LONGEST_NUMBER:
        return ""
    if kind == "bool_type":
        return _BOOLEANS.get(received.strip().lower(), "")
    number = _NUMBER.fullmatch(received.strip())
    if kind not in ("int_type", "float_type") or not number:
        return ""
    digits = number[1].replace("_", "").rstrip(",.")
    are_thousands = re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+", digits)
    digits = digits.replace(",", "" if are_thousands else ".")
    value = yaml.scalar(digits)
    if isinstance(value, str):
        return ""
    return f"{value / 100:g}" if number[2] and kind == "float_type" else digits


def shown(text: str) -> str:
    """A text with keys and values of a config, escaped and shortened for a terminal."""
    return escape(text[:_MOST_CHARACTERS])


def in_words(value: Any) -> str:
    """Description of a value: the text '40', a section, nothing."""
    if isinstance(value, str):
        return f"the text '{value[:60]}'"
    if isinstance(value, dict):
        return "a section"
    if value is None:
        return "nothing"
    return json.dumps(value)[:60]


def _annotation_at(loc: KeyPath) -> Any:
    """The annotation of the field at pydantic's `loc`; None for an unknown key."""
    annotation: Any = Config
    for part in loc:
        if isinstance(part, int):  # an entry of a list: the list's type names that of its entries
            continue
        sections = sections_in(annotation)
        if len(sections) > 1:  # of several kinds; which one it is follows its key
            kinds = [each for each in sections if part in _names(each)]
            if kinds:
                annotation = kinds[0]
                continue
        fields = sections[0].model_fields if sections else {}
        annotation = fields[part].annotation if part in fields else None
    return annotation


def _names(section: type[Section]) -> tuple[Any, ...]:
    """Allowed values of the key `name`."""
    return get_args(section.model_fields["name"].annotation)


def _section_at(loc: KeyPath) -> type[Section] | None:
    return next(iter(sections_in(_annotation_at(loc))), None)


def _fields(loc: KeyPath) -> list[str]:
    section = _section_at(loc)
    return list(section.model_fields) if section else []


def _choices(loc: KeyPath) -> tuple[Any, ...]:
    annotation = _annotation_at(loc)
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _meaning(loc: KeyPath) -> str:
    section = _section_at(loc[:-1])
    doc = field_docs(section).get(str(loc[-1]), "") if section else ""
    return " ".join(doc.split())


def _one_of(received: Any, choices: Sequence[str]) -> str:
    """The received value, and the closest choice."""
    close = difflib.get_close_matches(str(received).lower(), choices, 1)
    return in_words(received) + (f". Did you mean {close[0]}?" if close else "")


def _did_you_mean(path: KeyPath, loc: KeyPath) -> str:
    """Suggest the closest key of this section, or a key of the same name in another section."""
    here = _fields(loc[:-1])
    prefix = ".".join(map(str, path[:-1]))
    name = str(path[-1])
    begins = [key for key in here if key.startswith(name)]
    if close := begins or difflib.get_close_matches(name, here, 1):
        return f"Did you mean {prefix}{'.' if prefix else ''}{close[0]}?"
    if name.isdigit():
        return "A decimal is written with a point, as 0.5."
    elsewhere = [key for key in _every_key() if key.rpartition(".")[2] == name]
    if ".".join(map(str, path)) in elsewhere:
        return f"Another {path[-2]} has it; known here: {', '.join(here)}."
    if elsewhere:
        return f"Did you mean {elsewhere[0]}?"
    return f"Known here: {', '.join(here)}."


@functools.cache
def _every_key() -> list[str]:
    return _all_keys(Config, "")


def _all_keys(model: type[Section], prefix: str) -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        for section in sections_in(field.annotation):
            keys += _all_keys(section, f"{prefix}{name}.")
    return keys

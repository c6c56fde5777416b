"""Strategies for configs: what the sections allow, that with mistakes, and YAML of any kind."""

import json
import string
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from fuzz_bytes import WRONG_VALUES
from hypothesis import strategies as st
from pydantic import BeforeValidator

from cvtrain.config import Config
from cvtrain.sections.architectures import ARCHITECTURES
from cvtrain.sections.base import Section, sections_in

# Texts that YAML 1.1 or 1.2 would take for something else, and texts that need quotes.
_WORDS = "08 1e3 0o17 0x1F .5 1_000 ~ null no True = << 12:30 ' \" \\ { [1 &a *a !b % @ ` #c é"
_TEXTS = _WORDS.split()
_TEXTS += ["", " x ", "a: b", "- d", "\U0001f600", "\x1b[31m", "a\nb", "a\tb", "\x85", "\u2028"]
_TEXTS += ["\ufeff", "~nobody/x"]
TEXTS = st.sampled_from(_TEXTS) | st.text(max_size=8)

_FIELDS = {
    ("Backbone", "name"): st.sampled_from(sorted(ARCHITECTURES)) | st.none(),
    ("Data", "label_pattern"): st.sampled_from(
        [r"(cat|dog)\.", r"_(\d+)", "(", "a", "(a{99999999999})"]
    ),
    ("Data", "classes"): st.lists(TEXTS, min_size=2, max_size=4) | st.just([0, 1, 10]),
    ("Data", "source"): TEXTS | st.sampled_from(["digits", "photos", "./digits", "/a/b", "~/c"]),
}


def sections(kind: type[Section]) -> st.SearchStrategy[dict[str, Any]]:
    """Plain values of a section: each key by its type and bounds, most of them left out."""
    required, optional = {}, {}
    for name, field in kind.model_fields.items():
        values = _values(Annotated[field.annotation, *field.metadata, None])
        values = _FIELDS.get((kind.__name__, name), values)
        (required if field.is_required() else optional)[name] = values
    return st.fixed_dictionaries(required, optional=optional)


def _values(annotation: Any) -> st.SearchStrategy[Any]:
    """Plain values that a field of this type takes."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        for each in args[1:]:
            if isinstance(each, BeforeValidator):  # takes more than it becomes
                return _values(each.json_schema_input_type)
        return _bounded(args[0], args[1:])
    if origin is Literal:
        return st.sampled_from(args)
    if origin in (Union, UnionType):
        return st.one_of([_values(each) for each in args])
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(_values(args[0]), max_size=4)
    if origin is tuple:
        return st.tuples(*map(_values, args)).map(list)
    return _bounded(annotation, ())


def _bounded(kind: Any, metadata: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if get_origin(kind) is not None:
        return _values(kind)
    if sections_in(kind):
        return sections(kind)
    limits = [*metadata, *(each for one in metadata for each in getattr(one, "metadata", ()))]
    found = {
        key: getattr(one, key)
        for one in limits
        for key in ("ge", "gt", "le", "lt")
        if getattr(one, key, None) is not None
    }
    low, high = found.get("ge", found.get("gt")), found.get("le", found.get("lt"))
    if kind is int:
        return st.integers(low, None if high is None else high - ("lt" in found))
    if kind is float:
        return st.floats(
            low,
            high,
            exclude_min="gt" in found,
            exclude_max="lt" in found,
            allow_nan=False,
            allow_infinity=False,
        )
    return {bool: st.booleans(), str: TEXTS, NoneType: st.none()}[kind]


CONFIGS = sections(Config)
"""Plain values that are mostly a config; what depends on several keys may still be refused."""


@st.composite
def mistaken(draw: st.DrawFn, configs: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    """A config with one to three mistakes: a wrong value, a misspelt, doubled or lacking key."""
    config = draw(configs)
    for _ in range(draw(st.integers(1, 3))):
        section: Any = config
        while inner := [each for each in section.values() if isinstance(each, dict) and each]:
            if draw(st.booleans()):
                break
            section = draw(st.sampled_from(inner))
        if not section:
            break
        key = draw(st.sampled_from(sorted(section)))
        match draw(st.sampled_from(["value", "value", "typo", "text", "remove"])):
            case "value":
                section[key] = draw(st.sampled_from(WRONG_VALUES) | st.integers() | st.floats())
            case "typo":
                at = draw(st.integers(0, len(key)))
                section[key[:at] + draw(st.sampled_from(["", "s", "-", ".x"])) + key[at + 1 :]] = 1
            case "text":
                section[draw(TEXTS)] = section[key]
            case "remove":
                del section[key]
    return config


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """A plain value as YAML, in the styles that people write."""
    text = draw(_block(value, 0)) if isinstance(value, dict) and value else _flow(value)
    before = draw(st.sampled_from(["", "", "\ufeff", "---\n", "# comment\n\n", "%YAML 1.2\n---\n"]))
    after = draw(st.sampled_from(["", "", "\n...\n", "  # comment", "\n\n\n"]))
    text = before + text + after
    return text.replace("\n", "\r\n") if draw(st.integers(0, 9)) == 9 else text


@st.composite
def _block(draw: st.DrawFn, value: Any, indent: int) -> str:
    lines = []
    for key, each in value.items():
        name = " " * indent + (key if key.isidentifier() else _quoted(key)) + ":"
        if isinstance(each, dict) and each and draw(st.booleans()):
            lines.append(f"{name}\n{draw(_block(each, indent + draw(st.integers(1, 4))))}")
        elif isinstance(each, list) and each and draw(st.booleans()):
            lines += [name, *(f"{' ' * indent}- {_flow(one)}" for one in each)]
        else:
            lines.append(f"{name} {_flow(each)}")
    return "\n".join(lines)


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{_quoted(key)}: {_flow(each)}" for key, each in value.items()) + "}"
        )
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, float):
        return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(repr(value), repr(value))
    return json.dumps(value)


_PLAIN = set(string.ascii_letters + string.digits + " _/.-+*")


def _quoted(text: str) -> str:
    """In double quotes, with YAML's own escapes for whatever is not plain."""
    return '"' + "".join(c if c in _PLAIN else f"\\U{ord(c):08x}" for c in text) + '"'


_PLAIN_SCALARS = (
    "x 1 -0 0123 0o17 0xff 1e-3 1. .5 +.inf .NaN 1e999 no ~ '' 'it''s' | >- |2 &a *a !x"
)
_ODD_SCALARS = r"""<< @ ` % { ] [[[[[[ [[[[ [[] "\e[31m" "\UFFFFFFFF" "\uD800" "\x"""
_SCALARS = [*_PLAIN_SCALARS.split(), *_ODD_SCALARS.split(), "9" * 5000, "0x" + "f" * 5000, ""]
_SCALARS += ["&a [*a]", "!!str 1", "!!binary aGk=", "!%1b[31m x", "!!python/name:os.system x"]
_SCALARS += ["? x", ": y", "[1, 2", "{a: 1, a: 2}", "\t", "a: b: c", "\0"]
_SOME_KEYS = "data source fit epochs seed model << ?a 'b' [1]"
_LINES = ["{key}: {scalar}", "{key}:", "- {scalar}", "-", "{scalar}", "- {key}: {scalar}"]
_LINES += ["---", "...", "# {scalar}", "%TAG ! x"]


@st.composite
def yaml_lines(draw: st.DrawFn) -> str:
    """Lines that look like YAML, in any order and indentation."""
    scalars = st.sampled_from(_SCALARS) | st.text(max_size=6)
    lines = []
    for _ in range(draw(st.integers(1, 12))):
        indent = draw(st.sampled_from(["", "", "  ", "    ", "\t", " "]))
        mark, key = draw(st.sampled_from(_LINES)), draw(st.sampled_from(_SOME_KEYS.split()))
        lines.append(indent + mark.format(key=key, scalar=draw(scalars)))
    return draw(st.sampled_from(["\n", "\n", "\r", "\u2028"])).join(lines)

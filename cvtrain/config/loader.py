"""A YAML file and `--set` texts -> a checked Config, or every mistake at once.

Each mistake reads `file:line: key: what is expected; what was received`. Nothing in here imports
TensorFlow, so that it is told in a fraction of a second.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from cvtrain.config import yaml
from cvtrain.config.project import STAGES, Config
from cvtrain.config.section import Section, field_docs, sections_in
from cvtrain.errors import ConfigError

KeyPath = tuple[str | int, ...]


def load_config(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Read and check a config.

    Args:
        path: the YAML file; relative paths in it count from its folder.
        overrides: `key.path=value` texts, the value in YAML; they win over the file.

    Raises:
        ConfigError: every mistake at once, one a line: `file:line: key: what`.
    """
    values, origins = _read_file(path)
    for override in overrides:
        _apply(values, origins, override)
    return _validate(values, origins, str(path), folder=path.parent)


def config_for_source(source: str, overrides: Iterable[str] = ()) -> Config:
    """The defaults for `source`, for commands that look at images without a config.

    Raises:
        ConfigError: an override is wrong.
    """
    values: dict[str, Any] = {"data": {"source": source}}
    origins = Origins("defaults", {})
    for override in overrides:
        _apply(values, origins, override)
    return _validate(values, origins, source, folder=Path())


def dump_config(config: Config, command: str | None = None) -> str:
    """The config as YAML, every default written out; `load_config` reads it back.

    Args:
        command: leave out the sections that this command does not read; None keeps all.
    """
    import yaml as pyyaml

    return pyyaml.safe_dump(config_values(config, command), sort_keys=False, allow_unicode=True)


def config_values(config: Config, command: str | None = None) -> dict[str, Any]:
    """The config as plain values of JSON, sections in sections; `command` as in `dump_config`."""
    unread = set().union(*STAGES.values()) - STAGES[command] if command else None
    return config.model_dump(mode="json", exclude=unread)


class Origins:
    """Where each value came from, for messages: a line of the file or a --set."""

    def __init__(self, name: str, lines: Mapping[KeyPath, int]):
        self.name = name
        self.lines = dict(lines)
        self.overridden: dict[KeyPath, str] = {}

    def of(self, path: KeyPath) -> str:
        """`file:line` or `--set ...` of the value at `path`, or of what it stands in."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.overridden:
                return self.overridden[path[:length]]
            if path[:length] in self.lines and (length or not self.overridden):
                return f"{self.name}:{self.lines[path[:length]]}"
        return self.name


def _read_file(path: Path) -> tuple[dict[str, Any], Origins]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file", _advice_for_missing(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text in UTF-8", "Save the file as UTF-8.") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {(error.strerror or '').lower()}") from error
    try:
        value, lines = yaml.load(text)
    except yaml.YamlError as error:
        raise ConfigError(f"{path}:{error.line}: {error.what}") from error
    if value is None:
        raise ConfigError(f"{path}: is empty", "The least is: data: {source: FOLDER}")
    if not isinstance(value, dict):
        raise ConfigError(f"{path}:1: must be sections such as `data:`; received {_show(value)}")
    return value, Origins(str(path), lines)


def _advice_for_missing(path: Path) -> str:
    found = sorted(str(p) for p in (path.parent if path.parent.is_dir() else Path()).glob("*.y*ml"))
    close = difflib.get_close_matches(str(path), found, 1)
    if close:
        return f"Did you mean {close[0]}?"
    return (
        "Name a config: cvtrain fit FILE.yaml. The least that one says is: data: {source: FOLDER}"
    )


def _apply(values: dict[str, Any], origins: Origins, override: str) -> None:
    """Write one `key.path=value` into `values`."""
    key, equals, text = override.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise ConfigError(
            f"--set {override}: must be key.path=value", "For example: --set fit.epochs=5"
        )
    try:
        value = yaml.load(text).value
    except yaml.YamlError as error:
        raise ConfigError(f"--set {override}: {error.what}") from error
    section = values
    for part in path[:-1]:
        if not isinstance(section.get(part), dict):
            section[part] = {}
        section = section[part]
    section[path[-1]] = value
    origins.overridden[path] = f"--set {override}"


def _validate(values: dict[str, Any], origins: Origins, name: str, *, folder: Path) -> Config:
    try:
        # JSON, because strict typing then still takes a list for a tuple.
        Config.model_validate_json(json.dumps(values))
        absolute = _with_absolute_paths(values, (), origins, folder)
        return Config.model_validate_json(json.dumps(absolute))
    except ValidationError as error:
        problems = _explain(error, values, origins)
    count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    raise ConfigError("\n".join(problems), f"{name} has {count}; nothing was started.")


def _explain(error: ValidationError, values: Any, origins: Origins) -> list[str]:
    """One line per wrong key: where, key, what, received, what to do; in the order of the file."""
    problems: dict[KeyPath, str] = {}
    for item in error.errors(include_url=False):
        loc = (*item["loc"], "name") if item["type"] == "union_tag_invalid" else item["loc"]
        path = _path_in(values, loc, missing=item["type"] in ("missing", "extra_forbidden"))
        problems.setdefault(path, _what(item, path))

    def position(path: KeyPath) -> tuple[bool, int]:
        known = [
            origins.lines[path[:n]] for n in range(1, len(path) + 1) if path[:n] in origins.lines
        ]
        return not known, known[-1] if known else 0

    return [f"{origins.of(p)}: {problems[p]}" for p in sorted(problems, key=position)]


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
            tail = "" if isinstance(received, dict) else f"; received {_show(received)}"
            return f"{key}: {text}{tail}" if key else text
        case "too_short":
            at_least = item["ctx"]["min_length"]
            values = "value" if at_least == 1 else "values"
            return f"{key}: must have at least {at_least} {values}; received {_show(received)}"
        case "model_type" | "model_attributes_type" | "dict_type":
            keys = ", ".join(_fields(loc))
            return f"{key}: must be a section with keys ({keys}); received {_show(received)}"
    what = _PLAIN_WORDS.get(item["type"], item["msg"].removeprefix("Input should be "))
    return f"{key}: must be {what}; received {_show(received)}"


_PLAIN_WORDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "tuple_type": "a list such as [1, 2]",
}


def _show(value: Any) -> str:
    if isinstance(value, str):
        return f"the text '{value[:60]}'"
    if isinstance(value, dict):
        return "a section"
    if value is None:
        return "nothing"
    return json.dumps(value)[:60]


def _annotation_at(loc: KeyPath) -> Any:
    """What the sections declare at pydantic's `loc`; None where there is no such key."""
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
    """What its key `name` may say."""
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
    """What was received, and which of the choices that may have meant."""
    close = difflib.get_close_matches(str(received), choices, 1)
    return _show(received) + (f". Did you mean {close[0]}?" if close else "")


def _did_you_mean(path: KeyPath, loc: KeyPath) -> str:
    """The nearest key of this section, else the place where a key of this name does stand."""
    here = _fields(loc[:-1])
    prefix = ".".join(map(str, path[:-1]))
    name = str(path[-1])
    begins = [key for key in here if key.startswith(name)]
    if close := begins or difflib.get_close_matches(name, here, 1):
        return f"Did you mean {prefix}{'.' if prefix else ''}{close[0]}?"
    elsewhere = [key for key in _all_keys(Config, "") if key.rpartition(".")[2] == name]
    if ".".join(map(str, path)) in elsewhere:
        return f"Another {path[-2]} has it; known here: {', '.join(here)}."
    if elsewhere:
        return f"Did you mean {elsewhere[0]}?"
    return f"Known here: {', '.join(here)}."


def _all_keys(model: type[Section], prefix: str) -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        for section in sections_in(field.annotation):
            keys += _all_keys(section, f"{prefix}{name}.")
    return keys


def _with_absolute_paths(value: Any, path: KeyPath, origins: Origins, folder: Path) -> Any:
    """Relative paths in a config count from its folder; those of --set from the current one."""
    from cvtrain.data.sources import NAMED_SETS

    if isinstance(value, dict):
        return {
            key: _with_absolute_paths(each, (*path, key), origins, folder)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [_with_absolute_paths(each, (*path, 0), origins, folder) for each in value]
    words = {"source": NAMED_SETS, "weights": ("imagenet", "none")}.get(str(path[-1]))
    if not isinstance(value, str) or words is None or value in words:
        return value
    overridden = any(path[:length] in origins.overridden for length in range(1, len(path) + 1))
    return str(((Path() if overridden else folder) / Path(value).expanduser()).absolute())

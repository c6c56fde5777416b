"""Load a YAML file and `--set` values into a checked Config, or report every mistake at once.

Each mistake reads `file:line: key: what is expected; what was received`. Nothing here imports
TensorFlow, so that mistakes are reported in a fraction of a second.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cvtrain.config import yaml
from cvtrain.config.project import Config, KeyPath, Origins
from cvtrain.config.validation_messages import in_words, mistakes, shown
from cvtrain.errors import ConfigError
from cvtrain.runs.commands import RUN_COMMANDS

_MOST_LISTED = 20
_RETIRED: dict[KeyPath, Any] = {
    ("cached_features",): "bfloat16",
    ("extract_features", "head", "neighbors"): 20,
}
"""Keys in configs of runs of earlier versions, and the value for which they are ignored."""


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


def config_for_source(
    source: str, overrides: Iterable[str] = (), *, columns: str | None = None
) -> Config:
    """The default config of `source`, for commands on images without a config file.

    Args:
        source: value of `data.source`.
        overrides: as in `load_config`.
        columns: value of the option --columns: `data.columns` in YAML.

    Raises:
        ConfigError: an override is wrong.
    """
    values: dict[str, Any] = {"data": {"source": source}}
    origins = Origins("defaults", {})
    for override in overrides:
        _apply(values, origins, override)
    if columns is not None:
        _apply(values, origins, f"data.columns={columns}", said=f"--columns {shown(columns)}")
    return _validate(values, origins, source, folder=Path())


def config_from_values(values: Mapping[str, Any]) -> Config:
    """Check a config in the form of its YAML file; relative paths count from the current folder.

    Raises:
        ConfigError: every mistake at once, or a value that YAML does not have.
    """
    try:
        plain = json.loads(json.dumps(values, default=_plain))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"config: {error}", "Write it as in YAML: texts, numbers, lists."
        ) from error
    return _validate(plain, Origins("config", {}), "config", folder=Path())


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not a type that YAML has")


def dump_config(config: Config, command: str | None = None) -> str:
    """The config as YAML, every default written out; `load_config` reads it back.

    Args:
        command: omit the sections that this command does not read; None: keep all.
    """
    return yaml.dump(config_values(config, command))


def config_values(config: Config, command: str | None = None) -> dict[str, Any]:
    """The config as plain values of JSON, sections in sections; `command` as in `dump_config`."""
    every = set().union(*(each.sections for each in RUN_COMMANDS.values()))
    unread = every - RUN_COMMANDS[command].sections if command else None
    return config.model_dump(mode="json", exclude=unread)


def _read_file(path: Path) -> tuple[dict[str, Any], Origins]:
    try:
        with path.open("rb") as file:
            content = file.read(yaml.MAX_BYTES + 1)
        value, lines = yaml.load(content.decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file", _advice_for_missing(path)) from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}:{line}: not a text in UTF-8", "Save the file as UTF-8."
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {(error.strerror or str(error)).lower()}",
            "Name a config: cvtrain fit FILE.yaml",
        ) from error
    except yaml.YamlError as error:
        raise ConfigError(f"{path}:{error.line}: {shown(error.what)}", error.advice) from error
    if value is None:
        raise ConfigError(f"{path}: is empty", "The least is: data: {source: FOLDER}")
    if not isinstance(value, dict):
        raise ConfigError(
            f"{path}:1: must be sections such as `data:`; received {shown(in_words(value))}",
            "The least is: data: {source: FOLDER}; a space belongs after each colon.",
        )
    for key, harmless in _RETIRED.items():
        _drop(value, key, harmless)
    return value, Origins(str(path), lines)


def _drop(section: Any, path: KeyPath, value: Any) -> None:
    """Take a key out of a section where it has this value."""
    for part in path[:-1]:
        section = section.get(part) if isinstance(section, dict) else None
    if isinstance(section, dict) and section.get(path[-1]) == value:
        del section[path[-1]]


def _advice_for_missing(path: Path) -> str:
    found = sorted(str(p) for p in (path.parent if path.parent.is_dir() else Path()).glob("*.y*ml"))
    close = difflib.get_close_matches(str(path), found, 1)
    if close:
        return f"Did you mean {close[0]}?"
    return (
        "Name a config: cvtrain fit FILE.yaml. The least that one says is: data: {source: FOLDER}"
    )


def _apply(
    values: dict[str, Any], origins: Origins, override: str, said: str | None = None
) -> None:
    """Write one `key.path=value` into `values`; `said`: the option for messages, if not --set."""
    key, equals, text = override.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise ConfigError(
            f"--set {shown(override)}: must be key.path=value", "For example: --set fit.epochs=5"
        )
    said = said or f"--set {shown(override)}"
    try:
        value = yaml.load(text).value
    except yaml.YamlError as error:
        raise ConfigError(f"{said}: {shown(error.what)}", error.advice) from error
    section = values
    for part in path[:-1]:
        if not isinstance(section.get(part), dict):
            section[part] = {}
        section = section[part]
    section[path[-1]] = value
    origins.overridden[path] = said


def _validate(values: dict[str, Any], origins: Origins, name: str, *, folder: Path) -> Config:
    try:
        # JSON, because strict typing then still takes a list for a tuple.
        Config.model_validate_json(json.dumps(values))
        absolute = _with_absolute_paths(values, (), origins, folder)
        config = Config.model_validate_json(json.dumps(absolute))
        config.know(origins)
        return config
    except ValidationError as error:
        problems = _explain(error, values, origins)
    count = "1 mistake" if len(problems) == 1 else f"{len(problems):,} mistakes"
    if (more := len(problems) - _MOST_LISTED) > 0:
        problems[_MOST_LISTED:] = [f"and {more:,} more"]
    raise ConfigError("\n".join(problems), f"{name} has {count}; nothing was started.")


def _explain(error: ValidationError, values: Any, origins: Origins) -> list[str]:
    """One line per wrong key: where, key, what, received, what to do; in the order of the file."""
    problems = mistakes(error, values)

    def position(path: KeyPath) -> tuple[bool, int]:
        known = [
            origins.lines[path[:n]] for n in range(1, len(path) + 1) if path[:n] in origins.lines
        ]
        return not known, known[-1] if known else 0

    return [f"{origins.of(p)}: {shown(problems[p])}" for p in sorted(problems, key=position)]


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
    try:
        expanded = Path(value).expanduser()
    except RuntimeError as error:
        key = ".".join(map(str, path))
        raise ConfigError(
            f"{origins.of(path)}: {key}: there is no home folder {shown(Path(value).parts[0])}",
            "Write the whole path; ~ alone is your own home folder.",
        ) from error
    return str(((Path() if overridden else folder) / expanded).absolute())

"""Writes the pages of the reference from the code: `make docs`.

cli.md from the commands' own help, config.md and config.schema.json from the config's sections, the
table of run.json in run-folder.md from its schema. A test demands that what is committed is what
this writes.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import BaseModel

from cvtrain.cli import cli
from cvtrain.config.schema import config_schema
from cvtrain.runs.record import RunRecord
from cvtrain.sections.base import field_docs

DOCS = Path(__file__).parent
WIDTH = 100
TABLE = "<!-- make docs: the fields of cvtrain.runs.record.RunRecord -->\n"


def main() -> None:
    """Write every generated page."""
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """File name -> text of every generated page."""
    schema = config_schema()
    page = (DOCS / "run-folder.md").read_text(encoding="utf-8")
    before, _, after = page.split(TABLE)
    return {
        "cli.md": "\n".join(command_reference()) + "\n",
        "config.md": "\n".join(config_reference(schema)) + "\n",
        "config.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n",
        "run-folder.md": "".join([before, TABLE, *record_reference(), TABLE, after]),
    }


def command_reference() -> Iterator[str]:
    """The help of every command, as a terminal shows it."""
    yield "# Commands\n\nThis page shows the help of every command. `make docs` generates it."
    for context in _contexts(click.Context(cli, info_name="cvtrain", **cli.context_settings)):
        context.terminal_width = WIDTH
        text = context.get_help().rstrip()
        lines = "\n".join(line.rstrip() for line in text.splitlines())
        yield f"\n## {context.command_path}\n\n```text\n{lines}\n```"


def _contexts(context: click.Context) -> Iterator[click.Context]:
    """A context of each command, as it is when a person types the command."""
    yield context
    command = context.command
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            yield from _contexts(click.Context(inner, parent=context, info_name=name))


def config_reference(schema: dict[str, Any]) -> Iterator[str]:
    """Every key of a config: what it takes, its default, what it means."""
    yield (
        "# Config\n\nThis page lists every key; `make docs` generates it from the code. "
        "A key that is left out has its default.\n"
        "An unknown key is an error that suggests the nearest known key. "
        "`cvtrain schema` prints the JSON Schema of a config."
    )
    yield from _section("The whole file", schema)
    for name, section in schema["$defs"].items():
        yield from _section(name, section)


def _section(title: str, section: dict[str, Any]) -> Iterator[str]:
    yield f"\n## {title}\n\n{_one_line(section['description'])}\n"
    yield "| key | takes | default | meaning |\n|---|---|---|---|"
    required = section.get("required", ())
    for key, field in section["properties"].items():
        default = "required" if key in required else _default(field)
        cells = (f"`{key}`", _kind(field), default, _one_line(field["description"]))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _kind(field: dict[str, Any]) -> str:
    """What a value may be, in words."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if choices := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(_kind(choice) for choice in choices if choice.get("type") != "null")
    if "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if "prefixItems" in field:
        return "[" + ", ".join(_kind(item) for item in field["prefixItems"]) + "]"
    if "items" in field:
        return f"list of {_kind(field['items'])}"
    words = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "`true`, `false`",
    }
    return " ".join([words[field["type"]], *_range(field)])


def _range(field: dict[str, Any]) -> Iterator[str]:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    for name, sign in signs.items():
        if name in field:
            yield f"{sign} {field[name]}"


def record_reference() -> Iterator[str]:
    """The table of the fields of run.json."""
    yield "\n| field | type | meaning |\n|---|---|---|\n"
    yield from _fields(RunRecord)
    yield "\n"


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """A row for each field; for each of its own fields where those have a meaning of their own."""
    docs = field_docs(model)
    for name, field in model.model_fields.items():
        if name in docs:
            kind, meaning = _json_type(field.annotation), _one_line(docs[name])
            yield f"| `{prefix}{name}` | {kind} | {meaning} |\n"
        else:
            (inner,) = (t for t in (field.annotation, *get_args(field.annotation)) if _is_model(t))
            yield from _fields(inner, f"{name}.")


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _json_type(kind: Any) -> str:
    """What a value is in JSON, in the words of Python."""
    origin, parts = get_origin(kind), [p for p in get_args(kind) if p not in (NoneType, Ellipsis)]
    if origin is Literal:
        return "str"
    if origin in (list, tuple):
        return f"[{', '.join(map(_json_type, parts))}]"
    if origin is dict or _is_model(kind):
        return "object"
    return _json_type(parts[0]) if parts else {"datetime": "str"}.get(kind.__name__, kind.__name__)


def _default(field: dict[str, Any]) -> str:
    if "$ref" in field or "oneOf" in field or field["default"] is None:
        return ""
    return f"`{json.dumps(field['default'])}`"


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    main()

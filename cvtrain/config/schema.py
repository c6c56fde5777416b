"""What a YAML may say, as JSON Schema: editors complete and check a config with it."""

from typing import Any

from cvtrain.config.project import Config
from cvtrain.sections.base import Section, field_docs

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def config_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a config, each key with its documentation.

    It knows keys, types, ranges and choices. What depends on several keys at once, only
    `load_config` knows.
    """
    schema = Config.model_json_schema()
    definitions = schema.get("$defs", {})
    sections: list[type[Section]] = [Config, *_subclasses(Section)]
    for section in sections:
        described = schema if section is Config else definitions.get(section.__name__, {})
        docs = field_docs(section)
        for name, field in described.get("properties", {}).items():
            field.pop("title", None)
            field["description"] = docs[name]
    return {"$schema": DIALECT, **schema, "title": "cvtrain config"}


def _subclasses(section: type[Section]) -> list[type[Section]]:
    found = section.__subclasses__()
    return [*found, *(deeper for one in found for deeper in _subclasses(one))]

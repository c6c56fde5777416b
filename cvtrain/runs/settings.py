"""The settings of a run as one flat table, for comparisons."""

import json
from collections.abc import Iterator, Mapping
from typing import Any


def flat_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return each setting under its full name, as text: `fit.epochs`: `30`; None is left out."""
    return dict(_items(settings))


def _items(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _items(inner, f"{name}.{key}" if name else str(key))
    elif value is not None:
        yield name, value if isinstance(value, str) else json.dumps(value, default=str)

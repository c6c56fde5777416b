"""YAML text -> plain values that know their line.

PyYAML's `safe_load` follows YAML 1.1: `1e-3` is a string, `no` is False, `0123` is 83, the last of
two equal keys wins in silence and a 300-byte alias bomb fills the memory. This loader keeps
PyYAML's parser and replaces its meaning by the core schema of YAML 1.2
(https://yaml.org/spec/1.2.2/#103-core-schema), refuses equal keys and tags, and bounds size, depth
and number of values.
"""

import re
from typing import Any, NamedTuple

import yaml

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_VALUES = 10_000

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True)
_WORDS |= dict.fromkeys(("false", "False", "FALSE"), False)
_PREFIX = {"0o": 8, "0x": 16}


class Document(NamedTuple):
    """A YAML text as plain dicts, lists and scalars.

    `lines` maps the path of each value (keys and list positions) to its line, counted from 1.
    """

    value: Any
    lines: dict[tuple[str | int, ...], int]


class YamlError(ValueError):
    """The text is not a YAML that we accept: `line` (from 1) and `what`."""

    def __init__(self, line: int, what: str):
        super().__init__(f"line {line}: {what}")
        self.line = line
        self.what = what


def load(text: str) -> Document:
    """Read one YAML document.

    Raises:
        YamlError: bad syntax, equal keys, a tag, or more than the limits above allow.
    """
    if len(text.encode("utf-8", errors="replace")) > MAX_BYTES:
        raise YamlError(1, f"larger than {MAX_BYTES:,} bytes; a config is a page, not a data set")
    try:
        _check_events(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise YamlError(mark.line + 1 if mark else 1, f"not valid YAML: {what}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError(line, f"not valid YAML: {error.reason}") from error
    document = Document(None, {})
    if node is None:
        return document
    return document._replace(value=_Reader(document.lines).read(node, ()))


def scalar(text: str) -> Any:
    """A plain (unquoted) scalar by the core schema of YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, _PREFIX.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text


def _check_events(text: str) -> None:
    """Refuse tags, and deep nesting while it is still a flat stream: composing it recurses."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if getattr(event, "tag", None) is not None:
            line = event.start_mark.line + 1
            raise YamlError(line, f"the tag {event.tag} is not supported; write the plain value")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1
                raise YamlError(line, f"nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Reader:
    """Turns composed nodes into values, and notes the line of each."""

    def __init__(self, lines: dict[tuple[str | int, ...], int]):
        self.lines = lines
        self.num_values = 0

    def read(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if len(path) > MAX_DEPTH:  # an alias to what it stands in
            raise YamlError(
                line, f"nested deeper than {MAX_DEPTH} levels once aliases are expanded"
            )
        self.num_values += 1
        if self.num_values > MAX_VALUES:
            raise YamlError(line, f"more than {MAX_VALUES:,} values once aliases are expanded")
        if isinstance(node, yaml.MappingNode):
            return self._read_mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(child, (*path, i)) for i, child in enumerate(node.value)]
        return scalar(node.value) if node.style is None else node.value

    def _read_mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, child in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlError(line, "a key must be a plain word")
            key = key_node.value
            here = (*path, key)
            if key in result:
                raise YamlError(
                    line,
                    f"the key '{key}' stands twice, first on line {self.lines[here]}; keep one",
                )
            self.lines.setdefault(here, line)
            result[key] = self.read(child, here)
        return result

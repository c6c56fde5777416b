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
_MAX_EVENTS = 3 * MAX_VALUES
"""A value is at most three: its key, its beginning and its end."""

# Python refuses to print a number of more than 4,300 digits; nobody means one of a thousand.
_INT = re.compile(r"[-+]?[0-9]{1,1000}|0o[0-7]{1,1000}|0x[0-9a-fA-F]{1,1000}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True)
_WORDS |= dict.fromkeys(("false", "False", "FALSE"), False)
_PREFIX = {"0o": 8, "0x": 16}
_A_PAGE = "A config is a page, not a data set."
_BEYOND_UNICODE = re.compile(r"\\U(?!0010|000)[0-9a-fA-F]{8}")


class _Mistake(NamedTuple):
    """A common mistake: a pattern of PyYAML's message, what is wrong and what to do.

    `begins`: the line to name is where the construct begins, not where PyYAML stopped.
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


class Document(NamedTuple):
    """A YAML text as plain dicts, lists and scalars.

    `lines` maps the path of each value (keys and list positions) to its line, counted from 1.
    """

    value: Any
    lines: dict[tuple[str | int, ...], int]


class YamlError(Exception):
    """The text is not a YAML that we accept: `line` (from 1), `what`, and `advice` or nothing."""

    def __init__(self, line: int, what: str, advice: str = ""):
        super().__init__(f"line {line}: {what}")
        self.line = line
        self.what = what
        self.advice = advice


def load(text: str) -> Document:
    """Read one YAML document.

    Raises:
        YamlError: bad syntax, equal keys, a tag, or more than the limits above allow.
    """
    if len(text.encode("utf-8", errors="replace")) > MAX_BYTES:
        raise YamlError(1, f"larger than {MAX_BYTES:,} bytes", _A_PAGE)
    try:
        _check_events(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line, what, advice = _explained(error)
        raise YamlError(line, f"not valid YAML: {what}", advice) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"not valid YAML: the character U+{error.character:04X}"
        raise YamlError(line, what, "Remove it; the file must be plain text in UTF-8.") from error
    except (ValueError, OverflowError) as error:  # what `chr` and `int` say to PyYAML
        escape = _BEYOND_UNICODE.search(text)
        line = text.count("\n", 0, escape.start() if escape else 0) + 1
        raise YamlError(line, "not valid YAML: an escape or a version is too large") from error
    document = Document(None, {})
    if node is None:
        return document
    return document._replace(value=_Reader(document.lines).read(node, ()))


def dump(value: Any) -> str:
    """Plain dicts, lists and scalars as YAML that `load` reads as the same."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


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
    """Refuse tags, and too much while it is still a flat stream: composing it recurses."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        assert event.start_mark is not None
        line = event.start_mark.line + 1
        if number > _MAX_EVENTS:
            raise YamlError(line, f"more than {MAX_VALUES:,} values", _A_PAGE)
        if (tag := getattr(event, "tag", None)) is not None:
            raise YamlError(line, f"the tag {tag} is not supported", "Write the plain value.")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise YamlError(line, f"nested deeper than {MAX_DEPTH} levels", _A_PAGE)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _explained(error: yaml.MarkedYAMLError) -> tuple[int, str, str]:
    """Line from 1, what is wrong and what to do, for people who have not read the standard."""
    said = " ".join(part for part in (error.context, error.problem) if part)
    for mistake in _MISTAKES:
        if re.search(mistake.said, said):
            mark = error.context_mark if mistake.begins else error.problem_mark
            return _line(mark), mistake.what, mistake.advice
    return _line(error.problem_mark or error.context_mark), said, ""


def _line(mark: yaml.Mark | None) -> int:
    return mark.line + 1 if mark else 1


class _Reader:
    """Turns composed nodes into values, and notes the line of each."""

    def __init__(self, lines: dict[tuple[str | int, ...], int]):
        self.lines = lines
        self.num_values = 0
        self.num_characters = 0

    def read(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if len(path) > MAX_DEPTH:  # an alias to what it stands in
            raise YamlError(
                line, f"nested deeper than {MAX_DEPTH} levels once aliases are expanded", _A_PAGE
            )
        self.num_values += 1
        if self.num_values > MAX_VALUES:
            raise YamlError(
                line, f"more than {MAX_VALUES:,} values once aliases are expanded", _A_PAGE
            )
        if isinstance(node, yaml.MappingNode):
            return self._read_mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(child, (*path, i)) for i, child in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        text = self._text(node)
        return scalar(text) if node.style is None else text

    def _read_mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, child in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlError(line, "a key must be a plain word", "Write key: value.")
            key = self._text(key_node)
            if key == "<<" and key_node.style is None:
                raise YamlError(line, "YAML 1.2 has no merge keys (<<)", "Write the keys out.")
            here = (*path, key)
            if key in result:
                raise YamlError(
                    line,
                    f"the key '{key}' stands twice, first on line {self.lines[here]}",
                    "Keep one of them.",
                )
            self.lines.setdefault(here, line)
            result[key] = self.read(child, here)
        return result

    def _text(self, node: yaml.ScalarNode) -> str:
        line = node.start_mark.line + 1
        text: str = node.value
        self.num_characters += len(text)
        if self.num_characters > MAX_BYTES:
            raise YamlError(
                line, f"more than {MAX_BYTES:,} characters once aliases are expanded", _A_PAGE
            )
        try:  # JSON writes a character beyond the first 65,536 as two halves
            return text.encode("utf-16", errors="surrogatepass").decode("utf-16")
        except UnicodeDecodeError as error:
            what = "half of a character (an escape \\ud800 to \\udfff)"
            raise YamlError(line, what, "Write the character itself.") from error


class _Dumper(yaml.SafeDumper):
    """Quotes what `scalar` would take for something else; PyYAML quotes by YAML 1.1."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # Escaped where it is not printable: YAML reads some such characters as ends of lines.
    is_plain = text.isprintable() and isinstance(scalar(text), str)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, None if is_plain else '"')


_Dumper.add_representer(str, _represent_text)

"""The core schema of YAML 1.2, and everything that PyYAML's safe_load lets through."""

import math

import pytest

from cvtrain.config.yaml import MAX_DEPTH, YamlError, load


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),  # PyYAML: a string
        ("1E+2", 100.0),
        (".5", 0.5),
        ("-7", -7),
        ("0123", 123),  # YAML 1.1: octal 83
        ("0o17", 15),
        ("0xff", 255),
        ("1_000", "1_000"),  # YAML 1.1: 1000
        ("12:30", "12:30"),  # YAML 1.1: 750
        ("2026-01-01", "2026-01-01"),  # YAML 1.1: a date
        ("no", "no"),  # YAML 1.1: False
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("'1'", "1"),
        ('"true"', "true"),
        ("text", "text"),
        ("<<", "<<"),
        ("=", "="),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    loaded = load(f"key: {text}").value["key"]
    assert loaded == value
    assert type(loaded) is type(value)


def test_nan_is_a_number():
    assert math.isnan(load("key: .nan").value["key"])


def test_lines_of_keys_and_items():
    document = load("a: 1\nb:\n  c: 2\n  d:\n    - x\n    - y\n")
    assert document.value == {"a": 1, "b": {"c": 2, "d": ["x", "y"]}}
    assert document.lines[("a",)] == 1
    assert document.lines[("b", "c")] == 3
    assert document.lines[("b", "d", 1)] == 6


def test_an_empty_text_is_nothing():
    assert load("# only a comment\n").value is None


def test_aliases_within_limits_are_values():
    assert load("a: &x [1, 2]\nb: *x").value == {"a": [1, 2], "b": [1, 2]}


def test_an_alias_bomb_is_refused_quickly():
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(YamlError, match="aliases"):
        load("\n".join(lines))


def test_an_alias_to_itself_is_refused():
    with pytest.raises(YamlError):
        load("a: &a [*a]")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3", 3, "twice, first on line 1"),
        ("fit:\n  epochs: 1\n  epochs: 2", 3, "twice"),
        ("a: [1, 2", 1, "not valid YAML"),
        ("a: 1\n\tb: 2", 2, "not valid YAML"),
        ("a: b: c", 1, "not valid YAML"),
        ("a: !!python/name:os.system x", 1, "tag"),
        ("a: !!python/object/apply:os.system ['true']", 1, "tag"),
        ("a: !custom 1", 1, "tag"),
        ("? [1, 2]\n: x", 1, "plain word"),
        ("a: 1\n---\nb: 2", 2, "not valid YAML"),
        ("[" * (MAX_DEPTH + 1), 1, "nested deeper"),
        ("{a: " * 5000, 1, "nested deeper"),
        ("a: \x00", 1, "not valid YAML"),
        ("a: *nowhere", 1, "not valid YAML"),
        ("a: " + "x" * 1_000_001, 1, "larger than"),
    ],
)
def test_refused_with_the_line(text, line, words):
    with pytest.raises(YamlError) as caught:
        load(text)
    assert words in caught.value.what
    assert caught.value.line >= line

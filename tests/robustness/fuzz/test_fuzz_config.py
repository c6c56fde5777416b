"""Configs: sound ones survive being written, wrong ones are told with their lines."""

import json
import math
import string
from fractions import Fraction

import pytest
from fuzz_bytes import damaged
from fuzz_seeds import SEEDS
from fuzz_yaml import CONFIGS, TEXTS, mistaken, written, yaml_lines
from hypothesis import event, example, given
from hypothesis import strategies as st

from cvtrain.config import dump_config, load_config, yaml
from cvtrain.errors import ConfigError


@given(CONFIGS.flatmap(written))
def test_what_is_accepted_survives_dump_and_load(child, text):
    child.check("config", text.encode("utf-8", errors="surrogatepass"))


def test_most_of_the_configs_that_are_drawn_are_accepted(tmp_path):
    accepted = []

    @given(CONFIGS)
    @example({"data": {"source": "digits"}})
    def load(values):
        path = tmp_path / "config.yaml"
        path.write_text(json.dumps(values), encoding="utf-8")
        try:
            config = load_config(path)
        except ConfigError:
            accepted.append(False)
        else:
            accepted.append(True)
            again = tmp_path / "again.yaml"
            again.write_text(dump_config(config), encoding="utf-8")
            assert load_config(again) == config

    load()
    assert sum(accepted) > len(accepted) / 4


@given(mistaken(CONFIGS).flatmap(written))
def test_mistakes_are_told_with_their_lines(child, text):
    child.check("config", text.encode("utf-8", errors="surrogatepass"))


@given(yaml_lines().map(str.encode) | damaged(SEEDS["config"]()) | st.binary(max_size=200))
def test_any_bytes_are_a_config_or_a_mistake(child, content):
    child.check("config", content)
    child.check("yaml_text", content)


@given(st.sampled_from(["data", "fit.epochs", "data.classes", "augment", "", "x.y", " . "]), TEXTS)
@example("data.source", "\x1b[31m")
def test_any_override_is_a_config_or_a_mistake(child, key, value):
    child.check("override", f"{key}={value}".encode("utf-8", errors="surrogatepass"))


@given(damaged(SEEDS["override"]()))
def test_damaged_overrides(child, content):
    child.check("override", content)


_KEYS = st.text(string.ascii_letters + "é猫 -", min_size=1, max_size=8)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    # YAML breaks lines at more characters than JSON, and takes fewer as they are.
    | st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" ")),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=30,
)


@given(_JSON)
def test_json_is_yaml_and_means_the_same(value):
    assert yaml.load(json.dumps(value, ensure_ascii=False)).value == value


@given(
    st.text("0123456789+-.eExoabfF_", max_size=10)
    | st.sampled_from(["null", "~", "NULL", "nULL", "true", "tRUE", "FALSE", "no", "off", "y"])
    | st.sampled_from([".inf", "-.INF", "+.Inf", ".iNF", "inf", ".nan", "+.nan", "NaN", "٣", "²"])
)
@example("0o")
@example("+0x1")
@example("-.e5")
def test_scalars_follow_the_core_schema(text):
    expected, received = core_schema(text), yaml.scalar(text)
    assert type(received) is type(expected)
    assert received == expected or (math.isnan(received) and math.isnan(expected))


def core_schema(text):
    """The table of https://yaml.org/spec/1.2.2/#1032-tag-resolution, word by word.

    Without regular expressions and without Python's reading of numbers, so that it is independent.
    """
    words = {"null": None, "true": True, "false": False}
    for word, value in words.items():
        if text in (word, word.capitalize(), word.upper()):
            return value
    if text in ("", "~"):
        return None
    if text in (".nan", ".NaN", ".NAN"):
        return math.nan
    sign, unsigned = -1 if text[0] == "-" else 1, text[text[0] in "+-" :]
    if unsigned in (".inf", ".Inf", ".INF"):
        return sign * math.inf
    if are_digits(unsigned, 10):
        return sign * number(unsigned, 10)
    for prefix, base in (("0o", 8), ("0x", 16)):
        if text.startswith(prefix) and are_digits(text[2:], base):
            return number(text[2:], base)
    mantissa, e, exponent = unsigned.lower().partition("e")
    whole, point, part = mantissa.partition(".")
    down, power = exponent[:1] == "-", exponent[exponent[:1] in ("+", "-") :]
    are_all_digits = all(are_digits(each, 10) for each in (whole, part, power) if each)
    if not are_all_digits or not whole + part or (e and not power) or not (point or e):
        return text
    if number(power, 10) > 9999:
        return sign * (0.0 if down or not number(whole + part, 10) else math.inf)
    scale = Fraction(10) ** (number(power, 10) * (-1 if down else 1) - len(part))
    try:
        return sign * float(number(whole + part, 10) * scale)
    except OverflowError:
        return sign * math.inf


def are_digits(text, base):
    return bool(text) and all(c in "0123456789abcdef"[:base] for c in text.lower())


def number(digits, base):
    return sum("0123456789abcdef".index(c) * base**i for i, c in enumerate(digits.lower()[::-1]))


@pytest.mark.parametrize("text", ["+", "-", ".", "e5", "1e", "1e+", "0o8", "0xg", "1.5.2", "--1"])
def test_what_only_begins_as_a_number_is_a_text(text):
    assert yaml.scalar(text) == core_schema(text) == text


_FRAGMENTS = r"""a cat . \. \d [a-z] [^/] ^ $ / _ [[a] [a--b] \ \1 (?i) (?P<x>a) (?P=x) (?#c) (?<=a)
(?<!a+) (?(1)a|b)"""


@given(
    st.recursive(
        st.sampled_from(_FRAGMENTS.split()),
        lambda inner: st.builds(
            "{}{}{}{}".format,
            st.sampled_from(["(", "(?:", "", "(?>", "(?="]),
            st.lists(inner, max_size=3).map("".join) | st.lists(inner, max_size=3).map("|".join),
            st.sampled_from([")", ")", ""]),
            st.sampled_from(["", "", "*", "+?", "?", "{2}", "{,5}", "{99999999999}", "++"]),
        ),
        max_leaves=8,
    )
)
@example("(" * 2000 + "a" + ")" * 2000)
def test_any_label_pattern_is_compiled_or_refused(child, pattern):
    event("has one group" if pattern.count("(") == 1 else "other")
    child.check("pattern", pattern.encode("utf-8"))

"""Whatever cvtrain tells a person to type exists: every command, option and key, in any message.

That an advice also helps is tested where it is given; here nothing that cannot be typed gets by.
"""

import ast
import re
import shlex
from pathlib import Path

import click

import cvtrain
from cvtrain.cli import cli
from cvtrain.config.schema import config_schema

PACKAGE = Path(cvtrain.__file__).parent
OF_OTHERS = {
    *("--upgrade", "--force-reinstall"),  # pip
}
NAMED = "X"  # stands for what an f-string puts in


def texts():
    """(where, text) of each text that may be printed; docstrings are none."""
    for path in sorted(PACKAGE.rglob("*")):
        where = str(path.relative_to(PACKAGE))
        if path.suffix == ".j2":
            yield where, path.read_text()
        elif path.suffix == ".py":
            tree = ast.parse(path.read_text())
            skipped = {id(child) for node in ast.walk(tree) for child in not_printed(node)}
            for node in ast.walk(tree):
                if id(node) not in skipped and (text := text_of(node)):
                    yield f"{where}:{node.lineno}", text


def not_printed(node):
    """Docstrings, and the parts of f-strings."""
    if isinstance(node, ast.JoinedStr):
        yield from node.values
    body = getattr(node, "body", None)
    for child in body if isinstance(body, list) else ():
        if isinstance(child, ast.Expr):
            yield child.value


def text_of(node):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(v.value if isinstance(v, ast.Constant) else NAMED for v in node.values)
    return ""


def commands(group=cli, before=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*before, name))
        else:
            yield " ".join((*before, name)), command


COMMANDS = dict(commands())
TEXTS = list(texts())
OPTIONS = {o for c in COMMANDS.values() for p in c.params for o in (*p.opts, *p.secondary_opts)}
OPTIONS |= {"--help", "--version"}
KNOWN = "|".join(sorted(COMMANDS, key=len, reverse=True))


def test_commands_in_quotes_exist():
    quoted = [(w, c) for w, text in TEXTS for c in re.findall(r"`cvtrain ([^`]+)`", text)]
    assert len(quoted) > 10
    for where, command in quoted:
        assert re.match(rf"(?:{KNOWN})(?: |$)", command), (where, command)


def advised():
    """(where, command, its words) of every command line in a text."""
    for where, text in TEXTS:
        for command, rest in re.findall(rf"cvtrain ({KNOWN})(?![\w-])([^`\n;]*)", text):
            try:
                yield where, command, shlex.split(rest)
            except ValueError:  # an apostrophe of the sentence around it
                yield where, command, rest.split()


def test_options_of_advised_commands_are_theirs():
    lines = list(advised())
    assert len(lines) > 60
    for where, command, words in lines:
        own = {o for p in COMMANDS[command].params for o in (*p.opts, *p.secondary_opts)}
        for word in words:
            option = word.partition("=")[0].rstrip(".,:)")
            if option.startswith("--") and option in OPTIONS:
                assert option in own | {"--help"}, (where, command, option)


def test_every_option_exists():
    for where, text in TEXTS:
        if where.endswith(".j2"):  # their styles have names that look like options
            continue
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
            assert option in OPTIONS | OF_OTHERS, (where, option)


def keys(schema, definitions, path=""):
    """Every key of the config, with dots."""
    for part in (schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())):
        part = definitions[part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        for name, value in part.get("properties", {}).items():
            yield f"{path}{name}"
            yield from keys(value, definitions, f"{path}{name}.")
        if part is not schema and ("anyOf" in part or "oneOf" in part):
            yield from keys(part, definitions, path)


def test_every_key_that_is_to_be_set_exists():
    schema = config_schema()
    known = set(keys(schema, schema.get("$defs", {})))
    assert {"data.on_bad", "fit.optimizer.learning_rate"} <= known
    found = [
        (where, key)
        for where, text in TEXTS
        for key in re.findall(r"--set ['\"]?([a-z_.]+)=", text)
        if key != "key.path"
    ]
    assert len(found) > 8
    for where, key in found:
        assert key in known, (where, key)

"""Configs with a mistake in them: each is told by file, line, what was received and what to do."""

import functools
from pathlib import Path

import pytest
from command_line import run_all
from odd_yamls import LEAST, Read, Refused, read, syntax, values

from cvtrain.config import load_config
from cvtrain.errors import ConfigError

READ = list(read())
WRONG = [*syntax(), *values()]


def name_of(row: Read | Refused) -> str:
    return ascii(row.text[:60]).strip("'b")


def content_of(row: Read | Refused) -> bytes:
    return row.text if isinstance(row.text, bytes) else f"{row.text}\n{LEAST}".encode()


@pytest.mark.parametrize("row", READ, ids=name_of)
def test_what_is_meant_is_read(tmp_path, row):
    (tmp_path / "config.yaml").write_bytes(content_of(row))
    config = load_config(tmp_path / "config.yaml")
    value = functools.reduce(getattr, row.key.split("."), config)
    assert (type(value), value) == (type(row.value), row.value)


@pytest.mark.parametrize("row", WRONG, ids=name_of)
def test_what_is_wrong_is_told_with_its_line(tmp_path, monkeypatch, row):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_bytes(content_of(row))
    with pytest.raises(ConfigError) as caught:
        load_config(Path("config.yaml"))
    message, advice = caught.value.message, caught.value.advice
    assert message.startswith(f"config.yaml:{row.line}: ")
    assert row.what in message.splitlines()[0]
    assert row.advice in message.splitlines()[0] or row.advice in advice
    assert message.replace("\n", "").isprintable()
    assert len(str(caught.value)) < 5000


def test_mistakes_are_told_before_an_engine_or_an_image_is_looked_at(tmp_path):
    commands = {}
    for number, row in enumerate(WRONG[::5]):
        (tmp_path / f"{number}.yaml").write_bytes(content_of(row))
        commands[str(number)] = ["fit", f"{number}.yaml"]
    files = sorted(tmp_path.iterdir())
    told, engines = run_all(commands, tmp_path)
    assert {each.code for each in told.values()} == {2}
    assert all(f"{number}.yaml:" in each.err for number, each in told.items())
    assert engines == []
    assert sorted(tmp_path.iterdir()) == files


def test_numbers_of_the_table():
    assert len(WRONG) + len(READ) >= 60

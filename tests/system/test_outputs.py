"""Outputs that a person names: what cvtrain wrote may be replaced, and nothing else."""

import json
import os

import pytest
from click.testing import CliRunner

from cvtrain.cli import cli
from cvtrain.errors import ConfigError, ResourceError
from cvtrain.runs.run import Run
from cvtrain.system.html import render
from cvtrain.system.outputs import PAGE, check_own_folder, check_replaceable, commit_mark

MARK = "mark.json"


@pytest.mark.parametrize(
    "arguments",
    [
        "predict run a.png --output mine.csv",
        "predict run a.png --output mine.json",
        "report run --output mine.html",
        "compare run run --output mine.html",
        "data split photos --output mine.csv",
        "init photos --output mine.yaml",
    ],
)
@pytest.mark.parametrize("is_link", [False, True])
def test_every_command_asks_for_force_before_it_replaces_a_file(
    arguments, is_link, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Run.create(tmp_path / "run", "fit").model_path.touch()
    (tmp_path / "a.png").touch()
    mine = tmp_path / arguments.rpartition(" ")[2]
    mine.symlink_to("elsewhere") if is_link else mine.write_text("path,label,split\n")
    for pretending in ("", "cvtrain "):
        if pretending and not is_link:
            mine.write_text(f"{pretending}path,label\n")
        error = CliRunner().invoke(cli, arguments.split()).exception
        assert isinstance(error, ConfigError)
        assert error.message == f"{mine.name} is there already"
        assert error.advice.startswith("Add --force to replace it, or choose another: --output ")
        assert not (tmp_path / "elsewhere").exists()
    # With --force, it comes as far as to what is wrong with the images or the run.
    after = CliRunner().invoke(cli, [*arguments.split(), "--force"]).exception
    assert "is there already" not in str(after)


def test_pages_say_who_wrote_them(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(render("cvtrain.reports", "base.html.j2", title="a", version="1.2"))
    check_replaceable(page, force=False, ours=PAGE)
    page.write_text("<html><body>Written by cvtrain 1.2.</body></html>")
    with pytest.raises(ConfigError):
        check_replaceable(page, force=False, ours=PAGE)
    check_replaceable(tmp_path / "new.html", force=False, ours=PAGE)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.html")
    with pytest.raises(ConfigError):
        check_replaceable(tmp_path / "pipe.html", force=False, ours=PAGE)


def write_folder(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    commit_mark(folder, MARK, {"accuracy": 0.5})


def test_a_folder_with_nothing_but_ours_may_be_replaced(tmp_path):
    for free in ("none", "empty"):
        check_own_folder(tmp_path / free, MARK)
        (tmp_path / "empty").mkdir(exist_ok=True)
    write_folder(tmp_path / "ours", "a.csv", "figures/b.png")
    content = json.loads((tmp_path / "ours" / MARK).read_text())
    assert content["contents"] == ["a.csv", "figures/b.png", MARK]
    assert content["accuracy"] == 0.5
    check_own_folder(tmp_path / "ours", MARK)
    (tmp_path / "ours" / "a.csv").unlink()
    (tmp_path / "ours" / "figures" / ".DS_Store").touch()  # of who has looked at the pictures
    check_own_folder(tmp_path / "ours", MARK)


@pytest.mark.parametrize("name", ["notes.txt", "figures/notes.txt", "new/.hidden", ".git/config"])
def test_a_folder_that_holds_more_is_refused_by_name(name, tmp_path):
    write_folder(tmp_path, "a.csv", "figures/b.png")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(ResourceError) as caught:
        check_own_folder(tmp_path, MARK)
    assert caught.value.message.endswith(f"holds what cvtrain is not known to have written: {name}")


@pytest.mark.parametrize(
    "mark",
    [
        "{}",
        "[]",
        "no json",
        '{"contents": ["mark.json"]}',
        '{"written_by": "others", "contents": ["mark.json"]}',
        '{"written_by": "cvtrain 1", "contents": 3}',
        '{"written_by": "cvtrain 1", "contents": [{}]}',
        "[" * 100_000,
    ],
)
def test_a_mark_of_others_counts_for_nothing(mark, tmp_path):
    (tmp_path / MARK).write_text(mark)
    with pytest.raises(ResourceError, match=r"not known to have written: mark\.json"):
        check_own_folder(tmp_path, MARK)

"""Run folders: made, found, refused, held by one writer."""

import json
import subprocess
import sys

import pytest

from cvtrain.errors import RunError, Stopped, TrainingError
from cvtrain.run import FORMAT, Run, new_run_path, newest_run
from cvtrain.stopwatch import Stopwatch


def test_a_run_comes_back_as_it_was_written(tmp_path):
    run = Run.create(tmp_path / "run", "fit")
    run.update(class_names=["ä", "b"], seed=3)
    again = Run.open(tmp_path / "run")
    assert again.record == run.record
    assert again.record["format"] == FORMAT
    assert again.field("class_names", list) == ["ä", "b"]


def test_a_folder_with_content_is_not_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(RunError, match="is there already"):
        Run.create(tmp_path, "fit")


def test_an_empty_folder_is_taken(tmp_path):
    assert Run.create(tmp_path, "fit").path == tmp_path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "damaged"),
        (b"[1]", "not written by cvtrain"),
        (b"{}", "not written by cvtrain"),
        (b'{"format": 1, "command": "fit", "status": 3, "started": ""}', "not written by cvtrain"),
        (b'{"format": 99, "command": "fit", "status": "x", "started": ""}', "format 99"),
        (b"\xff\xfe\x00", "damaged"),
        (b"[" * 100_000, "damaged"),
    ],
)
def test_a_damaged_record_is_named(tmp_path, content, message):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunError, match=message):
        Run.open(tmp_path)


def test_what_is_no_run_folder_is_said(tmp_path):
    with pytest.raises(RunError, match="no run\\.json"):
        Run.open(tmp_path)
    with pytest.raises(RunError, match="no such run folder"):
        Run.open(tmp_path / "nothing")


def test_a_missing_field_is_named(tmp_path):
    run = Run.create(tmp_path / "run", "fit")
    with pytest.raises(RunError, match="class_names must be a list"):
        run.field("class_names", list)


def test_names_are_safe_and_free(tmp_path):
    path = new_run_path(tmp_path, "fit", "../my config;rm")
    assert path.parent == tmp_path
    assert path.name.endswith("-fit-my-config-rm")
    path.mkdir()
    assert not new_run_path(tmp_path, "fit", "../my config;rm").exists()


def test_the_newest_run_by_what_is_wanted(tmp_path):
    for day, command in ((1, "fit"), (3, "fit"), (2, "finetune")):
        run = Run.create(tmp_path / f"run{day}", command)
        run.update(started=f"2026-01-0{day}T00:00:00+00:00")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{")
    assert newest_run(tmp_path).path.name == "run3"
    assert newest_run(tmp_path, command="finetune").path.name == "run2"
    with pytest.raises(RunError, match="no run with a model"):
        newest_run(tmp_path, has_model=True)
    (tmp_path / "run1" / "model.keras").write_bytes(b"x")
    assert newest_run(tmp_path, has_model=True).path.name == "run1"


def test_one_writer_at_a_time_and_none_after_a_kill(tmp_path):
    run = Run.create(tmp_path / "run", "fit")
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom cvtrain.run import Run\n"
        "with Run.open(Path(sys.argv[1])).locked():\n"
        "    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, run.path], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"process {holder.pid}"), run.locked():
            pass
        holder.kill()
        holder.wait()
    with run.locked():
        pass


@pytest.mark.parametrize(
    ("error", "status"),
    [(Stopped("by you"), "stopped"), (TrainingError("nan"), "failed"), (ValueError("x"), "failed")],
)
def test_a_bad_end_is_recorded(tmp_path, error, status):
    run = Run.create(tmp_path / "run", "fit")
    with pytest.raises(type(error)), run.recording_failure(Stopwatch()):
        raise error
    record = json.loads((run.path / "run.json").read_text())
    assert record["status"] == status
    assert record["error"]
    assert record["seconds"]["total"] >= 0

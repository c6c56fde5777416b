"""Run folders: made, found, refused, held by one writer."""

import json
import subprocess
import sys

import pytest

from cvtrain.errors import CvtrainError, RunError, Stopped, TrainingError
from cvtrain.runs.record import FORMAT
from cvtrain.runs.run import Run, new_run_path, newest_run
from cvtrain.system.stopwatch import Stopwatch


def test_a_run_comes_back_as_it_was_written(tmp_path):
    run = Run.create(tmp_path / "run", "fit")
    run.update(class_names=["ä", "b"], seed=3)
    again = Run.open(tmp_path / "run")
    assert again.content == run.content
    assert again.record == run.record
    assert again.record.format == FORMAT
    assert again.record.class_names == ("ä", "b")


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
    with pytest.raises(RunError, match=r"run\.json: class_names is missing"):
        run.require("class_names")


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


HOLDER = """
import sys, time
from pathlib import Path
from cvtrain.runs.run import Run
with Run.open(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_writer_at_a_time_and_none_after_a_kill(tmp_path):
    run = Run.create(tmp_path / "run", "fit")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, run.path], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"process {holder.pid}"), run.locked():
            pass
        with pytest.raises(RunError, match=f"process {holder.pid}"):
            Run.create(run.path, "fit")
        holder.kill()
        holder.wait()
    with run.locked():
        pass


def test_a_lock_reads_the_record_anew(tmp_path):
    run = Run.create(tmp_path / "run", "fit")
    other = Run.open(run.path)
    other.update(status="finished")
    assert run.content["status"] == "running"
    with run.locked() as same:
        assert same is run
        assert run.content["status"] == "finished"


def test_a_lock_that_leads_elsewhere_is_not_followed(tmp_path):
    run = Run.create(tmp_path / "run", "fit")
    (tmp_path / "precious").write_text("mine")
    (run.path / ".lock").unlink()
    (run.path / ".lock").symlink_to("../precious")
    with pytest.raises(CvtrainError), run.locked():
        pass
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize(
    "left", [[], ["config.yaml"], ["config.yaml", "split.json", ".cvtrain-tmp-abcdefgh"]]
)
def test_a_start_that_was_killed_leaves_room_for_the_next(tmp_path, left):
    (tmp_path / ".lock").write_text("1234")
    for name in left:
        (tmp_path / name).write_text("")
    texts = {"config.yaml": "seed: 0\n", "split.json": "{}\n"}
    run = Run.create(tmp_path, "fit", files=texts, name="tiny")
    assert Run.open(tmp_path).content["name"] == "tiny"
    assert (run.path / "config.yaml").read_text() == "seed: 0\n"
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "run.json", *texts}


def test_a_folder_with_a_config_of_somebody_else_is_not_taken(tmp_path):
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(RunError, match="is there already"):
        Run.create(tmp_path, "fit")
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_record_that_changed_is_read_and_not_gone_on_with(tmp_path):
    run = Run.create(tmp_path / "run", "probe")
    run.update(blocks=[{"accuracy": 0.875}])
    file = run.path / "run.json"
    file.write_text(file.read_text().replace("0.875", "0.876"))
    assert Run.open(run.path).content["blocks"] == [{"accuracy": 0.876}]
    with pytest.raises(RunError, match=r"run\.json: damaged or edited"), run.locked():
        pass
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if "sha256" not in line))
    with run.locked():
        assert run.content["blocks"] == [{"accuracy": 0.876}]


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

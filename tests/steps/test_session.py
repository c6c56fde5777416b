"""A command at work: what is checked before there is a run, and what a run says of its end."""

import pytest

from cvtrain.config import load_config
from cvtrain.errors import DataError, RunError
from cvtrain.runs.run import Run, RunRequest
from cvtrain.steps.session import finished_run, open_session
from cvtrain.system.console import Console

QUIET = Console(quiet=True)


def test_what_is_known_at_the_start_is_recorded(config_path, image_folder, tmp_path):
    config = load_config(config_path)
    with open_session("fit", config, RunRequest(tmp_path / "run", "tiny"), QUIET) as session:
        record = Run.open(session.run.path).content
        assert (record["command"], record["status"]) == ("fit", "running")
        assert record["class_names"] == ["blue", "green", "red"]
        assert record["image_size"] == [16, 20]
        assert record["data"]["root"] == str(image_folder)
        assert load_config(session.run.path / "config.yaml") == config
        assert {name: len(split.paths) for name, split in session.dataset.index.splits.items()} == {
            "train": 36,
            "validation": 12,
            "test": 15,
        }
        with pytest.raises(RunError, match="is being written"), session.run.locked():
            pass


def test_an_error_is_recorded_before_it_goes_on(config_path, tmp_path):
    request = RunRequest(tmp_path / "run", "tiny")
    with (
        pytest.raises(DataError, match="lost"),
        open_session("fit", load_config(config_path), request, QUIET),
    ):
        raise DataError("the images are lost")
    record = Run.open(tmp_path / "run").content
    assert record["status"] == "failed"
    assert "the images are lost" in str(record["error"])


def test_without_usable_images_there_is_no_run(config_path, tmp_path):
    config = load_config(config_path, [f"data.source={tmp_path}/nowhere"])
    with (
        pytest.raises(DataError),
        open_session("fit", config, RunRequest(tmp_path / "run", "tiny"), QUIET),
    ):
        pytest.fail("there are no images to work on")
    assert not (tmp_path / "run").exists()


def test_the_run_of_another_command_is_not_gone_on_with(config_path, tmp_path):
    run = Run.create(tmp_path / "run", "probe")
    before = (run.path / "run.json").read_bytes()
    request = RunRequest(run.path, "tiny", resume=True)
    with (
        pytest.raises(RunError, match=r"is a run of probe, not of fit") as caught,
        open_session("fit", load_config(config_path), request, QUIET),
    ):
        pytest.fail("it is another's")
    assert "cvtrain probe" in caught.value.advice
    assert (run.path / "run.json").read_bytes() == before


def test_a_finished_run_is_opened_and_rid_of_its_checkpoints(tmp_path):
    run = Run.create(tmp_path / "run", "fit")
    request = RunRequest(run.path, "tiny", resume=True)
    assert finished_run(request, QUIET) is None
    run.update(status="finished")
    run.checkpoints.mkdir(exist_ok=True)
    (run.checkpoints / "left.npz").write_bytes(b"x")
    assert finished_run(request, QUIET).path == run.path
    assert not run.checkpoints.exists()
    assert finished_run(RunRequest(run.path, "tiny", resume=False), QUIET) is None

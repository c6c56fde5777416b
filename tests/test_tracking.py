"""No tracker can stop a training, and one that is missing is told before anything starts."""

import pytest

from cvtrain.errors import ConfigError
from cvtrain.runs.run import Run
from cvtrain.tracking import Tracking, require_trackers, tracked


class Noting:
    def __init__(self, fails_at=None):
        self.fails_at, self.seen = fails_at, []

    def log_epoch(self, row):
        if row["epoch"] == self.fails_at:
            raise ConnectionError("server is away\nwith details")
        self.seen.append(row["epoch"])

    def end(self):
        self.seen.append("end")


def test_a_tracker_that_fails_is_told_of_once_and_left_out():
    warnings, failing, working = [], Noting(fails_at=2), Noting()
    tracking = Tracking({"first": lambda: failing, "second": lambda: working}, warnings.append)
    for epoch in (1, 2, 3):
        tracking.log_epoch({"epoch": epoch})
    tracking.end()
    assert working.seen == [1, 2, 3, "end"]
    assert failing.seen == [1]
    assert warnings == ["first failed, and is left out from here on: server is away"]


def test_one_that_cannot_start_is_left_out():
    def start():
        raise PermissionError

    warnings = []
    tracking = Tracking({"broken": start}, warnings.append)
    tracking.log_epoch({"epoch": 1})
    tracking.end()
    assert warnings == ["broken failed, and is left out from here on: PermissionError"]


def test_a_request_to_stop_is_no_failure():
    class Interrupted(Noting):
        def log_epoch(self, _):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Tracking({"it": Interrupted}).log_epoch({"epoch": 1})


def test_a_disk_that_refuses_does_not_stop_it(tmp_path):
    run = Run.create(tmp_path / "run", "fit")
    (run.path / "tensorboard").write_text("in the way")
    warnings = []
    with tracked(["tensorboard"], run, {}, warnings.append) as tracking:
        tracking.log_epoch({"epoch": 1, "loss": 1.0})
    (warning,) = warnings
    assert warning.startswith("tensorboard failed, and is left out from here on: cannot write")


def test_the_end_is_kept_after_an_error_too(tmp_path, monkeypatch):
    kept = Noting()
    monkeypatch.setattr("cvtrain.tracking.TensorBoard", lambda _: kept)
    run = Run.create(tmp_path / "run", "fit")
    with pytest.raises(ZeroDivisionError), tracked(["tensorboard"], run, {}, print):
        raise ZeroDivisionError
    assert kept.seen == ["end"]


def test_mlflow_that_is_not_installed_is_told(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    require_trackers(["tensorboard"])
    with pytest.raises(ConfigError, match="mlflow is not installed") as caught:
        require_trackers(["tensorboard", "mlflow"])
    assert "pip install 'cvtrain[mlflow]'" in caught.value.advice

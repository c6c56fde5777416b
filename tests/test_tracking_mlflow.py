"""What MLflow is told, by a stub that stands for it; by itself, where it is installed."""

import importlib.util
import sys

import pytest
from tiny_runs import SCORES

from cvtrain.runs.run import Run
from cvtrain.runs.settings import flat_settings
from cvtrain.tracking import MLflow

STUB = '''
"""Notes every call of MLflow that is made."""
from types import SimpleNamespace

calls = []


def __getattr__(name):
    if name.startswith("_"):
        raise AttributeError(name)

    def call(*args, **kwargs):
        calls.append((name, args, kwargs))
        run_id = kwargs.get("run_id") or "new"
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    return call
'''
SETTINGS = {"seed": 0, "fit": {"epochs": 2, "ema": None, "optimizer": {"name": "sgd"}}}
ROW = {"epoch": 1, "step": 4, "loss": 2.25, "val_loss": 2.5, "seconds": 3.0}


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """A module `mlflow` that keeps what it is told in `calls`."""
    folder = tmp_path / "stub"
    folder.mkdir()
    (folder / "mlflow.py").write_text(STUB)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    import mlflow

    yield mlflow
    del sys.modules["mlflow"]


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", "fit")


def told(stub, name):
    return [(args, kwargs) for called, args, kwargs in stub.calls if called == name]


def test_parameters_are_the_config_flattened():
    settings = SETTINGS | {"data": {"image_size": [4, 6]}, "augment": None}
    assert flat_settings(settings) == {
        "seed": "0",
        "fit.epochs": "2",
        "fit.optimizer.name": "sgd",
        "data.image_size": "[4, 6]",
    }


def test_a_run_is_told_from_its_start_to_its_end(stub, run):
    tracker = MLflow(run, SETTINGS)
    assert told(stub, "start_run") == [((), {"run_id": None, "run_name": "run", "nested": True})]
    assert told(stub, "log_params") == [((flat_settings(SETTINGS),), {})]
    assert Run.open(run.path).content["mlflow"] == {"run_id": "new"}
    tracker.log_epoch(ROW)
    metrics = {"loss": 2.25, "val_loss": 2.5, "seconds": 3.0}
    assert told(stub, "log_metrics") == [((metrics,), {"step": 1})]
    run.figures.mkdir()
    run.model_path.touch()
    run.update(status="finished", metrics={"test": SCORES})
    tracker.end()
    assert told(stub, "log_metrics")[1] == (({"test_accuracy": 0.75, "test_loss": 0.5},), {})
    assert told(stub, "log_artifacts") == [((str(run.figures), "figures"), {})]
    assert told(stub, "set_tag") == [(("cvtrain.model", str(run.model_path)), {})]
    assert stub.calls[-1] == ("end_run", ("FINISHED",), {})


@pytest.mark.parametrize(
    ("status", "expected"), [("stopped", "KILLED"), ("failed", "FAILED"), ("running", "FAILED")]
)
def test_how_it_ended(stub, run, status, expected):
    tracker = MLflow(run, SETTINGS)
    run.update(status=status)
    tracker.end()
    assert told(stub, "end_run") == [((expected,), {})]
    assert not told(stub, "log_artifacts")


def test_a_resumed_run_goes_on_in_the_run_that_it_began(stub, run):
    MLflow(run, SETTINGS)
    MLflow(Run.open(run.path), SETTINGS)
    assert [kwargs["run_id"] for _, kwargs in told(stub, "start_run")] == [None, "new"]


def test_mlflow_itself(run, tmp_path, monkeypatch):
    if not importlib.util.find_spec("mlflow"):
        pytest.skip("mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    import mlflow

    tracker = MLflow(run, SETTINGS)
    tracker.log_epoch(ROW)
    run.figures.mkdir()
    (run.figures / "curves.png").write_bytes(b"png")
    run.update(status="finished", metrics={"test": SCORES})
    tracker.end()
    kept = mlflow.get_run(run.content["mlflow"]["run_id"])
    assert kept.info.status == "FINISHED"
    assert kept.data.params == flat_settings(SETTINGS)
    assert kept.data.metrics["val_loss"] == 2.5
    assert kept.data.metrics["test_accuracy"] == 0.75
    artifacts = mlflow.artifacts.list_artifacts(run_id=kept.info.run_id, artifact_path="figures")
    assert [each.path for each in artifacts] == ["figures/curves.png"]

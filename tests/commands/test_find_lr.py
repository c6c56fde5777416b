"""`fit --find-lr` leaves a curve and a line for the config, and nothing that is trained."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from cvtrain.commands.find_lr import find_lr
from cvtrain.config import load_config
from cvtrain.errors import TrainingError
from cvtrain.runs.run import Run, RunRequest
from cvtrain.system.console import Console


@pytest.fixture(scope="module")
def found(tmp_path_factory, config_path):
    path = tmp_path_factory.mktemp("found") / "run"
    console = Console(quiet=True)
    return find_lr(load_config(config_path), RunRequest(path, "tiny"), console)


def read_rows(run):
    with (run.path / "lr.csv").open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def test_the_run_has_a_curve_and_no_model(found):
    files = {str(p.relative_to(found.path)) for p in found.path.rglob("*") if p.is_file()}
    assert files - {".lock"} == {
        "config.yaml",
        "run.json",
        "split.json",
        "log.txt",
        "lr.csv",
        "figures/find_lr.png",
    }
    record = json.loads((found.path / "run.json").read_text(encoding="utf-8"))
    assert (record["command"], record["status"]) == ("find-lr", "finished")
    with Image.open(found.path / "figures" / "find_lr.png") as figure:
        assert min(figure.size) > 400


def test_the_suggestion_lies_on_the_curve(found):
    rows, record = read_rows(found), found.content["find_lr"]
    assert record["steps"] == len(rows)
    rates = np.array([row["learning_rate"] for row in rows])
    np.testing.assert_allclose(np.diff(np.log(rates)), np.log(1e8) / 99, rtol=1e-4)
    assert rates[0] < record["suggestion"] < record["lowest"] <= rates[-1]
    nearest = np.abs(np.log(rates / record["suggestion"])).min()
    assert nearest < 0.05
    # An untrained net of three classes, as long as the rate is too small to change it.
    assert np.mean([row["loss"] for row in rows[:12]]) == pytest.approx(np.log(3), rel=0.5)


def test_what_is_printed_can_be_pasted(found, tmp_path):
    lines = (found.path / "log.txt").read_text(encoding="utf-8").splitlines()
    (line,) = [line.partition("  ")[2] for line in lines if "  fit: {" in line]
    (tmp_path / "config.yaml").write_text(f"{line}\ndata: {{source: digits}}\n")
    optimizer = load_config(tmp_path / "config.yaml").fit.optimizer
    assert optimizer.learning_rate == found.content["find_lr"]["suggestion"]


def test_the_same_config_finds_the_same(found, tmp_path, config_path):
    again = find_lr(
        load_config(config_path), RunRequest(tmp_path / "run", "tiny"), Console(quiet=True)
    )
    assert read_rows(again) == read_rows(found)


def test_a_loss_that_is_never_finite_is_told(tmp_path, config_path):
    settings = load_config(config_path, ["fit.model.batch_normalization=false"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cvtrain.training.lr_range_test.math.isfinite", lambda _: False)
        with pytest.raises(TrainingError, match="not finite from the start"):
            find_lr(settings, RunRequest(tmp_path / "run", "tiny"), Console(quiet=True))
    assert Run.open(tmp_path / "run").content["status"] == "failed"

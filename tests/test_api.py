"""The Python front door: the same runs as by the command line, and what a run says of itself."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import cvtrain
from cvtrain.config import config_values, load_config, yaml


@pytest.fixture(scope="module")
def run(finished):
    return cvtrain.load_run(finished.path)


@pytest.fixture
def photo(image_folder):
    return sorted((image_folder / "test").rglob("*.png"))[0]


def test_importing_it_loads_nothing_else():
    code = """
import sys, cvtrain
assert "fit" in dir(cvtrain) and cvtrain.__version__
print([m for m in sys.modules if m.startswith("cvtrain") or m in ("numpy", "keras", "pydantic")])
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.strip() == "['cvtrain.version', 'cvtrain']"


def test_every_name_is_there_and_others_are_not():
    for name in cvtrain.__all__:
        assert getattr(cvtrain, name) is not None
    with pytest.raises(AttributeError, match="nosuch"):
        _ = cvtrain.nosuch


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["path", "text", "dict", "Config"])
def test_a_config_of_any_kind_trains_the_model_of_the_command_line(
    run, config_path, tmp_path, kind, capsys
):
    config = {
        "path": config_path,
        "text": str(config_path),
        "dict": yaml.load(config_path.read_text()).value,
        "Config": load_config(config_path),
    }[kind]
    trained = cvtrain.fit(config, tmp_path / "run", quiet=True)
    assert trained.record["weights_sha256"] == run.record["weights_sha256"]
    assert capsys.readouterr().out == ""


def test_a_dict_may_hold_paths_and_its_mistakes_are_told(image_folder):
    with pytest.raises(cvtrain.ConfigError) as error:
        cvtrain.fit({"data": {"source": image_folder}, "fit": {"epoch": 3}})
    assert "fit.epoch: there is no such key" in error.value.message
    assert "config has 1 mistake" in error.value.advice
    with pytest.raises(cvtrain.ConfigError, match="set is not a type that YAML has"):
        cvtrain.fit({"data": {"source": {1}}})


def test_a_run_that_is_there_is_not_replaced_but_resumed(run, config_path):
    with pytest.raises(cvtrain.RunError, match="is there already"):
        cvtrain.fit(config_path, run.path)
    again = cvtrain.fit(config_path, run.path, resume=True, quiet=True)
    assert again.record["weights_sha256"] == run.record["weights_sha256"]


def test_a_run_knows_what_its_files_say(run):
    record = json.loads((run.path / "run.json").read_text())
    assert run.class_names == tuple(record["class_names"])
    assert run.image_size == (16, 20)
    assert run.metrics["test"]["accuracy"] == record["metrics"]["test"]["accuracy"]
    with (run.path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in run.history] == [1, 2, 3, 4]
    assert run.history[-1]["val_loss"] == float(rows[-1]["val_loss"])


def test_predictions_are_those_of_the_saved_model(run, photo):
    with Image.open(photo) as image:
        pixels = np.asarray(image.resize((20, 16)).convert("RGB"))
    expected = run.load_model().predict(pixels[None].astype(np.float32), verbose=0)[0]
    (found,) = run.predict(pixels[None])
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    assert (found.path, found.answer) == ("", run.class_names[int(expected.argmax())])


def test_an_array_of_a_photograph_is_the_photograph(run, photo, tmp_path):
    with Image.open(photo) as image:
        pixels = np.asarray(image.convert("RGB"))
    (tmp_path / "no.png").write_bytes(b"no image")
    (by_path, other) = run.predict([photo, tmp_path / "no.png"])
    (by_array,) = cvtrain.predict(run.path, [pixels])
    np.testing.assert_array_equal(by_path.probabilities, by_array.probabilities)
    assert by_path.path == str(photo)
    assert other.probabilities is None
    assert "no image" in other.problem


def test_pixels_of_another_kind_are_refused(run):
    with pytest.raises(cvtrain.ConfigError, match=r"received float64 \(16, 20, 3\)"):
        run.predict(np.zeros((1, 16, 20, 3)))


def test_an_evaluation_returns_the_recorded_metrics(run, tmp_path, capsys):
    metrics = cvtrain.evaluate(run, output=tmp_path / "out", quiet=True)
    assert metrics["accuracy"] == run.metrics["test"]["accuracy"]
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written["accuracy"] == metrics["accuracy"]
    assert capsys.readouterr().out == ""


def test_progress_goes_to_logging_where_that_is_configured(run, tmp_path, caplog, capsys):
    with caplog.at_level("INFO", logger="cvtrain"):
        cvtrain.evaluate(run, output=tmp_path / "out")
    lines = [record.getMessage() for record in caplog.records if record.name == "cvtrain"]
    assert any(line.startswith("accuracy ") for line in lines)
    caplog.clear()
    with caplog.at_level("INFO", logger="cvtrain"):
        cvtrain.evaluate(run, output=tmp_path / "out", quiet=True)
    assert [record for record in caplog.records if record.name == "cvtrain"] == []
    assert capsys.readouterr() == ("", "")


def test_progress_is_printed_where_logging_is_not_configured(run, tmp_path, caplog, capsys):
    with caplog.at_level("WARNING", logger="cvtrain"):
        cvtrain.evaluate(run, output=tmp_path / "out")
    assert "accuracy " in capsys.readouterr().out


def test_an_explanation_is_a_folder_with_maps(run, photo, tmp_path):
    folder = run.explain(photo, method="layercam", output=tmp_path / "maps", quiet=True)
    assert (folder / "index.html").is_file()
    record = json.loads((folder / "visualize.json").read_text())
    assert len(record["images"]) == 1


def test_the_stages_follow_one_another(run, tmp_path):
    values = config_values(load_config(run.path / "config.yaml"))
    config = {"seed": 3, "precision": "float32", "data": values["data"]} | {
        "extract_features": {"backbone": {"weights": str(run.path)}, "epochs": 1},
        "finetune": {"unfreeze_blocks": 1, "epochs": 1},
    }
    head = cvtrain.extract_features(config, tmp_path / "head", quiet=True)
    tuned = cvtrain.finetune(config, tmp_path / "tuned", source=head, quiet=True)
    assert tuned.record["source"]["run"] == str(head.path)
    assert tuned.metrics["test"]["num_images"] == run.metrics["test"]["num_images"]


def test_a_notebook_shows_a_run_with_its_curves(run):
    shown = run._repr_html_()
    assert f"{run.metrics['test']['accuracy']:.4f} (95 % interval" in shown
    assert 'src="data:image/png;base64,' in shown
    assert repr(run).startswith(f"<Run of fit in {run.path}, test accuracy ")


def test_what_is_no_run_is_an_error(tmp_path):
    with pytest.raises(cvtrain.RunError, match="there is no such run folder"):
        cvtrain.load_run(tmp_path / "nothing")

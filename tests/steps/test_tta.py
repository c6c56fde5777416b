"""`evaluate` and `predict` averaged over views, against plain Keras and against each other."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cvtrain.backend import keras
from cvtrain.commands.evaluate import evaluate
from cvtrain.commands.predict import predict
from cvtrain.errors import ConfigError, RunError
from cvtrain.runs.run import Run
from cvtrain.steps.inference import decoder_of_run
from cvtrain.steps.tta import view_average
from cvtrain.system.console import Console


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def measured(run, folder, **options):
    return evaluate(
        run, source=None, split="test", output=folder, console=Console(quiet=True), **options
    )


def with_settings(run, folder, old, new):
    """A copy of a run whose config says something else."""
    shutil.copytree(run.path, folder)
    text = (folder / "config.yaml").read_text()
    assert old in text
    (folder / "config.yaml").write_text(text.replace(old, new))
    return Run.open(folder)


def test_one_view_is_the_image_and_more_are_averaged(finished, tmp_path):
    plain = measured(finished, tmp_path / "plain")
    assert measured(finished, tmp_path / "one", tta=1) == plain
    one, other = ((tmp_path / name / "predictions.csv").read_text() for name in ("plain", "one"))
    assert one == other
    four = measured(finished, None, tta=4)
    assert measured(finished, tmp_path / "again", tta=4) == four != plain
    folder = finished.path / "evaluate" / "test-tta4"
    assert json.loads((folder / "metrics.json").read_text())["tta"] == 4
    assert json.loads((tmp_path / "one" / "metrics.json").read_text())["tta"] == 1


def test_two_views_are_the_mean_of_plain_kerass_answers_to_image_and_mirror(finished, tmp_path):
    measured(finished, tmp_path, tta=2)
    model = keras.saving.load_model(finished.model_path)
    decode = decoder_of_run(finished)
    root, names = finished.content["data"]["root"], finished.content["class_names"]
    for row in rows_of(tmp_path / "predictions.csv"):
        pixels = decode(Path(root, row["file"]).read_bytes()).pixels
        answers = model(np.stack([pixels, np.fliplr(pixels)]).astype(np.float32), training=False)
        ours = [float(row[f"p({name})"]) for name in names]
        np.testing.assert_allclose(ours, np.mean(answers, axis=0), atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_predict_takes_the_views_of_evaluate_whatever_the_batch(
    finished, image_folder, tmp_path, batch_size
):
    measured(finished, tmp_path, tta=5)
    expected = {row["file"]: row for row in rows_of(tmp_path / "predictions.csv")}
    output = tmp_path / "out.csv"
    predict(
        finished,
        [str(image_folder / "test")],
        top=1,
        output=output,
        batch_size=batch_size,
        console=Console(quiet=True),
        tta=5,
    )
    rows = rows_of(output)
    assert len(rows) == len(expected)
    for row in rows:
        theirs = expected[str(Path(row["file"]).relative_to(image_folder))]
        assert float(row["p(red)"]) == pytest.approx(float(theirs["p(red)"]), abs=1e-6)


def test_more_views_than_training_made_are_refused(finished, tmp_path):
    run = with_settings(finished, tmp_path / "copy", "rotate: 10.0", "rotate: 0.0")
    with pytest.raises(ConfigError, match="make 2 different views") as caught:
        view_average(run, 8)
    assert "--tta 2" in caught.value.advice
    view_average(run, 2)
    run = with_settings(run, tmp_path / "none", "flip: horizontal", "flip: none")
    with pytest.raises(ConfigError, match="no view but the image itself"):
        view_average(run, 2)


def test_a_run_without_its_config_is_told(finished, tmp_path):
    run = with_settings(finished, tmp_path / "copy", "flip", "flip")
    (run.path / "config.yaml").unlink()
    view_average(run, 1)
    with pytest.raises(RunError, match=r"config\.yaml: is missing"):
        view_average(run, 2)

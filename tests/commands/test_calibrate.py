"""Thresholds are set from a run's predictions alone, and nothing but they is promised."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from tiny_runs import make_run

from cvtrain.commands.calibrate import calibrate
from cvtrain.errors import ConfigError, RunError
from cvtrain.evaluation.calibration import Abstention, fit_temperature
from cvtrain.evaluation.metrics import calibration_error
from cvtrain.runs.run import Run
from cvtrain.steps.abstention import (
    describe_abstention,
    describe_coverage,
    measure_abstention,
    read_abstention,
)
from cvtrain.system.console import Console


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


def set_up(run, *, coverage=None, risk=None, off=False):
    calibrate(run, coverage=coverage, risk=risk, off=off, console=Console(quiet=True))
    path = run.path / "abstention.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def rows_of(run, split):
    """True and predicted classes, and probabilities by hand from the CSV."""
    with (run.path / f"predictions-{split}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = run.content["class_names"]
    probabilities = np.array([[float(row[f"p({name})"]) for name in names] for row in rows])
    return np.array([names.index(row["label"]) for row in rows]), probabilities


def by_hand(run, split, record):
    """Which images are answered, and which wrongly."""
    labels, probabilities = rows_of(run, split)
    powers = probabilities ** (1 / record["temperature"])
    tempered = powers / powers.sum(axis=1, keepdims=True)
    answered = tempered.max(axis=1) >= record["threshold"] - 1e-8
    return answered, answered & (probabilities.argmax(axis=1) != labels)


@pytest.mark.parametrize("coverage", [0.5, 0.9, 1.0])
def test_a_coverage_is_that_of_the_validation_images(run, coverage):
    record = set_up(run, coverage=coverage)
    assert record["format"] == 1
    assert record["target"] == {"coverage": coverage}
    assert record["temperature"] == pytest.approx(2, rel=0.3)
    assert record["validation"]["num_answered"] == coverage * 200
    for split in ("validation", "test"):
        answered, wrong = by_hand(run, split, record)
        assert record[split]["num_answered"] == answered.sum()
        assert record[split]["num_wrong"] == wrong.sum()
        assert record[split]["coverage"] == answered.mean()
        assert record[split]["risk"] == wrong.sum() / answered.sum()


def test_a_coverage_of_one_answers_every_image(tmp_path, capsys):
    run = make_run(tmp_path / "run", num_images=9)
    path = run.path / "predictions-validation.csv"
    sure = [line for line in path.read_text("utf-8").splitlines() if "validation/cat/" in line]
    assert 0 < len(sure) < 9
    header = path.read_text("utf-8").splitlines()[0]
    path.write_text("\n".join([header, *sure]) + "\n", "utf-8")
    record = set_up(run, coverage=1.0)
    assert record["threshold"] == 0
    assert record["test"]["coverage"] == 1
    out = capsys.readouterr().out
    assert "of other images" not in out
    assert "now: every image is answered, at temperature" in out


@pytest.mark.parametrize(("num_images", "said"), [(9, "66 % to 100 %"), (341, "86 % to 93 %")])
def test_how_many_of_other_images_are_answered_is_said(tmp_path, capsys, num_images, said):
    set_up(make_run(tmp_path / "run", num_images=num_images), coverage=0.9)
    assert (
        f"the coverage of new, similar images will be {said} with 95 % confidence, because the "
        f"threshold was chosen by {num_images} images"
    ) in capsys.readouterr().out


def test_the_calibration_of_the_test_images_is_recorded_and_drawn(run):
    record = set_up(run, coverage=0.9)
    calibration = json.loads((run.path / "run.json").read_text(encoding="utf-8"))["calibration"]
    labels, probabilities = rows_of(run, "test")
    assert calibration["temperature"] == record["temperature"]
    assert calibration["error_before"] == pytest.approx(calibration_error(labels, probabilities))
    assert calibration["error_after"] < calibration["error_before"]
    with Image.open(run.path / "figures" / "calibration.png") as image:
        assert np.asarray(image.convert("L")).std() > 1


def test_a_risk_is_promised_with_room_for_chance(run):
    record = set_up(run, risk=0.2)
    assert record["target"] == {"risk": 0.2}
    assert 0 < record["validation"]["risk"] < 0.2
    assert 0.4 <= record["validation"]["coverage"] < 1


def test_a_risk_that_cannot_be_promised_is_refused_with_the_least_that_can(run):
    with pytest.raises(ConfigError, match=r"0\.001: no threshold .* 200 validation images") as told:
        set_up(run, risk=0.001)
    least = float(told.value.message.rpartition(" ")[2])
    assert not (run.path / "abstention.json").exists()
    assert set_up(run, risk=least + 1e-4)


def test_off_answers_everything_again(run):
    set_up(run, coverage=0.5)
    assert read_abstention(run) is not None
    assert set_up(run, off=True) is None
    assert read_abstention(run) is None


def test_a_damaged_abstention_can_be_set_anew_or_off(run):
    (run.path / "abstention.json").write_text("{")
    assert set_up(run, coverage=0.9)["validation"]["num_answered"] == 180
    (run.path / "abstention.json").write_text("{")
    assert set_up(run, off=True) is None


def test_without_a_target_the_choices_are_shown_and_none_is_made(run, capsys):
    before = set_up(run, coverage=0.5)
    capsys.readouterr()
    assert set_up(run) == before
    out = capsys.readouterr().out
    table = [line.split("\t") for line in out.splitlines() if "\t" in line]
    assert table[0][:3] == ["--coverage", "threshold", "risk bound"]
    assert len(table) == 11
    coverages = [float(row[3]) for row in table[1:]]
    assert coverages == sorted(coverages, reverse=True)
    assert "now: 'unknown' below a confidence of" in out


def test_lines_to_copy_name_the_run_whatever_it_is_called(tmp_path, capsys):
    run = make_run(tmp_path / "my run", num_images=20)
    set_up(run)
    assert f"to set one: cvtrain calibrate '{run.path}' --coverage 0.9" in capsys.readouterr().out
    (run.path / "abstention.json").write_text("[]")
    with pytest.raises(RunError) as told:
        read_abstention(run)
    assert told.value.advice.startswith(f"Set it anew: cvtrain calibrate '{run.path}' --coverage")


def test_what_is_set_is_what_evaluate_measures(run):
    labels, probabilities = rows_of(run, "test")
    assert measure_abstention(run, labels, probabilities) == {}
    record = set_up(run, coverage=0.8)
    (name, measured), *_ = measure_abstention(run, labels, probabilities).items()
    assert name == "abstention"
    assert measured == {key: record[key] for key in ("temperature", "threshold")} | record["test"]


def test_an_older_run_and_two_classes(tmp_path):
    run = make_run(tmp_path / "run", class_names=("cat", "dog"), num_images=40)
    assert "calibration" not in run.content
    assert set_up(run, coverage=0.9)["validation"]["num_answered"] == 36
    assert Run.open(run.path).record.calibration.temperature > 1


def test_a_class_called_unknown_is_no_abstention(tmp_path):
    run = make_run(tmp_path / "run", class_names=("cat", "unknown"), num_images=20)
    with pytest.raises(ConfigError, match="class 'unknown'"):
        set_up(run, coverage=0.9)
    assert set_up(run) is None


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
@pytest.mark.parametrize("name", ["coverage", "risk"])
def test_shares_are_shares(run, name, share):
    with pytest.raises(ConfigError, match=f"--{name}"):
        set_up(run, **{name: share})


def test_a_run_without_a_model_or_predictions_is_refused(run):
    (run.path / "predictions-validation.csv").unlink()
    with pytest.raises(RunError, match=r"predictions-validation\.csv: cannot be used"):
        set_up(run, coverage=0.9)
    run.model_path.unlink()
    with pytest.raises(RunError, match="there is no model in this run"):
        set_up(run, coverage=0.9)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"format": 2, "temperature": 1, "threshold": 0.5}',
        '{"format": 1, "temperature": 0, "threshold": 0.5}',
        '{"format": 1, "temperature": NaN, "threshold": 0.5}',
        '{"format": 1, "temperature": 1e999, "threshold": 0.5}',
        '{"format": 1, "temperature": 1' + "0" * 400 + ', "threshold": 0.5}',
        '{"format": 1, "temperature": 1, "threshold": NaN}',
        '{"format": 1, "temperature": 1, "threshold": "high"}',
        '{"format": 1, "temperature": 1}',
    ],
)
def test_a_damaged_abstention_is_told(run, content):
    (run.path / "abstention.json").write_text(content)
    with pytest.raises(RunError, match=r"abstention\.json: damaged"):
        read_abstention(run)


def test_describe_coverage():
    part = {"num_images": 372, "num_answered": 338, "num_wrong": 12}
    words = "of 100 images like these it answers about 91, and about 3 of those answers are wrong"
    assert describe_coverage(part) == words
    assert describe_abstention(None) == "every image is answered"
    assert describe_abstention(Abstention(1.234, 0.5)) == (
        "'unknown' below a confidence of 0.5000 at temperature 1.23"
    )


def test_training_ends_with_the_same_calibration(finished):
    labels, probabilities = rows_of(finished, "validation")
    calibration = finished.content["calibration"]
    assert calibration["temperature"] == pytest.approx(fit_temperature(labels, probabilities))
    test = finished.content["metrics"]["test"]
    assert calibration["error_before"] == test["calibration_error"]
    assert (finished.figures / "calibration.png").exists()
    assert read_abstention(finished) is None

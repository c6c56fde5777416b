"""Prediction: tables and files, one bad file among good ones, any number of them."""

import csv
import json
import shutil

import numpy as np
import pytest

from cvtrain.commands.calibrate import calibrate
from cvtrain.commands.predict import predict
from cvtrain.errors import ConfigError, DataError
from cvtrain.runs.run import Run
from cvtrain.system.console import Console


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run_predict(run, paths, **options):
    options = {"top": 3, "output": None, "batch_size": 4, "console": Console(quiet=True)} | options
    predict(run, list(map(str, paths)), **options)


def test_the_csv_repeats_the_runs_predictions(finished, image_folder, tmp_path):
    run_predict(finished, [image_folder / "test"], output=tmp_path / "out.csv")
    ours = {row["file"]: row for row in rows_of(tmp_path / "out.csv")}
    recorded = rows_of(finished.path / "predictions-test.csv")
    assert len(ours) == len(recorded) == 15
    for row in recorded:
        mine = ours[str(image_folder / row["file"])]
        assert mine["prediction"] == row["prediction"]
        for name in finished.content["class_names"]:
            assert float(mine[f"p({name})"]) == pytest.approx(float(row[f"p({name})"]), abs=1e-6)


@pytest.mark.parametrize("name", ["out.csv", "out.json"])
def test_earlier_predictions_are_replaced_and_files_of_others_are_not(
    finished, image_folder, tmp_path, name
):
    output, (image, bad) = tmp_path / name, (image_folder / "test/red/000.png", tmp_path / "b.jpg")
    bad.touch()
    for paths in ([image, image], [image]):
        run_predict(finished, paths, output=output)
    first = output.read_bytes()
    with pytest.raises(DataError):
        run_predict(finished, [bad, image], output=output)
    run_predict(finished, [image], output=output)
    assert output.read_bytes() == first
    notes = first.replace(b"prediction", b"my verdict", 1)
    output.write_bytes(notes)
    with pytest.raises(ConfigError, match=f"{name} is there already"):
        run_predict(finished, [image], output=output)
    assert output.read_bytes() == notes
    run_predict(finished, [image], output=output, force=True)
    assert output.read_bytes() == first


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_the_batch_size_changes_nothing(finished, image_folder, tmp_path, batch_size):
    run_predict(finished, [image_folder / "test"], output=tmp_path / "a.csv", batch_size=4)
    run_predict(finished, [image_folder / "test"], output=tmp_path / "b.csv", batch_size=batch_size)
    for a, b in zip(rows_of(tmp_path / "a.csv"), rows_of(tmp_path / "b.csv"), strict=True):
        assert a["file"] == b["file"]
        np.testing.assert_allclose(float(a["p(red)"]), float(b["p(red)"]), atol=1e-6)


def test_json_has_the_best_classes_and_all_probabilities(finished, image_folder, tmp_path):
    output = tmp_path / "out.json"
    run_predict(finished, [image_folder / "test" / "red"], output=output, top=2)
    entries = json.loads(output.read_text(encoding="utf-8"))
    assert len(entries) == 5
    for entry in entries:
        ranked = sorted(entry["probabilities"].items(), key=lambda item: -item[1])
        assert [(t["class"], t["probability"]) for t in entry["top"]] == ranked[:2]
        assert entry["prediction"] == ranked[0][0]
        assert entry["confidence"] == ranked[0][1]
        assert sum(entry["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_a_bad_file_is_reported_and_stops_nothing(finished, image_folder, tmp_path, capsys):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    good = image_folder / "test" / "red" / "000.png"
    output = tmp_path / "out.csv"
    paths = [good, bad, tmp_path / "missing.jpg", good]
    with pytest.raises(DataError, match="2 of 4 files"):
        run_predict(finished, paths, output=output)
    rows = rows_of(output)
    assert [bool(row["error"]) for row in rows] == [False, True, True, False]
    assert rows[0]["prediction"] == rows[3]["prediction"] != ""
    assert "bad.jpg" in capsys.readouterr().err


def test_only_bad_files(finished, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="1 of 1"):
        run_predict(finished, [tmp_path / "bad.jpg"], output=tmp_path / "out.json")
    (entry,) = json.loads((tmp_path / "out.json").read_text())
    assert set(entry) == {"file", "error"}


def test_the_table_is_tab_separated_when_piped(finished, image_folder, capsys):
    run_predict(finished, [f"{image_folder}/test/red/*.png"], top=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("\t") == ["file", "class 1", "p 1"]
    assert len(lines) == 6
    assert lines[1].split("\t")[0].endswith("test/red/000.png")


def test_nothing_is_written_when_the_output_cannot_be(finished, image_folder, tmp_path):
    from cvtrain.errors import ResourceError

    (tmp_path / "file").write_text("x")
    with pytest.raises(ResourceError):
        run_predict(finished, [image_folder / "test"], output=tmp_path / "file" / "out.csv")


@pytest.fixture
def abstaining(finished, tmp_path):
    """The run with half of its validation images below the threshold, and what it has set."""
    run = Run.open(shutil.copytree(finished.path, tmp_path / "run that abstains"))
    calibrate(run, coverage=0.5, risk=None, off=False, console=Console(quiet=True))
    return run, json.loads((run.path / "abstention.json").read_text(encoding="utf-8"))


def test_a_run_that_abstains_says_unknown_below_its_threshold(abstaining, image_folder, tmp_path):
    run, set_up = abstaining
    names = run.content["class_names"]
    folder = image_folder / "validation"
    run_predict(run, [folder], output=tmp_path / "out.csv")
    run_predict(run, [folder], output=tmp_path / "out.json")
    rows = {row["file"]: row for row in rows_of(tmp_path / "out.csv")}
    entries = {row["file"]: row for row in json.loads((tmp_path / "out.json").read_text())}
    recorded = rows_of(run.path / "predictions-validation.csv")
    assert len(rows) == len(entries) == len(recorded) == 12
    for row in recorded:
        name = str(image_folder / row["file"])
        raised = np.array([float(row[f"p({n})"]) for n in names]) ** (1 / set_up["temperature"])
        expected = raised / raised.sum()
        assert [float(rows[name][f"p({n})"]) for n in names] == pytest.approx(expected, abs=1e-5)
        assert list(entries[name]["probabilities"].values()) == pytest.approx(expected, abs=1e-5)
        for found in (rows[name], entries[name]):
            assert float(found["confidence"]) == pytest.approx(expected.max(), abs=1e-5)
            if abs(expected.max() - set_up["threshold"]) > 1e-5:
                known = expected.max() > set_up["threshold"]
                assert found["prediction"] == (row["prediction"] if known else "unknown")
    answers = [row["prediction"] for row in rows.values()]
    assert 0 < answers.count("unknown") < 12


def test_the_table_of_a_run_that_abstains_has_its_answers(abstaining, image_folder, capsys):
    run, _ = abstaining
    predict(run, [str(image_folder / "test")], top=1, output=None, batch_size=4, console=Console())
    shown = capsys.readouterr()
    header, *rows = [line.split("\t") for line in shown.out.splitlines()]
    assert header == ["file", "prediction", "class 1", "p 1"]
    assert {answer for _, answer, _, _ in rows} - {"unknown"} <= set(run.content["class_names"])
    assert all(answer in ("unknown", best) for _, answer, best, _ in rows)
    assert "'unknown' below a confidence of" in shown.err
    assert f"(to remove the threshold: cvtrain calibrate '{run.path}' --off)" in shown.err

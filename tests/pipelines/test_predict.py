"""Prediction: tables and files, one bad file among good ones, any number of them."""

import csv
import json

import numpy as np
import pytest

from cvtrain.console import Console
from cvtrain.errors import DataError
from cvtrain.pipelines.predict import predict


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
        for name in finished.record["class_names"]:
            assert float(mine[f"p({name})"]) == pytest.approx(float(row[f"p({name})"]), abs=1e-6)


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

"""What training leaves behind is what the pages read: a report and a comparison of trained runs."""

import csv

from sklearn.metrics import accuracy_score
from web_pages import Tables

from cvtrain.commands.compare import all_pairs, open_runs, render_comparison
from cvtrain.commands.report import render_report
from cvtrain.reports.run_files import measured_record
from cvtrain.system.signals import Stop


def test_a_report_shows_all_that_training_leaves(finished):
    record = measured_record(finished)
    assert record.reading is not None
    assert record.calibration is not None
    assert record.mislabels is not None
    assert record.data.check is not None
    page = render_report(finished, Stop())
    with (finished.path / "predictions-test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    accuracy = accuracy_score([row["label"] for row in rows], [row["prediction"] for row in rows])
    assert Tables(page)["Scores by split"][2][:3] == ["test", "15", f"{100 * accuracy:.1f} %"]
    assert len(Tables(page)["Curves as a table"]) == 4
    assert "trained before" not in page
    assert "could not be read" not in page
    assert "with temperature" in page


def test_a_run_is_compared_with_another(finished, train, tmp_path):
    other = train(tmp_path / "other", "fit.epochs=1", "seed=4")
    contenders = open_runs([finished, other])
    rows = Tables(render_comparison(contenders, all_pairs(contenders)))
    assert rows["What differs in the configs"] == [["seed", "3", "4"], ["fit.epochs", "4", "1"]]
    assert rows["Paired tests"][0][:2] == [finished.path.name, "other"]

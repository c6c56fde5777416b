"""A run folder, read and shown as `report` and `compare` do it."""

import re
from pathlib import Path

from cvtrain.commands.compare import all_pairs, open_runs, render_comparison
from cvtrain.commands.report import read_suspects, render_report
from cvtrain.reports.run_files import (
    image_paths,
    measured_record,
    read_abstention,
    read_history,
    read_measurements,
    read_mistakes,
    read_settings,
)
from cvtrain.runs.predictions import read_predictions
from cvtrain.runs.run import Run
from cvtrain.runs.settings import flat_settings
from cvtrain.system.signals import Stop


def read_all(run: Run) -> None:
    """Read what `report` and `compare` read; AssertionError where a value is not of its type."""
    record = measured_record(run)
    num_classes = len(record.class_names)
    said = read_predictions(run.path / "predictions-test.csv", record.class_names)
    num_images = len(said.files)
    assert said.labels.shape == (num_images,)
    assert ((said.labels >= 0) & (said.labels < num_classes)).all()
    assert said.probabilities.shape == (num_images, num_classes)
    assert ((said.probabilities >= 0) & (said.probabilities <= 1)).all()
    history = read_history(run)
    assert len({len(column) for column in history.values()}) <= 1
    assert all(isinstance(value, float) for column in history.values() for value in column)
    for one in read_suspects(run):
        assert isinstance(one.p_label, float)
    assert all(0 <= one.p_true <= 1 for one in read_mistakes(run) or [])
    read_abstention(run)
    read_measurements(run)
    assert all(isinstance(value, str) for value in flat_settings(read_settings(run)).values())
    assert all(isinstance(path, Path) for path in image_paths(run, Path(record.data.root)).values())


def show_all(run: Run, other: Run) -> None:
    """Make both pages; AssertionError where one has control characters."""
    one = render_report(run, Stop())
    contenders = open_runs([run, other])
    two = render_comparison(contenders, all_pairs(contenders))
    for shown in (one, two):
        assert all(line.isprintable() for line in re.split(r"[\n\t]", shown))

"""Pictures of a page: SVG files that any reader of XML takes, with what they show in words."""

import base64
from xml.etree import ElementTree

import numpy as np
import pytest
from web_pages import HOSTILE

from cvtrain.reports.plots import plot_calibration, plot_curves, plot_validation_curves


def columns(num_epochs):
    epochs = np.arange(1, num_epochs + 1)
    falls, rises = 1 / epochs, 1 - 0.5 / epochs
    metrics = {"loss": falls, "accuracy": rises, "val_loss": 2 * falls, "val_accuracy": rises / 2}
    return {"epoch": epochs.tolist()} | {name: each.tolist() for name, each in metrics.items()}


def parsed(plot):
    kind, _, content = plot.picture.partition(";base64,")
    assert kind == "data:image/svg+xml"
    root = ElementTree.fromstring(base64.b64decode(content))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return root


def names(root):
    return {element.tag.rpartition("}")[2] for element in root.iter()}


@pytest.mark.parametrize("num_epochs", [1, 30])
@pytest.mark.parametrize("start", [None, {"val_loss": 3.0, "val_accuracy": 0.1}])
def test_curves(num_epochs, start):
    plots = plot_curves(columns(num_epochs), 1, start)
    assert [plot.summary.partition(" by ")[0] for plot in plots] == ["Loss", "Accuracy"]
    assert "validation from 25.0% to" in plots[1].summary
    for plot in plots:
        assert "path" in names(parsed(plot))


def test_no_epochs_no_curves():
    assert plot_curves({}, None) == []
    assert plot_validation_curves({}) == []


@pytest.mark.parametrize(
    ("best_epoch", "start", "mark"),
    [
        (7, None, "kept: epoch 7"),
        (0, {"val_loss": 1.0}, "kept: the initial weights"),
        (0, None, None),
    ],
)
def test_what_was_kept(best_epoch, start, mark):
    for plot in plot_curves(columns(9), best_epoch, start):
        assert ("kept" in plot.summary) == (mark is not None)
        assert (mark or "") in plot.summary


def test_the_same_numbers_make_the_same_picture():
    assert plot_curves(columns(4), 3) == plot_curves(columns(4), 3)


def test_names_of_runs_are_text_and_nothing_else():
    plots = plot_validation_curves({name: columns(3) for name in [*HOSTILE, "$\\frac{1}$"]})
    for plot in plots:
        assert not names(parsed(plot)) & {"script", "image", "img", "foreignObject", "a"}


def test_many_runs_leave_room_for_their_curves():
    few, many = (
        parsed(plot_validation_curves({f"run-{i}-{'x' * 40}": columns(3) for i in range(n)})[0])
        for n in (2, 30)
    )
    height = [float(root.get("height").removesuffix("pt")) for root in (few, many)]
    assert height[1] - height[0] > 28 * 12  # points, for a line of the legend each


@pytest.mark.parametrize("threshold", [None, 0.0, 0.6])
@pytest.mark.parametrize("is_tempered", [False, True])
def test_calibration(threshold, is_tempered):
    probabilities = np.random.default_rng(0).dirichlet([0.3] * 3, 200)
    labels = probabilities.argmax(axis=1)
    plots = plot_calibration(
        labels, probabilities, probabilities if is_tempered else None, threshold
    )
    assert len(plots) == 2 + is_tempered
    assert plots[-1].summary.endswith(
        "0.0% of all images, 0.0% of the half with the highest confidence."
    )
    for plot in plots:
        parsed(plot)

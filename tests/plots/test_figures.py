"""Figures are made for every size of data, and names are drawn as they are."""

import numpy as np
import pytest
from PIL import Image

from cvtrain.plots import figures


def history(num_epochs):
    epochs = [*range(1, num_epochs + 1)]
    same = {"accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.4}
    constant = {name: [value] * num_epochs for name, value in same.items()}
    return {"epoch": epochs, "loss": [1 / epoch for epoch in epochs], **constant}


def curves(num_epochs):
    return figures.draw_panels(figures.curve_panels(history(num_epochs), 1))


def drawn(figure, tmp_path):
    figures.save(figure, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.std() > 1
    return pixels


def test_smoothing_is_a_mean_of_as_many_before_as_after():
    values = [1.0, 0.0, 5.0, 3.0, 2.0]
    assert figures.smoothed(values, reach=1) == pytest.approx([1.0, 2.0, 8 / 3, 10 / 3, 2.0])
    assert figures.smoothed(values) == pytest.approx([1.0, 2.0, 11 / 5, 10 / 3, 2.0])


def test_smoothing_moves_no_straight_line():
    assert figures.smoothed(range(30)) == pytest.approx(range(30))


@pytest.mark.parametrize("suggestion", [1e-3, None])
def test_the_range_test(tmp_path, suggestion):
    rates = np.geomspace(1e-7, 10, 40)
    losses = np.concatenate(
        [np.full(20, 2.3), np.linspace(2.3, 1.0, 15), [2.0, 9.0, 80.0, 1e4, 1e9]]
    )
    figure = figures.draw_find_lr(rates, losses, losses, suggestion)
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    assert low < 1.0 < 2.3 < high < 4  # what diverged does not press the rest flat
    assert ("suggested rate: 1.0e-03" in figure.axes[0].get_legend_handles_labels()[1]) == bool(
        suggestion
    )
    drawn(figure, tmp_path)


@pytest.mark.parametrize("num_epochs", [1, 2, 30])
def test_curves(tmp_path, num_epochs):
    drawn(curves(num_epochs), tmp_path)


@pytest.mark.parametrize("num_epochs", [1, 4, 30])
def test_curves_named_after_what_they_show_are_the_measured_ones(num_epochs):
    columns = history(num_epochs)
    figure = curves(num_epochs)
    for axes, name in zip(figure.axes, ("loss", "accuracy"), strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        for label, key in (("training", name), ("validation", f"val_{name}")):
            assert list(lines[label].get_ydata()) == columns[key]
            assert lines[label].get_alpha() is None
            assert (f"{label}, smoothed" in lines) == (num_epochs == 30)
    (legend,) = figure.legends
    named = [text.get_text() for text in legend.get_texts()]
    assert named == [line.get_label() for line in figure.axes[0].lines]


@pytest.mark.parametrize("num_epochs", [1, 4, 30])
def test_the_legend_of_the_curves_hides_nothing(tmp_path, num_epochs):
    figure = curves(num_epochs)
    figures.save(figure, tmp_path / "curves.png")
    assert all(axes.get_legend() is None for axes in figure.axes)
    below = figure.legends[0].get_window_extent()
    assert not any(below.overlaps(axes.get_tightbbox()) for axes in figure.axes)
    assert below.x0 >= 0
    assert below.x1 <= figure.bbox.x1


@pytest.mark.parametrize("num_classes", [2, 10, 40])
def test_confusion_matrix(tmp_path, num_classes):
    names = [f"class {i}" for i in range(num_classes)]
    drawn(figures.draw_confusion_matrix(np.eye(num_classes, dtype=int) * 5, names), tmp_path)


def test_names_are_no_formulas_and_no_commands(tmp_path):
    names = ["$\\frac{1}$", "$unfinished", "a\x1b[31m", "猫", "x" * 200]
    drawn(figures.draw_confusion_matrix(np.eye(5, dtype=int), names), tmp_path)


def test_augmented_samples(tmp_path):
    rows = [[np.full((20, 30, 3), 10 * i, np.uint8) for i in range(4)]] * 3
    titles = ["original", "augmented", "37% its own", ""]
    drawn(figures.draw_augmented_samples(rows, ["a", "b", "c"], titles), tmp_path)


@pytest.mark.parametrize("num_images", [0, 1, 7])
def test_mistakes(tmp_path, num_images):
    images = [np.full((16, 16, 3), 100, np.uint8)] * num_images
    groups = [[(image, "cat 99%\nis dog 1%\nfile.jpg")] for image in images]
    drawn(figures.draw_contact_sheet(groups), tmp_path)


def probed(backbone, image_size, num_blocks):
    return [
        {
            "backbone": backbone,
            "image_size": [image_size, image_size],
            "block": f"block{i}",
            "multiply_adds": (i * image_size) ** 2,
            "accuracy": 1 - 1 / (i + 1),
            "standard_error": 0.01,
        }
        for i in range(1, num_blocks + 1)
    ]


@pytest.mark.parametrize(
    "lines", [[("a", 32, 1)], [("a", 32, 9), ("a", 64, 9)], [("a", 32, 5), ("$b$", 64, 30)]]
)
def test_probe(tmp_path, lines):
    rows = [row for line in lines for row in probed(*line)]
    drawn(figures.draw_probe(rows, rows[-1], 0.9), tmp_path)


def test_probe_shows_every_row_by_depth_and_by_cost():
    rows = probed("a", 32, 4) + probed("b", 64, 3)
    figure = figures.draw_probe(rows, rows[1], 0.6)
    for axes, places in zip(figure.axes, ([1, 2, 3, 4, 1, 2, 3], None), strict=True):
        points = np.concatenate([bars[0].get_xydata() for bars in axes.containers])
        costs = [row["multiply_adds"] / 1e6 for row in rows]
        assert points[:, 0] == pytest.approx(places or costs)
        assert points[:, 1] == pytest.approx([row["accuracy"] for row in rows])


@pytest.mark.parametrize("num_rungs", [1, 5])
def test_ladder(tmp_path, num_rungs):
    rungs = [
        {
            "name": f"rung {i}",
            "accuracy": 0.5 + i / 10,
            "accuracy_interval": [0.45 + i / 10, 0.53 + i / 10],
            "minutes": 0.1 + i,
        }
        for i in range(num_rungs)
    ]
    figure = figures.draw_ladder(rungs)
    drawn(figure, tmp_path)
    (bars,) = figure.axes[0].containers
    assert bars[0].get_xdata() == pytest.approx([rung["accuracy"] for rung in rungs])
    ends = [segment[:, 0] for segment in bars[2][0].get_segments()]
    assert np.array(ends) == pytest.approx(np.array([r["accuracy_interval"] for r in rungs]))

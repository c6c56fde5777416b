"""Figures are made for every size of data, and names are drawn as they are."""

import math

import numpy as np
import pytest
from PIL import Image

from cvtrain.visuals import draw


def history(num_epochs):
    return [
        {"epoch": i + 1, "loss": 1 / (i + 1), "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.4}
        for i in range(num_epochs)
    ]


def drawn(figure, tmp_path):
    draw.save(figure, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.std() > 1
    return pixels


def test_smoothing_is_an_exponential_average():
    values = [1.0, 0.0, 0.0, 2.0]
    assert draw.smoothed(values) == pytest.approx([1.0, 0.8, 0.64, 0.64 * 0.8 + 0.4])


def test_smoothing_bridges_gaps():
    assert draw.smoothed([1.0, math.nan, 1.0]) == pytest.approx([1.0, 1.0, 1.0])


@pytest.mark.parametrize("num_epochs", [1, 2, 30])
def test_curves(tmp_path, num_epochs):
    drawn(draw.draw_curves(history(num_epochs), 1), tmp_path)


@pytest.mark.parametrize("num_classes", [2, 10, 40])
def test_confusion_matrix(tmp_path, num_classes):
    names = [f"class {i}" for i in range(num_classes)]
    drawn(draw.draw_confusion_matrix(np.eye(num_classes, dtype=int) * 5, names), tmp_path)


def test_names_are_no_formulas_and_no_commands(tmp_path):
    names = ["$\\frac{1}$", "$unfinished", "a\x1b[31m", "猫", "x" * 200]
    drawn(draw.draw_confusion_matrix(np.eye(5, dtype=int), names), tmp_path)


def test_augmented_samples(tmp_path):
    rows = [[np.full((20, 30, 3), 10 * i, np.uint8) for i in range(4)]] * 3
    drawn(draw.draw_augmented_samples(rows, ["a", "b", "c"]), tmp_path)


@pytest.mark.parametrize("num_images", [0, 1, 7])
def test_mistakes(tmp_path, num_images):
    images = [np.full((16, 16, 3), 100, np.uint8)] * num_images
    drawn(draw.draw_mistakes(images, ["cat 99%\nis dog 1%\nfile.jpg"] * num_images), tmp_path)

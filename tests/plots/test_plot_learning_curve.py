"""The figure of a learning curve shows what was measured, and beyond it only what is forecast."""

import numpy as np
import pytest
from PIL import Image

from cvtrain.plots.figures import save
from cvtrain.plots.learning_curve import draw_learning_curve

POINTS = [
    {"num_images": size, "accuracy": accuracy}
    for size, accuracy in ((100, 0.5), (100, 0.6), (200, 0.7), (400, 0.75))
]
CURVE = [
    {
        "num_images": size,
        "accuracy": accuracy,
        "accuracy_interval": [accuracy - 0.1, accuracy + 0.05],
    }
    for size, accuracy in ((100, 0.55), (200, 0.7), (400, 0.75))
]
FORECAST = [{"num_images": 800, "accuracy": 0.78, "accuracy_interval": [0.7, 0.85]}]


def test_every_number_is_where_it_should_be():
    (axes,) = draw_learning_curve(POINTS, CURVE, FORECAST).axes
    assert axes.get_xscale() == "log"
    (dots,) = [each for each in axes.collections if each.get_label() == "each subset"]
    np.testing.assert_allclose(dots.get_offsets(), [list(each.values()) for each in POINTS])
    measured, (_, _), (bars,) = axes.containers[0]
    np.testing.assert_allclose(measured.get_xydata(), [[100, 0.55], [200, 0.7], [400, 0.75]])
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [each["accuracy_interval"] for each in CURVE])
    (expected,) = [each for each in axes.lines if each.get_label() == "extrapolated"]
    np.testing.assert_allclose(expected.get_xydata(), [[400, 0.75], [800, 0.78]])


def test_without_a_forecast_nothing_is_drawn_beyond_the_data(tmp_path):
    figure = draw_learning_curve(POINTS, CURVE, [])
    (axes,) = figure.axes
    assert max(line.get_xdata().max() for line in axes.lines if len(line.get_xdata())) == 400
    save(figure, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.size == pytest.approx((1080, 600))

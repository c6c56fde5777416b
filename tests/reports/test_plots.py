"""Values -> positions on a drawing, between axes with round ticks."""

import math

import numpy as np
import pytest

from cvtrain.reports.plots import Plot, Series, plot


def drawn(xs, ys, **options):
    return plot("title", [Series("a", xs, ys)], x_label="x", summary="", **options)


def labels(ticks):
    return [tick.label for tick in ticks]


@pytest.mark.parametrize(
    ("ys", "expected"),
    [
        ((0.03, 0.97), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ((0.0, 2.1), ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5"]),
        ((1234, 6543), ["1,000", "2,000", "3,000", "4,000", "5,000", "6,000", "7,000"]),
        ((0.00012, 0.00015), ["0.000120", "0.000125", "0.000130", "0.000135", "0.000140",
                              "0.000145", "0.000150"]),
        ((-1, 1), ["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
        ((3, 3), ["2.4", "2.6", "2.8", "3.0", "3.2", "3.4", "3.6"]),
    ],
)  # fmt: skip
def test_ticks_are_round_and_hold_the_values(ys, expected):
    assert labels(drawn((0, 1), ys).y_ticks) == expected


def test_epochs_are_whole_numbers():
    assert labels(drawn(range(1, 31), range(30)).x_ticks) == ["5", "10", "15", "20", "25", "30"]
    assert labels(drawn((1, 2, 3), (1, 2, 3)).x_ticks) == ["1", "2", "3"]


def test_per_cent():
    both = drawn((0, 1), (0.7, 0.72), x_is_share=True, y_is_share=True, x_range=(0, 1))
    assert labels(both.x_ticks) == ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]
    assert labels(both.y_ticks) == ["70.0 %", "70.5 %", "71.0 %", "71.5 %", "72.0 %"]


def test_positions_are_linear_and_upside_down():
    xs, ys = np.linspace(0, 4, 9), np.linspace(0, 1, 9)
    (line,) = drawn(xs, ys).lines
    x, y = np.array(line.points).T
    np.testing.assert_allclose(x, np.linspace(Plot.left, Plot.right, 9), atol=0.05)
    np.testing.assert_allclose(y, np.linspace(Plot.bottom, Plot.top, 9), atol=0.05)


def test_points_that_are_not_finite_are_left_out():
    (line,) = drawn((1, 2, 3, 4), (1.0, math.nan, math.inf, 2.0)).lines
    assert len(line.points) == 2
    assert all(map(math.isfinite, (n for point in line.points for n in point)))


def test_nothing_but_what_is_not_finite():
    assert drawn((1,), (math.nan,)).lines[0].points == ()


def test_intervals_and_marks_count_for_the_axes():
    one = Series("a", (1, 2), (0.5, 0.5), lows=(0.1, 0.2), highs=(0.9, 0.8))
    made = plot("t", [one], x_label="x", summary="", mark=(2, "here"))
    assert labels(made.y_ticks)[0] == "0.0"
    assert made.lines[0].whiskers[1][0] == made.mark.at == Plot.right


@pytest.mark.parametrize("ys", [(9, 1, 1), (0, 0, 9), (9, 9, 0), (0, 9, 9), (5, 5, 5)])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_label_keeps_away_from_the_line(ys, epoch):
    made = drawn((1, 2, 3), ys, mark=(epoch, "kept: epoch 3"), y_range=(0, 9))
    mark, side = made.mark, 1 if made.mark.anchor == "start" else -1
    under = np.linspace(mark.label_x, mark.label_x + 90 * side, 50)
    assert np.all((under >= Plot.left) & (under <= Plot.right))
    heights = np.interp(under, *zip(*made.lines[0].points, strict=True))
    gaps = {y: np.abs(heights - y).min() for y in (Plot.top + 14, Plot.bottom - 6)}
    assert gaps[mark.label_y] >= 0.8 * max(gaps.values())

"""Numbers -> what the templates draw as inline SVG: crisp at any size, in light and dark.

Positions are in units of a drawing of `Plot.width` x `Plot.height`; y grows downwards, as in SVG.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

_MOST_TICKS = 6
_LABEL_WIDTH = 110


@dataclass(frozen=True)
class Series:
    """Values to draw, of one name.

    Attributes:
        name: in the legend; without one the line is a guide for the eye.
        xs, ys: of each point; those that are not finite are left out.
        lows, highs: ends of an interval at each point; empty for none.
        dots: mark each point, because there are few and the line between them is no measurement.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    lows: Sequence[float] = ()
    highs: Sequence[float] = ()
    dots: bool = False


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """A series as it is drawn.

    Attributes:
        name: as in the series.
        points: (x, y) of each point.
        whiskers: (x, y of the lower end, y of the upper end) of each interval.
        dots: whether points are marked.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    whiskers: tuple[tuple[float, float, float], ...] = ()
    dots: bool = False

    @property
    def path(self) -> str:
        """As the `points` of a polyline."""
        return " ".join(f"{x},{y}" for x, y in self.points)


@dataclass(frozen=True)
class Mark:
    """A vertical line at x, and its label, which begins or ends at (label_x, label_y)."""

    at: float
    label: str
    label_x: float
    label_y: float
    anchor: str


@dataclass(frozen=True)
class Plot:
    """Lines between two axes.

    Attributes:
        title: above the plot.
        summary: what it shows in words, for those who do not see it.
        x_label: below the axis.
        mark: a vertical line with a label, or None.
    """

    title: str
    summary: str
    x_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    mark: Mark | None = None
    # Of the whole drawing, and the edges of the area between the axes.
    width: ClassVar[int] = 420
    height: ClassVar[int] = 260
    left: ClassVar[int] = 48
    right: ClassVar[int] = 400
    top: ClassVar[int] = 10
    bottom: ClassVar[int] = 222


def plot(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    summary: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    x_is_share: bool = False,
    y_is_share: bool = False,
    mark: tuple[float, str] | None = None,
) -> Plot:
    """Lay out series between axes whose ticks are round numbers.

    Args:
        x_range, y_range: ends of the axes; by default those of the values, y from round to round.
        x_is_share: x is in 0..1, and its ticks are per cent; else x counts, and they are whole.
        y_is_share: the same of y, which otherwise is any number.
        mark: x and label of a vertical line.
    """
    x_low, x_high = x_range or _range([x for one in series for x in one.xs])
    ys = [y for one in series for y in (*one.ys, *one.lows, *one.highs)]
    y_low, y_high = y_range or _round_range(*_range(ys))

    def across(x: float) -> float:
        return round(Plot.left + (Plot.right - Plot.left) * (x - x_low) / (x_high - x_low), 1)

    def down(y: float) -> float:
        return round(Plot.bottom - (Plot.bottom - Plot.top) * (y - y_low) / (y_high - y_low), 1)

    lines = []
    for one in series:
        points = [p for p in zip(one.xs, one.ys, strict=True) if all(map(math.isfinite, p))]
        whiskers = zip(one.xs, one.lows, one.highs, strict=True) if one.lows else ()
        lines.append(
            Line(
                one.name,
                tuple((across(x), down(y)) for x, y in points),
                tuple((across(x), down(low), down(high)) for x, low, high in whiskers),
                one.dots,
            )
        )
    x_step = _step(x_low, x_high) if x_is_share else max(1.0, _step(x_low, x_high))
    x_ticks = _ticks(x_low, x_high, x_step, x_is_share)
    y_ticks = _ticks(y_low, y_high, _step(y_low, y_high), y_is_share)
    return Plot(
        title,
        summary,
        x_label,
        tuple(Tick(across(x), label) for x, label in x_ticks),
        tuple(Tick(down(y), label) for y, label in y_ticks),
        tuple(lines),
        _mark(across(mark[0]), mark[1], lines) if mark else None,
    )


def _mark(at: float, label: str, lines: Sequence[Line]) -> Mark:
    """Its label goes to the side with more room, above or below what is drawn there."""
    side = -1 if at > (Plot.left + Plot.right) / 2 else 1
    below = np.linspace(at, at + side * _LABEL_WIDTH, 12)
    points = [zip(*line.points, strict=True) for line in lines if line.points]
    drawn = [height for xs, ys in points for height in np.interp(below, xs, ys)]
    low, high = Plot.bottom - 6, Plot.top + 14
    label_y = max((low, high), key=lambda height: min((abs(height - y) for y in drawn), default=0))
    return Mark(at, label, at + 6 * side, label_y, "start" if side > 0 else "end")


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Least and greatest of the finite values; never of no length."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _round_range(low: float, high: float) -> tuple[float, float]:
    step = _step(low, high)
    return math.floor(low / step) * step, math.ceil(high / step) * step


def _step(low: float, high: float) -> float:
    """The least of 1, 2 and 5 times a power of ten with at most `_MOST_TICKS` steps."""
    least = (high - low) / _MOST_TICKS
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * n for n in (1, 2, 5, 10) if power * n >= least * (1 - 1e-9))


def _ticks(low: float, high: float, step: float, is_share: bool) -> Iterator[tuple[float, str]]:
    decimals = max(0, -math.floor(math.log10(step) + 1e-9) - 2 * is_share)
    for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1):
        value = n * step
        shown = f"{100 * value:.{decimals}f} %" if is_share else f"{value:,.{decimals}f}"
        yield value, shown

"""Measures of faithfulness: does the model use the regions that a map shows?

All take probabilities, images, one class an image and maps of any size, and give one number an
image. What is taken away from an image gets its mean colour (`attributions.blank`), unless said
otherwise. A number alone says little, because it depends on the model as much as on the map: set it
beside that of `random_maps`, the control that any method has to beat.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu

from cvtrain.explain.attributions import blank, blend, by_batches
from cvtrain.explain.flat_model import FlatModel
from cvtrain.explain.overlay import heatmap, upsample

NUM_STEPS = 25
ROAD_SHARES = (0.2, 0.4, 0.6, 0.8)
ROAD_NOISE = 0.01
BLUR = 1 / 20
BORDER = 1 / 10

Forward = Callable[[np.ndarray], np.ndarray]
"""A batch of images (n, h, w, channels) float32 -> probabilities (n, classes)."""


@dataclass(frozen=True)
class Measure:
    """One number an image, and the curve behind it where there is one.

    Attributes:
        better: `higher` or `lower`; empty where neither is.
        values: (n,) float64.
        shares: (points,) share of the pixels that were changed, 0..1; empty without a curve.
        curves: (n, points) probability of the class at each share.
    """

    better: str
    values: np.ndarray
    shares: np.ndarray = field(default_factory=lambda: np.empty(0))
    curves: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    @property
    def mean(self) -> float:
        """The mean of the values."""
        return float(self.values.mean())


def evaluate(
    forward: Forward,
    images: np.ndarray,
    classes: np.ndarray,
    maps: np.ndarray,
    *,
    batch_size: int = 32,
    seed: int = 0,
) -> dict[str, Measure]:
    """Deletion, insertion, average drop and increase, ROAD and border mass, by name.

    Costs about 60 forward passes an image, and two seconds of linear algebra at 224x224.

    Args:
        forward: as `probabilities_of` makes it.
        images: (n, height, width, channels) float32, as the model takes them.
        classes: (n,) class index of each map.
        maps: (n, h, w) raw and signed, of any size.
        batch_size: images in a forward pass.
        seed: of the order of equally relevant pixels, and of the noise of ROAD.
    """
    maps = np.stack([upsample(raw, images.shape[1:3]) for raw in maps])
    arguments = (forward, images, classes, maps)
    drop, increase = drop_and_increase(*arguments, batch_size=batch_size)
    most, least = road(*arguments, batch_size=batch_size, seed=seed)
    return {
        "deletion": deletion(*arguments, batch_size=batch_size, seed=seed),
        "insertion": insertion(*arguments, batch_size=batch_size, seed=seed),
        "average drop": drop,
        "average increase": increase,
        "ROAD, most relevant first": most,
        "ROAD, least relevant first": least,
        "border mass": border_mass(maps),
    }


def probabilities_of(opened: FlatModel) -> Forward:
    """Compile an opened model for `evaluate`: its probabilities, as it gave them before opening.

    Scores that are not finite count as in `explanation`.
    """
    forward = opened.inference(opened.network)
    return lambda images: opened.probabilities(np.nan_to_num(forward(images)).astype(np.float64))


def random_maps(num: int, *, seed: int = 0) -> np.ndarray:
    """Smooth maps (num, 7, 7) that know neither image nor model, as coarse as those of a CAM."""
    return np.random.default_rng(seed).random((num, 7, 7), np.float32)


def deletion(
    forward: Forward,
    images: np.ndarray,
    classes: np.ndarray,
    maps: np.ndarray,
    *,
    batch_size: int = 32,
    seed: int = 0,
) -> Measure:
    """Area under the probability while pixels get blank, the most relevant first; lower is better.

    In 25 steps. Petsiuk et al. (2018), RISE, section 4.1.

    Args as in `evaluate`, with maps at the size of the images, here and in all that follow.
    """
    ends = [blank(image) for image in images]
    return _area("lower", forward, images, ends, classes, maps, batch_size, seed)


def insertion(
    forward: Forward,
    images: np.ndarray,
    classes: np.ndarray,
    maps: np.ndarray,
    *,
    batch_size: int = 32,
    seed: int = 0,
) -> Measure:
    """Area under the probability while a blurred image gets its pixels back; higher is better.

    The most relevant first, in 25 steps. The blur is Gaussian, 1/20 of the shorter side: starting
    from a plain colour, every pixel would bring an edge of its own. Petsiuk et al. (2018), RISE,
    section 4.1.
    """
    sigma = BLUR * min(images.shape[1:3])
    starts = [gaussian_filter(image, (sigma, sigma, 0)) for image in images]
    return _area("higher", forward, starts, images, classes, maps, batch_size, seed)


def drop_and_increase(
    forward: Forward,
    images: np.ndarray,
    classes: np.ndarray,
    maps: np.ndarray,
    *,
    batch_size: int = 32,
) -> tuple[Measure, Measure]:
    """Compare the probability Y with O, that of the image reduced to what the map shows.

    Average drop is max(0, Y - O) / Y, and lower is better; average increase is the share of images
    with O > Y, and higher is better. Both in 0..1. Chattopadhay et al. (2018), Grad-CAM++,
    section 4.1, with the mean colour for black.
    """
    rows = (x for image, raw in zip(images, maps, strict=True) for x in _whole_and_seen(image, raw))
    whole, seen = _asked(forward, rows, classes, 2, batch_size).T
    # A probability may be so small that it is zero.
    drop = np.maximum(whole - seen, 0) / np.maximum(whole, np.finfo(float).tiny)
    return Measure("lower", drop), Measure("higher", (seen > whole).astype(float))


def road(
    forward: Forward,
    images: np.ndarray,
    classes: np.ndarray,
    maps: np.ndarray,
    *,
    batch_size: int = 32,
    seed: int = 0,
) -> tuple[Measure, Measure]:
    """Mean probability after 20, 40, 60 and 80 % of the pixels were replaced by their surroundings.

    Most relevant first, where lower is better, and least relevant first, where higher is better.
    The imputation (`impute`) leaves no trace of which pixels were replaced, which would tell the
    class itself. Rong et al. (2022), A Consistent and Efficient Evaluation Strategy for Attribution
    Methods (ROAD).
    """
    measures = []
    for sign, better in ((1, "lower"), (-1, "higher")):
        rows = (
            row
            for image, raw in zip(images, maps, strict=True)
            for row in _imputed(image, sign * raw, seed)
        )
        curves = _asked(forward, rows, classes, 1 + len(ROAD_SHARES), batch_size)
        shares = np.array([0, *ROAD_SHARES])
        measures.append(Measure(better, curves[:, 1:].mean(axis=1), shares, curves))
    return measures[0], measures[1]


def border_mass(maps: np.ndarray) -> Measure:
    """Share of the positive mass of each map in the outer tenth on every side, in 0..1.

    A uniform map has 0.36. Much more than that says that the maps stick to the border, which
    padding does to a network. An empty map has the value 0.
    """
    heats = np.stack([heatmap(raw) for raw in maps]).astype(np.float64)
    height, width = heats.shape[1:]
    rows, columns = round(BORDER * height), round(BORDER * width)
    inner = heats[:, rows : height - rows, columns : width - columns].sum(axis=(1, 2))
    whole = heats.sum(axis=(1, 2))
    return Measure("", np.divide(whole - inner, whole, out=np.zeros(len(heats)), where=whole > 0))


def impute(image: np.ndarray, removed: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Noisy linear imputation: each removed pixel is the weighted mean of its neighbours.

    The four nearest weigh 1/6 each, the four diagonal ones 1/12; neighbours that were removed too
    make a linear system. Gaussian noise of 1 % of the image's range is added. Rong et al. (2022),
    section 4.2.

    Args:
        image: (h, w, channels) float32.
        removed: (h, w) bool, not all of them.
    """
    height, width, channels = image.shape
    pixels = image.reshape(-1, channels).astype(np.float64)
    gone = removed.ravel()
    unknowns = np.flatnonzero(gone)
    equation_of = np.cumsum(gone) - 1
    ys, xs = np.divmod(unknowns, width)
    equations = np.arange(len(unknowns))
    diagonal = np.zeros(len(unknowns))
    known_part = np.zeros((len(unknowns), channels))
    entries = []
    for dy, dx in np.argwhere(np.ones((3, 3))) - 1:
        if dy == dx == 0:
            continue
        weight = 1 / 12 if dy and dx else 1 / 6
        y, x = ys + dy, xs + dx
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        neighbour = np.where(inside, y * width + x, 0)
        known, linked = inside & ~gone[neighbour], inside & gone[neighbour]
        diagonal += weight * inside
        known_part[known] += weight * pixels[neighbour[known]]
        columns = equation_of[neighbour[linked]]
        entries.append((np.full(len(columns), -weight), equations[linked], columns))
    entries.append((diagonal, equations, equations))
    values, rows, columns = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    system = csc_matrix((values, (rows, columns)), shape=(len(unknowns), len(unknowns)))
    # The matrix is symmetric and positive definite: no pivots, which is half the time.
    solver = splu(
        system,
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    noise = ROAD_NOISE * np.ptp(image) * generator.standard_normal(known_part.shape)
    pixels[unknowns] = solver.solve(known_part) + noise
    return pixels.reshape(image.shape).astype(np.float32)


def _area(
    better: str,
    forward: Forward,
    starts: Iterable[np.ndarray],
    ends: Iterable[np.ndarray],
    classes: np.ndarray,
    maps: np.ndarray,
    batch_size: int,
    seed: int,
) -> Measure:
    """Area under the probability while images turn from `starts` to `ends`, by relevance."""
    counts = np.rint(np.linspace(0, maps[0].size, NUM_STEPS + 1)).astype(int)
    rows = (
        row
        for start, end, raw in zip(starts, ends, maps, strict=True)
        for row in _turning(start, end, _order(raw, seed), counts)
    )
    curves = _asked(forward, rows, classes, len(counts), batch_size)
    shares = counts / counts[-1]
    areas = (np.diff(shares) * (curves[:, 1:] + curves[:, :-1]) / 2).sum(axis=1)
    return Measure(better, areas, shares, curves)


def _order(raw: np.ndarray, seed: int) -> np.ndarray:
    """Places of the pixels by falling relevance; equal ones at random, not from the top left."""
    chance = np.random.default_rng(seed).random(raw.size)
    return np.lexsort((chance, -raw.ravel()))


def _turning(
    start: np.ndarray, end: np.ndarray, order: np.ndarray, counts: np.ndarray
) -> Iterator[np.ndarray]:
    flat_start, flat_end = (image.reshape(-1, image.shape[-1]) for image in (start, end))
    for count in counts:
        row = flat_start.copy()
        row[order[:count]] = flat_end[order[:count]]
        yield row.reshape(start.shape)


def _whole_and_seen(image: np.ndarray, raw: np.ndarray) -> Iterator[np.ndarray]:
    yield image
    yield blend(image, heatmap(raw))


def _imputed(image: np.ndarray, raw: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    yield image
    order = _order(raw, seed)
    for i, share in enumerate(ROAD_SHARES):
        removed = np.zeros(raw.size, bool)
        removed[order[: round(share * raw.size)]] = True
        yield impute(image, removed.reshape(raw.shape), np.random.default_rng([seed, i]))


def _asked(
    forward: Forward, rows: Iterable[np.ndarray], classes: np.ndarray, each: int, batch_size: int
) -> np.ndarray:
    """(n, each) probability of an image's class in each of its rows, `each` rows an image."""
    batch_size = min(batch_size, each * len(classes))
    results: Iterator[Any] = by_batches(forward, ((row,) for row in rows), batch_size)
    return np.array([[next(results)[c] for _ in range(each)] for c in classes], np.float64)

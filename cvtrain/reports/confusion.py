"""The confusion matrix as a table whose cells open their images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from cvtrain.evaluation.metrics import log_losses
from cvtrain.runs.predictions import Predictions

MOST_CLASSES = 30
"""The largest matrix that is shown; of larger ones the most frequent confusions are."""

MOST_CONFUSIONS = 60
PER_MISTAKE, PER_HIT = 12, 6
"""The largest number of images of a cell off and on the diagonal."""

_SHADES = 10

Place = tuple[int, int]
Counts = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Tile:
    """One image on the page.

    Attributes:
        file: file name in the CSV files of the run.
        picture: data URI; may be empty.
        caption: predicted class and its probability.
    """

    file: str
    picture: str
    caption: str


@dataclass(frozen=True)
class Cell:
    """The test images with one true and one predicted class.

    Attributes:
        name: unique identifier on the page.
        true, predicted: class names.
        count: number of images.
        share: share of the images of the true class, 0..1.
        tiles: shown images, those with the highest loss.
    """

    name: str
    true: str
    predicted: str
    count: int
    share: float
    tiles: tuple[Tile, ...]

    @property
    def is_right(self) -> bool:
        """Whether the cell is on the diagonal."""
        return self.true == self.predicted

    @property
    def shade(self) -> int:
        """The intensity of the colour, 0 to 9."""
        return int(np.ceil(self.share * (_SHADES - 1)))


@dataclass(frozen=True)
class Confusion:
    """The confusion matrix.

    Attributes:
        rows: cells by true class; empty for more than `MOST_CLASSES` classes.
        largest: up to `MOST_CONFUSIONS` cells off the diagonal with the most images.
    """

    rows: tuple[tuple[Cell, ...], ...]
    largest: tuple[Cell, ...]

    @property
    def with_images(self) -> tuple[Cell, ...]:
        """The shown cells that have images."""
        cells = [cell for row in self.rows for cell in row] or self.largest
        return tuple(cell for cell in cells if cell.tiles)


def images_by_cell(predictions: Predictions, counts: Counts) -> dict[Place, list[int]]:
    """Indices of the images of each shown cell (true, predicted), sorted by falling loss.

    Args:
        counts: the whole matrix.
    """
    shown = None if len(counts) <= MOST_CLASSES else set(_largest(counts))
    losses = log_losses(predictions.labels, predictions.probabilities)
    pairs = list(zip(predictions.labels.tolist(), predictions.predicted.tolist(), strict=True))
    cells: dict[Place, list[int]] = {}
    for i in np.argsort(-losses, kind="stable").tolist():
        place = pairs[i]
        if shown is None or place in shown:
            images = cells.setdefault(place, [])
            if len(images) < (PER_HIT if place[0] == place[1] else PER_MISTAKE):
                images.append(i)
    return cells


def by_turns(cells: Mapping[Place, Sequence[int]]) -> Iterator[int]:
    """One image of each cell in turn, mistakes first, so that a shorter list has some of each."""
    for is_hit in (False, True):
        some = [
            images for (true, predicted), images in cells.items() if (true == predicted) is is_hit
        ]
        for turn in zip_longest(*some):
            yield from (image for image in turn if image is not None)


def confusion(
    counts: Counts,
    class_names: Sequence[str],
    predictions: Predictions,
    cells: Mapping[Place, Sequence[int]],
    pictures: Mapping[str, str],
) -> Confusion:
    """The matrix and its images.

    Args:
        counts: `confusion_matrix` of run.json.
        class_names: class names by index.
        predictions: predictions for the test images.
        cells: image indices from `images_by_cell`.
        pictures: data URIs by file name.
    """

    def cell(place: Place) -> Cell:
        true, predicted = place
        count, of_class = counts[true][predicted], sum(counts[true])
        return Cell(
            f"cell-{true}-{predicted}",
            class_names[true],
            class_names[predicted],
            count,
            count / of_class if count else 0.0,
            tuple(_tiles(cells.get(place, ()), class_names, predictions, pictures)),
        )

    numbers = range(len(class_names) if len(class_names) <= MOST_CLASSES else 0)
    rows = tuple(tuple(cell((true, predicted)) for predicted in numbers) for true in numbers)
    return Confusion(rows, tuple(map(cell, _largest(counts))))


def _largest(counts: Counts) -> list[Place]:
    mistakes = np.array(counts)
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:MOST_CONFUSIONS].tolist()
    places = [divmod(place, len(mistakes)) for place in order]
    return [place for place in places if mistakes[place]]


def _tiles(
    images: Iterable[int],
    class_names: Sequence[str],
    predictions: Predictions,
    pictures: Mapping[str, str],
) -> Iterator[Tile]:
    for i in images:
        file, probabilities = predictions.files[i], predictions.probabilities[i]
        said = f"{class_names[probabilities.argmax()]} {probabilities.max():.0%}"
        yield Tile(file, pictures.get(file, ""), said)

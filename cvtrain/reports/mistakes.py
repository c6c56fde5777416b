"""The worst mistakes as cards of a page, with their maps or without."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cvtrain.reports.run_files import Mistake
from cvtrain.reports.thumbnails import thumbnails
from cvtrain.runs.predictions import Predictions
from cvtrain.runs.run import Run
from cvtrain.system.signals import Stop

_LONGEST = 224
_BUDGET = 1_300_000


@dataclass(frozen=True)
class Card:
    """One misclassified image on the page.

    Attributes:
        file: file name in the run.
        true, predicted: class names.
        p_true, p_predicted: probabilities of these classes, 0..1.
        photograph: data URI; may be empty.
        maps: class names and data URIs of the maps for the predicted and the true class.
    """

    file: str
    true: str
    predicted: str
    p_true: float
    p_predicted: float
    photograph: str
    maps: tuple[tuple[str, str], ...] = ()


def explained_cards(run: Run, mistakes: Sequence[Mistake], stop: Stop) -> list[Card]:
    """Cards of mistakes whose photographs and maps are in the run."""
    names = [n for one in mistakes for n in (one.picture, one.map_predicted, one.map_true) if n]
    files = {name: run.path / "mistakes" / name for name in names}
    pictures = thumbnails(files, longest=_LONGEST, budget=_BUDGET, stop=stop)
    cards = []
    for one in mistakes:
        maps = ((one.predicted, one.map_predicted), (one.true, one.map_true))
        cards.append(
            Card(
                one.file,
                one.true,
                one.predicted,
                one.p_true,
                one.p_predicted,
                pictures.get(one.picture, ""),
                tuple((c, pictures[name]) for c, name in maps if name and pictures.get(name)),
            )
        )
    return cards


def plain_cards(
    images: Sequence[int],
    predictions: Predictions,
    class_names: Sequence[str],
    pictures: Mapping[str, str],
) -> list[Card]:
    """Cards of mistakes without maps.

    Args:
        images: indices in `predictions`.
        pictures: data URIs by file name.
    """
    cards = []
    for i in images:
        file, probabilities = predictions.files[i], predictions.probabilities[i]
        true, predicted = predictions.labels[i], probabilities.argmax()
        cards.append(
            Card(
                file,
                class_names[true],
                class_names[predicted],
                float(probabilities[true]),
                float(probabilities[predicted]),
                pictures.get(file, ""),
            )
        )
    return cards

"""The worst mistakes: with the maps that were made of them, else their photographs alone."""

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
    """One mistake on the page.

    Attributes:
        file: as the run names it.
        true, predicted: names of the classes.
        p_true, p_predicted: their probabilities, 0..1.
        photograph: data URI; empty where there is none.
        maps: (class name, data URI) of the maps for the predicted and the true class; may be empty.
    """

    file: str
    true: str
    predicted: str
    p_true: float
    p_predicted: float
    photograph: str
    maps: tuple[tuple[str, str], ...] = ()


def explained_cards(run: Run, mistakes: Sequence[Mistake], stop: Stop) -> list[Card]:
    """Cards of mistakes whose pictures lie in the run."""
    named = [
        name
        for one in mistakes
        for name in (one.picture, one.map_predicted, one.map_true)
        if name is not None
    ]
    files = {name: run.path / "mistakes" / name for name in named}
    pictures = thumbnails(files, longest=_LONGEST, budget=_BUDGET, stop=stop)

    def maps(one: Mistake) -> tuple[tuple[str, str], ...]:
        pairs = ((one.predicted, one.map_predicted), (one.true, one.map_true))
        return tuple((said, pictures[name]) for said, name in pairs if name and pictures.get(name))

    return [
        Card(
            one.file,
            one.true,
            one.predicted,
            one.p_true,
            one.p_predicted,
            pictures.get(one.picture, ""),
            maps(one),
        )
        for one in mistakes
    ]


def plain_cards(
    images: Sequence[int],
    predictions: Predictions,
    class_names: Sequence[str],
    pictures: Mapping[str, str],
) -> list[Card]:
    """Cards of mistakes without maps.

    Args:
        images: their positions in `predictions`.
        pictures: data URIs by the names in `predictions`.
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

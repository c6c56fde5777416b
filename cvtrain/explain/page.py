"""Maps, figures and tables -> one HTML page that needs nothing else, see `cvtrain.system.html`."""

from collections.abc import Sequence
from dataclasses import dataclass

from cvtrain.explain.overlay import colour_bar
from cvtrain.system.html import data_uri, encoded, render


@dataclass(frozen=True)
class View:
    """One class asked of one image.

    Attributes:
        name: of the class.
        role: "predicted", "true", "predicted and true" or "asked".
        probability: 0..1.
        score: the logit.
        note: a remark on the map, such as "all negative"; "" for none.
        picture: data URI of the map over the photograph.
    """

    name: str
    role: str
    probability: float
    score: float
    note: str
    picture: str


@dataclass(frozen=True)
class Card:
    """One image and the classes asked of it.

    Attributes:
        file: name of the image as the page shows it.
        true: its class, or None when that is not known.
        predicted: the class with the highest score.
        picture: data URI of the photograph.
        views: at least one; shown in this order, side by side.
    """

    file: str
    true: str | None
    predicted: str
    picture: str
    views: tuple[View, ...]

    @property
    def outcome(self) -> str:
        """`right`, `wrong` or `unknown`."""
        if self.true is None:
            return "unknown"
        return "right" if self.true == self.predicted else "wrong"

    @property
    def classes(self) -> tuple[str, ...]:
        """The true and the predicted class: what the page's filter goes by."""
        return tuple(dict.fromkeys(filter(None, (self.true, self.predicted))))


@dataclass(frozen=True)
class Table:
    """Numbers for the page, as text; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def render_page(
    title: str,
    *,
    facts: Sequence[tuple[str, str]],
    cards: Sequence[Card],
    figures: Sequence[tuple[str, str]] = (),
    tables: Sequence[Table] = (),
    num_left_out: int = 0,
) -> str:
    """One self-contained HTML page; what is not printable in a name is shown escaped.

    Args:
        title: of the page.
        facts: name and value of what a reader has to know: method, layer, model, versions.
        cards: images with their maps.
        figures: caption and data URI of each.
        tables: between the images and the figures.
        num_left_out: how many images there are beyond `cards`.
    """
    names = sorted({name for card in cards for name in card.classes})
    return render(
        "cvtrain.explain",
        "page.html.j2",
        title=title,
        facts=facts,
        cards=cards,
        figures=figures,
        tables=tables,
        num_left_out=num_left_out,
        class_numbers={name: number for number, name in enumerate(names)},
        colour_bar=data_uri(encoded(colour_bar(256, 1), "PNG"), "image/png"),
    )

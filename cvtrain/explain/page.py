"""Maps, figures and tables -> one self-contained HTML page, see `cvtrain.system.html`."""

from collections.abc import Sequence
from dataclasses import dataclass

from cvtrain.explain.overlay import colour_bar
from cvtrain.system.html import data_uri, encoded, render


@dataclass(frozen=True)
class View:
    """The map of one class in one image.

    Attributes:
        name: class name.
        role: "predicted", "true", "predicted and true" or "requested".
        probability: probability of the class, 0..1.
        score: logit of the class.
        note: remark on the map, such as "all negative"; may be empty.
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
    """One image and its maps.

    Attributes:
        file: displayed name of the image.
        true: true class, or None if it is unknown.
        predicted: class with the highest score.
        picture: data URI of the photograph.
        views: one or more maps, shown side by side in this order.
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
        """The true and the predicted class, by which the page can be filtered."""
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
    """One self-contained HTML page; characters of names that cannot be printed are escaped.

    Args:
        title: title of the page.
        facts: names and values, such as method, layer, model and versions.
        cards: images with their maps.
        figures: captions and data URIs.
        tables: tables, placed between the images and the figures.
        num_left_out: number of images that are not in `cards`.
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

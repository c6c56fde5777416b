"""Maps, figures and tables -> one HTML page that needs nothing else: no network, no other file.

The page may be mailed, printed and opened in twenty years. Names in it come from files that may be
a stranger's, so they are escaped twice, once for the eye and once for HTML, and a content security
policy keeps the page from running or loading anything that is not written here.
"""

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from cvtrain.files import printable
from cvtrain.visuals.overlay import colour_bar

_SHORTEST = 160
_JPEG = {"quality": 82, "optimize": True}


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
    remark: str = ""


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
    return _template().render(
        title=title,
        facts=facts,
        cards=cards,
        figures=figures,
        tables=tables,
        num_left_out=num_left_out,
        class_numbers={name: number for number, name in enumerate(names)},
        colour_bar=data_uri(_encoded(colour_bar(256, 1), "PNG"), "image/png"),
    )


def picture(pixels: np.ndarray, *, longest: int = 640) -> str:
    """An image for the page, as data URI of a JPEG.

    Args:
        pixels: (h, w, 3) uint8. A small image is enlarged by a whole factor, until its longer side
            has at least 160 pixels, so that its pixels can be seen.
        longest: the longer side of a larger image in the result, in pixels.
    """
    image = Image.fromarray(pixels)
    side = max(image.size)
    factor = -(-_SHORTEST // side)
    if factor > 1:
        image = image.resize(
            (image.width * factor, image.height * factor), Image.Resampling.NEAREST
        )
    elif side > longest:
        size = [max(1, round(n * longest / side)) for n in image.size]
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return data_uri(_encoded(np.asarray(image), "JPEG", **_JPEG), "image/jpeg")


def data_uri(content: bytes, media_type: str) -> str:
    """The bytes of a file as a URI that stands for the file itself."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def _encoded(pixels: np.ndarray, file_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, file_format, **options)
    return stream.getvalue()


def _template():
    # `finalize` sees every value that the template prints, so no name can be forgotten.
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else printable(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sha256"] = _sha256
    source = resources.files("cvtrain.visuals").joinpath("page.html.j2")
    return environment.from_string(source.read_text("utf-8"))


def _sha256(text: str) -> str:
    """How a content security policy names an inline style or script."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"

"""What a look leaves behind: figures, `visualize.json`, and a page that shows everything."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as Pillow

from cvtrain.explain.page import Card, Table, render_page
from cvtrain.system.files import commit_text
from cvtrain.system.html import picture
from cvtrain.system.outputs import commit_mark

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MARK = "visualize.json"
"""The file that tells what was looked at, and how."""

_LONGEST_FIGURE = 1600  # pixels, on the page
_FACTS = ("model", "method", "layer", "classes", "style", "seed", "weights_sha256")


class ResultPage:
    """A folder in which figures are collected until its page is made.

    Attributes:
        folder: where.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._figures: list[tuple[str, str]] = []

    def draw(self, figure: "Figure", file: str, caption: str) -> None:
        """Save a figure as PNG; the page will show it, smaller if it is large."""
        from cvtrain.plots.figures import save

        save(figure, self.folder / file)
        with Pillow.open(self.folder / file) as saved:
            pixels = np.asarray(saved.convert("RGB"))
        self._figures.append((caption, picture(pixels, longest=_LONGEST_FIGURE)))

    def finish(
        self,
        title: str,
        record: Mapping[str, Any],
        *,
        cards: "Sequence[Card]" = (),
        tables: "Sequence[Table]" = (),
        num_left_out: int = 0,
    ) -> None:
        """Write the page and `visualize.json`, when all else is there.

        Args:
            title: of the page.
            record: what is written; the most important of it becomes the facts on the page.
            cards: of the images.
            tables: of measures.
            num_left_out: images that have no card.
        """
        facts = [(name, str(record[name])) for name in _FACTS if record.get(name) is not None]
        facts += record["versions"].items()
        page = render_page(
            title,
            facts=facts,
            cards=cards,
            figures=self._figures,
            tables=tables,
            num_left_out=num_left_out,
        )
        commit_text(self.folder / "index.html", page)
        commit_mark(self.folder, MARK, record)

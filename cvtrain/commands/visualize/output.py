"""The output of `visualize`: figures, `visualize.json`, and a page that shows everything."""

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
"""The file that records model, options and results."""

_LONGEST_FIGURE = 1600  # pixels, on the page
_FACTS = ("model", "method", "layer", "classes", "style", "seed", "weights_sha256")


class ResultPage:
    """Collects figures in a folder, then writes the page that shows them."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._figures: list[tuple[str, str]] = []

    def draw(self, figure: "Figure", file: str, caption: str) -> None:
        """Save a figure as PNG; the page will show it, smaller if it is large."""
        from cvtrain.plots.figures import save

        save(figure, self._folder / file)
        with Pillow.open(self._folder / file) as saved:
            pixels = np.asarray(saved.convert("RGB"))
        self._figures.append((caption, picture(pixels, longest=_LONGEST_FIGURE)))

    def finish(
        self,
        title: str,
        record: Mapping[str, Any],
        *,
        cards: Sequence[Card] = (),
        tables: Sequence[Table] = (),
        num_left_out: int = 0,
    ) -> None:
        """Write the page and `visualize.json`, after all other files.

        Args:
            title: title of the page.
            record: content of `visualize.json`; the page shows its most important entries.
            cards: images with their maps.
            tables: tables of measures.
            num_left_out: number of images without a card.
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
        commit_text(self._folder / "index.html", page)
        commit_mark(self._folder, MARK, record)

"""`visualize --cam --evaluate --sanity`: how reliable are the maps?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cvtrain.commands.visualize.output import ResultPage
from cvtrain.explain.explanation import Explain
from cvtrain.explain.faithfulness import Measure, evaluate, probabilities_of, random_maps
from cvtrain.explain.flat_model import FlatModel
from cvtrain.explain.page import Table
from cvtrain.explain.sanity import ignore_the_model, randomise
from cvtrain.system.console import Console

Measures = Mapping[str, Measure]

NUM_IN_THE_CASCADE = 8
_MEASURED = 24  # images


class Faithfulness:
    """Faithfulness of the maps of the first images, compared with random maps."""

    def __init__(self, opened: FlatModel, batch_size: int):
        self._forward = probabilities_of(opened)
        self._batch_size = batch_size
        self._of_maps: list[Measures] = []
        self._of_random: list[Measures] = []
        self._num_images = 0

    def add(self, pixels: np.ndarray, classes: np.ndarray, maps: np.ndarray) -> None:
        """Measure some images, unless there are enough; arguments of `faithfulness.evaluate`."""
        seed = self._num_images
        if seed >= _MEASURED:
            return
        random = random_maps(len(pixels), seed=seed)
        for measured, each in ((self._of_maps, maps), (self._of_random, random)):
            options = {"batch_size": self._batch_size, "seed": seed}
            measured.append(evaluate(self._forward, pixels, classes, each, **options))
        self._num_images += len(pixels)

    def report(
        self, method: str, page: ResultPage, console: Console
    ) -> tuple[dict[str, Any], Table]:
        """Print the means and draw the curves; returns the record, and a table for the page."""
        from cvtrain.plots.map_quality import draw_faithfulness

        of_maps, of_random = _concatenate(self._of_maps), _concatenate(self._of_random)
        columns = ("measure", "better", method, "random maps")
        rows = tuple(
            (name, measure.better, f"{measure.mean:.3f}", f"{of_random[name].mean:.3f}")
            for name, measure in of_maps.items()
        )
        title = f"faithfulness, {self._num_images} images"
        console.table(columns, rows, title=title)
        page.draw(draw_faithfulness(of_maps, of_random, method), "faithfulness.png", title)
        record = {
            name: {
                "better": measure.better,
                "mean": measure.mean,
                "mean_of_random_maps": of_random[name].mean,
                "values": measure.values.tolist(),
            }
            for name, measure in of_maps.items()
        }
        return record, Table(title, columns, rows)


def check_sanity(
    opened: FlatModel,
    method: str,
    explain: Explain,
    images: np.ndarray,
    classes: np.ndarray,
    *,
    seed: int,
    page: ResultPage,
    console: Console,
) -> dict[str, Any]:
    """Randomize the weights layer by layer, and measure how much the maps change.

    A control that has to fail is measured as well. Arguments of `sanity.randomise`; returns the
    record.
    """
    from cvtrain.plots.map_quality import draw_cascades

    control = "control: a spot in the middle (has to fail)"
    methods: dict[str, Explain] = {method: explain, control: ignore_the_model}
    cascades = {
        name: randomise(opened, each, images, classes, seed=seed) for name, each in methods.items()
    }
    for name, cascade in cascades.items():
        console.print(f"sanity check: {name} {cascade.verdict}")
    page.draw(draw_cascades(cascades), "sanity.png", "sanity check: cascading randomisation")
    return {
        name: {
            "verdict": cascade.verdict,
            "stages": list(cascade.stages),
            "rank_correlations": cascade.means,
            "maps_without_ranks": cascade.num_unranked,
        }
        for name, cascade in cascades.items()
    }


def _concatenate(batches: Sequence[Measures]) -> dict[str, Measure]:
    """The measures of all images from those of their batches."""
    return {
        name: replace(
            first,
            values=np.concatenate([batch[name].values for batch in batches]),
            curves=np.concatenate([batch[name].curves for batch in batches]),
        )
        for name, first in batches[0].items()
    }

"""What averaging over views gains, by their number and by how strongly they are changed.

    python benchmarks/tta.py RUN RUN ... --views 2 4 8 16 --strengths 0.25 0.5 1

For each run the accuracy and the loss on its validation and test images, without and with views: as
training changed images, times each strength. Two views are the image and its mirror image where
training had mirrored half of them, whatever the strength.
"""

import argparse
from pathlib import Path

import numpy as np

from cvtrain.config import load_config
from cvtrain.data.index import recorded_index
from cvtrain.evaluation.metrics import summarize
from cvtrain.images.augment import Change, apply
from cvtrain.images.pixel_cache import PixelCache
from cvtrain.images.tta_views import view_changes
from cvtrain.runs.run import Run
from cvtrain.steps.inference import decoder_of_run, load_predictor
from cvtrain.system.signals import Stop

BATCH_SIZE = 64


def main() -> None:
    """Parse the arguments, measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--views", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.25, 0.5, 1.0])
    options = parser.parse_args()

    print("| run | views | strength | validation | test | loss, validation | loss, test |")
    print("|---|---|---|---|---|---|---|")
    for path in options.runs:
        ask = Asker(Run.open(path))
        print_row(path.name, 1, "", ask.measure([Change()]))
        for strength in options.strengths:
            for number in options.views:
                changes = view_changes(ask.augmentation, number, seed=ask.seed, strength=strength)
                if len(changes) == number:
                    print_row(path.name, number, f"{strength:g}", ask.measure(changes))


class Asker:
    """The model of a run and its images; every view of all images is computed once.

    Attributes:
        augmentation: of the run's training.
        seed: of the run.
    """

    def __init__(self, run: Run):
        root = Path(run.record.data.root)
        splits = recorded_index(root, run.record.class_names, run.read_json("split.json")).splits
        pixels = PixelCache(root, decoder_of_run(run))
        self.seed = run.record.seed
        self.augmentation = load_config(run.path / "config.yaml").augment
        self._labels = {name: splits[name].labels for name in ("validation", "test")}
        self._images = {
            name: np.stack([pixels[path] for path in splits[name].paths]) for name in self._labels
        }
        self._predict = load_predictor(run, Stop())
        self._found: dict[tuple[str, Change], np.ndarray] = {}

    def measure(self, changes: list[Change]) -> dict[str, dict]:
        """By split, the metrics of the mean over the views."""
        return {
            name: summarize(labels, np.mean([self._ask(name, each) for each in changes], axis=0))
            for name, labels in self._labels.items()
        }

    def _ask(self, split: str, change: Change) -> np.ndarray:
        if (split, change) not in self._found:
            fill = self.augmentation.fill
            images = [apply(image, change, fill) for image in self._images[split]]
            starts = range(0, len(images), BATCH_SIZE)
            batches = [np.stack(images[start : start + BATCH_SIZE]) for start in starts]
            self._found[split, change] = np.concatenate([self._predict(each) for each in batches])
        return self._found[split, change]


def print_row(run: str, views: int, strength: str, metrics: dict[str, dict]) -> None:
    """One line of the table."""
    cells = [run, str(views), strength]
    cells += [f"{metrics[name]['accuracy']:.3f}" for name in ("validation", "test")]
    cells += [f"{metrics[name]['loss']:.3f}" for name in ("validation", "test")]
    print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()

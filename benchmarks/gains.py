"""What each extra of training gains: test accuracy with it and without, over several seeds.

    python benchmarks/gains.py configs/augmented-2e.yaml --runs DIR \\
        --set data.source=FOLDER --set fit.epochs=20 --seeds 0 1 2

Each training is a `cvtrain fit` of the config with one thing changed, in a run folder below DIR.
What is finished there is not repeated, and what was stopped goes on, so the command may be given
again with more seeds. All runs must have the same test images: FOLDER has split folders, or else
the config's seed changes the split as well.

A gain is the mean over seeds and images of "right with it" minus "right without", its interval is
the normal one of the paired differences of images; the gains of the single seeds stand beside it.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvtrain.runs.predictions import Predictions, read_predictions

PLAIN = "plain"
EXTRAS = {
    PLAIN: [],
    "rand-augment": ["augment.rand_augment={num_ops: 2, magnitude: 9}"],
    "erase": ["augment.erase=0.25"],
    "mixup": ["augment.mixup=0.2"],
    "cutmix": ["augment.cutmix=1.0"],
    "label-smoothing": ["fit.label_smoothing=0.1"],
    "ema": ["fit.ema=0.99"],
    "separable": ["fit.model={name: separable}"],
}


@dataclass(frozen=True)
class Result:
    """A trained run on its test images: what it said, and how fast its epochs were."""

    test: Predictions
    images_per_second: float


def main() -> None:
    """Parse the arguments, train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--runs", type=Path, required=True, help="where the run folders go")
    parser.add_argument("--set", action="append", default=[], help="as in `cvtrain fit`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--extras", nargs="+", choices=EXTRAS, default=list(EXTRAS))
    parser.add_argument(
        "--tta", type=int, default=0, help="also evaluate with this number of views"
    )
    options = parser.parse_args()

    names = list(dict.fromkeys([PLAIN, *options.extras]))
    results: dict[str, list[Result]] = {name: [] for name in names}
    if options.tta:
        results[f"tta {options.tta}"] = []
    for seed in options.seeds:
        for name in names:
            run = options.runs / f"{name}-{seed}"
            settings = [*options.set, *EXTRAS[name], f"seed={seed}"]
            train(run, options.config, settings)
            results[name].append(result_of(run, run / "predictions-test.csv"))
        if options.tta:
            run = options.runs / f"{PLAIN}-{seed}"
            found = evaluated(run, options.tta)
            results[f"tta {options.tta}"].append(result_of(run, found))
    print_table(results)


def train(run: Path, config: Path, settings: list[str]) -> None:
    """Train in `run`, go on with what is there, or leave it where it is finished."""
    if (run / "run.json").is_file():
        if json.loads((run / "run.json").read_text())["status"] == "finished":
            return
        command(["fit", run, "--resume"])
        return
    overrides = [word for setting in settings for word in ("--set", setting)]
    command(["fit", config, "--run-dir", run, *overrides])


def evaluated(run: Path, num_views: int) -> Path:
    """The predictions of a run for its test images, averaged over views."""
    found = run / "evaluate" / f"test-tta{num_views}" / "predictions.csv"
    if not found.is_file():
        command(["evaluate", run, "--tta", num_views])
    return found


def command(words: list) -> None:
    """Run `cvtrain`, which must succeed."""
    words = [str(word) for word in words]
    print("cvtrain", *words, file=sys.stderr)
    subprocess.run([sys.executable, "-m", "cvtrain", *words, "--quiet"], check=True)


def result_of(run: Path, predictions: Path) -> Result:
    """What a run said about its test images, and its median images per second in training."""
    record = json.loads((run / "run.json").read_text())
    with (run / "history.csv").open(newline="") as file:
        rates = [float(row["images_per_second"]) for row in csv.DictReader(file)]
    return Result(read_predictions(predictions, record["class_names"]), statistics.median(rates))


def print_table(results: dict[str, list[Result]]) -> None:
    """Accuracy, gain over the plain runs with its interval, and speed, in points and ratios."""
    print("| | test accuracy | gain, points | 95 % interval | by seed | speed |")
    print("|---|---|---|---|---|---|")
    plain = results[PLAIN]
    for name, runs in results.items():
        accuracy = np.mean([right(run).mean() for run in runs])
        cells = [name, f"{accuracy:.3f}"]
        if name != PLAIN:
            pairs = list(zip(runs, plain, strict=True))
            if any(run.test.files != without.test.files for run, without in pairs):
                sys.exit(f"{name}: its test images are not those of the plain runs")
            gains = 100 * np.array([right(a) - right(b) for a, b in pairs])
            of_images = gains.mean(axis=0)
            half = 1.96 * of_images.std(ddof=1) / np.sqrt(of_images.size)
            mean = of_images.mean()
            speeds = [run.images_per_second / without.images_per_second for run, without in pairs]
            cells += [f"{mean:+.1f}", f"{mean - half:+.1f} to {mean + half:+.1f}"]
            cells += [", ".join(f"{gain:+.1f}" for gain in gains.mean(axis=1))]
            cells += ["" if name.startswith("tta") else f"{statistics.median(speeds):.2f}x"]
        print("|", " | ".join([*cells, *[""] * (6 - len(cells))]), "|")


def right(result: Result) -> np.ndarray:
    """Which images were classified correctly, (n,) float 0 or 1."""
    return (result.test.predicted == result.test.labels).astype(float)


if __name__ == "__main__":
    main()

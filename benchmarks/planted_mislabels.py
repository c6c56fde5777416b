"""Does the list of likely mislabels find labels that were swapped on purpose?

    python benchmarks/planted_mislabels.py photos/ --weights mobilenet_2_5_224_tf_no_top.h5

Of the training images a share gets another label, drawn evenly from the other classes. They are
judged as `cvtrain extract-features` judges them: logistic regression on the cached features of a
frozen MobileNet 0.25, each image by a fit on the other folds, then confident learning. Precision is
the share of the list that was swapped, recall the share of the swapped that is on it; the top is as
long as half of the swapped. A random list of the same length has, on average, the swapped share as
its precision. Labels of the data that are wrong from the start count as false alarms, so the
precision is a lower bound.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from cvtrain.backend import keras
from cvtrain.data.check import check_index
from cvtrain.data.index import build_index
from cvtrain.evaluation.mislabels import likely_mislabels
from cvtrain.features.extract import CachedViews, extract, open_stores
from cvtrain.images.decode import Decoder
from cvtrain.images.pixel_cache import PixelCache
from cvtrain.models.backbones import build_backbone
from cvtrain.training.linear_probe import out_of_fold


def main() -> None:
    """Parse the command line, swap, judge, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, help="folder of images with correct labels")
    parser.add_argument("--weights", type=Path, required=True, help="of MobileNet 0.25")
    parser.add_argument("--size", type=int, default=160, help="of the images, in pixels")
    parser.add_argument("--share", type=float, default=0.05, help="of the labels to swap")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    features, labels, digests = pooled_features(arguments.images, arguments.weights, arguments.size)
    print(
        f"{len(labels):,} training images, {features.shape[1]} features, share swapped "
        f"{arguments.share:.0%}"
    )
    print(
        "| seed | listed | precision | recall | precision of the top | random list: "
        "precision | recall | seconds |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    for seed in range(arguments.seeds):
        given, swapped = with_swaps(labels, arguments.share, seed)
        started = time.perf_counter()
        probabilities, _ = out_of_fold(features, given, folds=5, seed=seed, groups=digests)
        places, _ = likely_mislabels(given, probabilities)
        seconds = time.perf_counter() - started
        random = np.random.default_rng([seed, 1]).choice(len(labels), len(places), replace=False)
        top = places[: len(swapped) // 2]
        cells = [
            f"{value:.3f}"
            for value in (
                *precision_and_recall(places, swapped),
                np.isin(top, swapped).mean(),
                *precision_and_recall(random, swapped),
            )
        ]
        print(f"| {seed} | {len(places)} | {' | '.join(cells)} | {seconds:.1f} |", flush=True)


def pooled_features(
    images: Path, weights: Path, size: int
) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
    """Features (n, channels) of the training images, their labels (n,), digests of their pixels."""
    index = build_index(images, validation=0.15, test=0.15, seed=0)
    pixels = PixelCache(index.root, Decoder((size, size)))
    check_index(index, pixels)
    split = index.splits["train"]
    base = build_backbone("mobilenet", image_size=(size, size), weights=weights, alpha=0.25, seed=0)
    taps = keras.Model(base.input, [keras.layers.GlobalAveragePooling2D()(base.output)])
    stores = open_stores(taps, dtype="float32")
    digests = [pixels.digests[path] for path in split.paths]
    view = CachedViews(split.paths, digests)
    extract(taps, stores, pixels, [view])
    return stores[0].rows(view.keys).take(np.arange(len(digests))), split.labels, digests


def with_swaps(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels with a share of wrong classes, and the indices of these."""
    generator = np.random.default_rng(seed)
    num_classes = int(labels.max()) + 1
    swapped = generator.choice(len(labels), round(share * len(labels)), replace=False)
    given = labels.copy()
    shifts = generator.integers(1, num_classes, len(swapped))
    given[swapped] = (labels[swapped] + shifts) % num_classes
    return given, swapped


def precision_and_recall(found: np.ndarray, swapped: np.ndarray) -> tuple[float, float]:
    """Of a list of positions."""
    hits = np.isin(found, swapped).sum()
    return hits / max(1, len(found)), hits / len(swapped)


if __name__ == "__main__":
    main()

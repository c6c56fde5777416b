"""What share of the best forward rate of a backbone does the extraction of its features reach?

Both run in one process, in turns: plain Keras on batches that lie in memory, in each precision and
at each batch size, compiled without XLA; and `features.extract` in the fastest of these precisions,
from JPEGs over augmentation to features on disk. Every turn of it computes further views of the
images. Printed are the rates of each turn and the median of the turns' ratios, by elapsed time and
by processor time: the latter does not count what other processes take.

    python benchmarks/extraction_rate.py vgg16 --size 180
    python benchmarks/extraction_rate.py mobilenet --alpha 0.25 --size 224 --images 1024
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cvtrain.backend import inference, keras
from cvtrain.data.check import check_index
from cvtrain.data.index import build_index
from cvtrain.features.extract import CachedViews, extract, open_stores
from cvtrain.images.decode import Decoder
from cvtrain.images.pixel_cache import PixelCache
from cvtrain.models.backbones import build_backbone
from cvtrain.models.transfer import in_precision
from cvtrain.sections import Augment

BACKBONES = {"vgg16": keras.applications.VGG16, "mobilenet": keras.applications.MobileNet}
AUGMENTATION = Augment(flip="horizontal", rotate=36, zoom=0.2, fill="reflect")

Rate = tuple[float, float]  # images per second, and per second of processor time


def main() -> None:
    """Parse the arguments, let the two take turns, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", choices=BACKBONES)
    parser.add_argument("--alpha", type=float, help="width of mobilenet")
    parser.add_argument("--size", type=int, default=180, help="height and width in pixels")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/clothing/train"))
    parser.add_argument("--images", type=int, default=256, help="images in a turn of each")
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()

    forwards = {
        (precision, batch): plain_keras(precision, batch, options)
        for precision, batch in itertools.product(("float32", "bfloat16"), options.batches)
    }
    rates = {key: measured(forward, options.images)[0] for key, forward in forwards.items()}
    precision, batch = best = max(rates, key=lambda key: rates[key])
    print(", ".join(f"{name} x {size}: {rate:.1f}" for (name, size), rate in rates.items()))
    print(f"the best: {precision} in batches of {batch}\n")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CVTRAIN_CACHE"] = folder
        extraction = cvtrain(precision, options)
        extraction()  # compiles
        print("| forward, images/s | extraction | of it | by processor time |")
        print("|--:|--:|--:|--:|")
        shares = []
        for _ in range(options.turns):
            plain = measured(forwards[best], options.images)
            own = measured(extraction, options.images)
            shares.append([mine / rate for mine, rate in zip(own, plain, strict=True)])
            print(f"| {plain[0]:.1f} | {own[0]:.1f} | {shares[-1][0]:.0%} | {shares[-1][1]:.0%} |")
    elapsed, processor = map(statistics.median, zip(*shares, strict=True))
    print(f"\nmedian: {elapsed:.0%} of the best forward rate, {processor:.0%} by processor time")


def measured(run: Callable[[], object], images: int) -> Rate:
    """Rate of a function that processes this number of images."""
    start = time.perf_counter(), time.process_time()
    run()
    now = time.perf_counter(), time.process_time()
    return images / (now[0] - start[0]), images / (now[1] - start[1])


def plain_keras(precision: str, batch: int, options: argparse.Namespace) -> Callable[[], None]:
    """The backbone of keras.applications on random images in memory, compiled."""
    keras.config.set_dtype_policy(precision if precision == "float32" else f"mixed_{precision}")
    shape = (options.size, options.size, 3)
    alpha = {"alpha": options.alpha} if options.alpha else {}
    base = BACKBONES[options.base](include_top=False, weights=None, input_shape=shape, **alpha)
    keras.config.set_dtype_policy("float32")
    images = np.random.default_rng(0).uniform(-1, 1, (batch, *shape)).astype(np.float32)
    forward = inference(base, dtype=precision)
    forward(images)

    def run() -> None:
        for _ in range(-(-options.images // batch)):
            forward(images)

    return run


def cvtrain(precision: str, options: argparse.Namespace) -> Callable[[], None]:
    """The extraction of one further view of each image."""
    index = build_index(options.data, validation=0, test=0, seed=0)
    pixels = PixelCache(index.root, Decoder((options.size, options.size)))
    check_index(index, pixels)
    paths = index.splits["train"].paths
    paths = paths[:: len(paths) // options.images][: options.images]
    digests = [pixels.digests[path] for path in paths]
    base = build_backbone(
        options.base,
        image_size=(options.size, options.size),
        weights=None,
        alpha=options.alpha,
        seed=0,
    )
    prefix = in_precision(base, precision)
    stores = open_stores(prefix)
    views = itertools.count(1)

    def run() -> None:
        view = CachedViews(paths, digests, AUGMENTATION, seed=next(views))
        assert extract(prefix, stores, pixels, [view]) == len(paths)

    return run


if __name__ == "__main__":
    main()

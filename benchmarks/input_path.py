"""Images per second of the augmented input path, against Keras' own image layers.

The recipe is the book's: horizontal flip, rotation by 40 degrees, shifts, shear and zoom of 0.2.
Contenders take turns on the same generated pixels; printed are medians over the rounds, and the
median of each round's ratio to the Keras layers. With --extras it is what RandAugment, random
erasing, MixUp and CutMix cost: batches with each, against those of the recipe alone.

    python benchmarks/input_path.py --size 150 --pairs 5
    python benchmarks/input_path.py --size 150 --pairs 5 --extras
"""

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable

import numpy as np

from cvtrain.data.batches import training_batches
from cvtrain.data.index import Split
from cvtrain.images.augment import augment
from cvtrain.images.mixup_cutmix import mixed_batches
from cvtrain.sections import Augment, RandAugment

RECIPE = Augment(flip="horizontal", rotate=40, shift=0.2, shear=0.2, zoom=0.2)


def main() -> None:
    """Parse the arguments, let the contenders take turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=150, help="height and width in pixels")
    parser.add_argument("--images", type=int, default=1280, help="images in a turn")
    parser.add_argument("--batch", type=int, default=32, help="images in a batch")
    parser.add_argument("--pairs", type=int, default=5, help="turns of each contender")
    parser.add_argument("--extras", action="store_true", help="compare the extras instead")
    options = parser.parse_args()

    pixels = photographs(options.images, options.size)
    if options.extras:
        contenders, reference = extras(pixels, options.batch), "the five"
    else:
        contenders, reference = against_keras(pixels, options.batch), "Keras image layers"
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(options.pairs + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            rate = len(pixels) / (time.perf_counter() - start)
            if turn:  # the first one warms up
                rates[name].append(rate)

    print(f"| input path | images/s | times {reference} |\n|---|---|---|")
    for name, own in rates.items():
        ratios = [a / b for a, b in zip(own, rates[reference], strict=True)]
        print(f"| {name} | {statistics.median(own):.0f} | {statistics.median(ratios):.2f} |")


def against_keras(pixels: np.ndarray, batch_size: int) -> dict[str, Callable[[], None]]:
    """The recipe by cvtrain and by Keras."""
    return {
        "cvtrain, one thread": one_thread(pixels),
        "cvtrain, training batches": batches(pixels, batch_size),
        "Keras image layers": keras_layers(pixels, batch_size),
    }


def extras(pixels: np.ndarray, batch_size: int) -> dict[str, Callable[[], None]]:
    """Batches of the recipe with each extra; random erasing as often as it can be."""
    with_operations = RECIPE.model_copy(update={"rand_augment": RandAugment()})
    only_operations = Augment(rand_augment=RandAugment())
    return {
        "the five": batches(pixels, batch_size),
        "RandAugment alone": batches(pixels, batch_size, only_operations),
        "the five and RandAugment": batches(pixels, batch_size, with_operations),
        "the five, every image erased": batches(
            pixels, batch_size, RECIPE.model_copy(update={"erase": 1.0})
        ),
        "the five and MixUp": batches(pixels, batch_size, RECIPE.model_copy(update={"mixup": 0.2})),
        "the five and CutMix": batches(
            pixels, batch_size, RECIPE.model_copy(update={"cutmix": 1.0})
        ),
    }


def photographs(count: int, size: int) -> np.ndarray:
    """Smooth random pictures: uint8 (count, size, size, 3)."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, size // 10 + 1, size // 10 + 1, 3), dtype=np.uint8)
    return coarse.repeat(10, axis=1).repeat(10, axis=2)[:, :size, :size].copy()


def one_thread(pixels: np.ndarray) -> Callable[[], None]:
    """Augmentation alone."""

    def run() -> None:
        for sample, image in enumerate(pixels):
            augment(image, RECIPE, seed=0, epoch=0, sample=sample)

    return run


def batches(
    pixels: np.ndarray,
    batch_size: int,
    augmentation: Augment = RECIPE,
) -> Callable[[], None]:
    """The whole path from kept pixels to batches, with as many threads as processors."""
    paths = tuple(str(i) for i in range(len(pixels)))
    split = Split(paths=paths, labels=np.zeros(len(paths), np.int32))
    by_path = dict(zip(paths, pixels, strict=True))

    def run() -> None:
        stream = training_batches(
            by_path,
            split,
            batch_size=batch_size,
            seed=0,
            augmentation=augmentation,
            workers=os.cpu_count(),
        )
        if augmentation.mixes:
            stream = mixed_batches(stream, augmentation, num_classes=10, seed=0)
        for _ in itertools.islice(stream, len(pixels) // batch_size):
            pass
        stream.close()

    return run


def keras_layers(pixels: np.ndarray, batch_size: int) -> Callable[[], None]:
    """The same recipe as a stack of Keras layers, compiled as part of a model would be."""
    import keras
    import tensorflow as tf

    stack = keras.Sequential(
        [
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomRotation(40 / 360, fill_mode="nearest"),
            keras.layers.RandomTranslation(0.2, 0.2, fill_mode="nearest"),
            keras.layers.RandomShear(0.2, 0.0, fill_mode="nearest"),
            keras.layers.RandomZoom((-0.2, 0.2), fill_mode="nearest"),
        ]
    )
    compiled = tf.function(lambda images: stack(images, training=True))

    def run() -> None:
        for start in range(0, len(pixels), batch_size):
            compiled(tf.constant(pixels[start : start + batch_size]))

    return run


if __name__ == "__main__":
    main()

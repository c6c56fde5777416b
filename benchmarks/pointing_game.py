"""The pointing game: does the maximum of a map lie on the object of the target class?

Images hold two objects of different kinds at random places, on a random background; a map is asked
for each of the two. A method that ignores the class can hit one of them at best. The network learns
from images with one object and the name of its kind alone: where objects are, it is never told. A
softmax over the kinds fits such images exactly, and two objects in one image are new to it, as they
are when a user asks for the second best class.

A hit is a maximum inside the outline of the object, without any tolerance; a map that speaks for
nothing misses. Chance is the object's share of the image, and random maps are the control.

The last layer has a cell for every 4x4 pixels, a quarter of an object wide: the game measures the
layer too, and maxima of coarse maps lie beside small objects (docs/visualize-methods.md).

    python benchmarks/pointing_game.py --images 100
"""

import argparse
import time

import cv2
import numpy as np

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.explain.explain import METHODS, explainer
from cvtrain.explain.explanation import Explain, explanation
from cvtrain.explain.flat_model import open_model
from cvtrain.explain.overlay import heatmap, upsample

SIZE = 48
KINDS = {
    "disc": (200, 60, 50),
    "square": (60, 170, 70),
    "triangle": (60, 90, 210),
    "cross": (210, 180, 40),
}
"""Each shape has a colour of its own, so that a small network learns them in a minute."""


def main() -> None:
    """Parse the arguments, train, play, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100, help="with two objects each")
    parser.add_argument("--train-images", type=int, default=1600)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    print(backend.set_up(seed=options.seed, device="cpu"))
    start = time.perf_counter()
    model = trained(options.train_images, options.epochs, seed=options.seed)
    images, kinds, _ = scenes(1000, 1, seed=options.seed + 1)
    correct = model.predict(images, verbose=0).argmax(axis=1) == kinds[:, 0]
    print(f"trained in {time.perf_counter() - start:.0f} s, test accuracy {correct.mean():.3f}")

    images, kinds, areas = scenes(options.images, 2, seed=options.seed + 2)
    print(f"{kinds.size} maps a method, chance {areas.mean():.3f}\n\n| method | hits |\n|---|--:|")
    opened = open_model(model)
    for method in options.methods:
        explain = explainer(opened, method, seed=options.seed)
        print(f"| {method} | {hits(explain, images, kinds, areas).mean():.2f} |", flush=True)
    print(f"| random maps | {hits(anywhere(options.seed), images, kinds, areas).mean():.2f} |")


def scenes(num: int, num_objects: int, *, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw images whose objects are of different kinds and do not touch.

    Returns:
        Images (num, SIZE, SIZE, 3) uint8, kinds (num, num_objects) as indices of `KINDS`, and the
        area of each object (num, num_objects, SIZE, SIZE) bool.
    """
    generator = np.random.default_rng(seed)
    images = np.empty((num, SIZE, SIZE, 3), np.uint8)
    kinds = np.empty((num, num_objects), np.int64)
    areas = np.zeros((num, num_objects, SIZE, SIZE), bool)
    names = list(KINDS)
    for image, chosen, outlines in zip(images, kinds, areas, strict=True):
        chosen[:] = generator.permutation(len(KINDS))[:num_objects]
        outlines[:] = _apart([names[kind] for kind in chosen], generator)
        image[:] = _background(generator)
        for kind, outline in zip(chosen, outlines, strict=True):
            image[outline] = KINDS[names[kind]] + generator.uniform(-40, 40, 3)
        noise = generator.normal(0, 8, image.shape)
        image[:] = np.clip(image + noise, 0, 255).astype(np.uint8)
    return images, kinds, areas


def trained(num_images: int, epochs: int, *, seed: int) -> keras.Model:
    """A small convnet that classifies the kinds, trained on images with one object.

    Its last layer sees 26x26 pixels, more than an object, at every fourth pixel.
    """
    images, kinds, _ = scenes(num_images, 1, seed=seed)
    layers = keras.layers
    pixels = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1 / 127.5, -1)(pixels)
    for filters, pool in ((8, 2), (16, 2), (32, 1)):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
        x = layers.MaxPooling2D(pool)(x)
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(pixels, layers.Dense(len(KINDS), activation="softmax")(x))
    steps = epochs * -(-num_images // 32)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(images, kinds[:, 0], batch_size=32, epochs=epochs, verbose=0)
    return model


def hits(
    explain: Explain, images: np.ndarray, kinds: np.ndarray, areas: np.ndarray, num: int = 16
) -> np.ndarray:
    """Whether each map points at the target object: (n, objects) bool; `num` images at a time."""
    result = np.zeros(kinds.shape, bool)
    for start in range(0, len(images), num):
        part = slice(start, start + num)
        maps = explain(images[part].astype(np.float32), kinds[part]).maps
        for i, j in np.ndindex(maps.shape[:2]):
            heat = upsample(heatmap(maps[i, j]), (SIZE, SIZE))
            result[start + i, j] = heat.any() and areas[start + i, j].flat[heat.argmax()]
    return result


def anywhere(seed: int) -> Explain:
    """The control: random maps, which know neither image nor class nor model.

    At the size of the image: the maxima of coarse ones lie at the edge of the image more often,
    where no objects are.
    """
    generator = np.random.default_rng(seed)

    def explain(images, classes):
        maps = generator.random((*classes.shape, SIZE, SIZE), np.float32)
        return explanation(maps, classes, np.zeros((len(images), 0)))

    return explain


def _background(generator: np.random.Generator) -> np.ndarray:
    """A smooth random texture (SIZE, SIZE, 3), a little coloured."""
    grey = generator.uniform(40, 215, (4, 4, 1))
    coarse = (grey + generator.uniform(-40, 40, (4, 4, 3))).astype(np.float32)
    return cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC).clip(0, 255)


def _apart(kinds: list[str], generator: np.random.Generator) -> np.ndarray:
    """The outlines of objects that do not touch: (objects, SIZE, SIZE) bool."""
    while True:
        outlines = np.stack([_object(kind, generator) for kind in kinds])
        wide = [cv2.dilate(outline.astype(np.uint8), np.ones((5, 5))) for outline in outlines]
        if np.sum(wide, axis=0).max() == 1:
            return outlines


def _object(kind: str, generator: np.random.Generator) -> np.ndarray:
    """The outline of one object at a random place, 15 to 19 pixels wide: (SIZE, SIZE) bool."""
    radius = generator.integers(7, 10)
    y, x = generator.integers(radius + 1, SIZE - radius - 1, 2)
    rows, columns = np.mgrid[:SIZE, :SIZE] - np.array([y, x])[:, None, None]
    inside = np.maximum(abs(rows), abs(columns)) <= radius
    if kind == "disc":
        return rows**2 + columns**2 <= radius**2
    if kind == "triangle":
        return inside & (2 * abs(columns) <= rows + radius)
    if kind == "cross":
        return inside & (np.minimum(abs(rows), abs(columns)) <= radius // 2)
    return inside


if __name__ == "__main__":
    main()

"""Generated image folders, small enough for a test."""

import os

import numpy as np
from PIL import Image


def make_images(root, counts, *, size=(20, 24), seed=0):
    """Write PNGs below `root`: {"train/red": 6, ...}; colour and a bright bar tell the classes.

    A class is told by its name: the same name has the same look in every split.
    """
    generator = np.random.default_rng(seed)
    for folder, count in counts.items():
        name = folder.rpartition("/")[2]
        colour = np.random.default_rng(sum(os.fsencode(name))).integers(0, 200, 3)
        (root / folder).mkdir(parents=True)
        for i in range(count):
            pixels = generator.integers(0, 55, (*size, 3)) + colour
            Image.fromarray(pixels.astype(np.uint8)).save(root / folder / f"{i:03d}.png")
    return root

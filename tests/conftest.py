"""Tiny generated images, a cache of its own for each test session, and the reference data."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CVTRAIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def shared():
    """The folder of reference data; tests that need it are marked `realdata`."""
    folder = Path(os.environ.get("CVTRAIN_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no reference data at {folder}; CVTRAIN_SHARED names it")
    return folder


def make_images(root, counts, *, size=(20, 24), seed=0):
    """Write PNGs below `root`: {"train/red": 6, ...}; colour and a bright bar tell the classes.

    A class is told by its name: the same name has the same look in every split.
    """
    generator = np.random.default_rng(seed)
    for folder, count in counts.items():
        name = folder.rpartition("/")[2]
        colour = np.random.default_rng(sum(name.encode())).integers(0, 200, 3)
        (root / folder).mkdir(parents=True)
        for i in range(count):
            pixels = generator.integers(0, 55, (*size, 3)) + colour
            Image.fromarray(pixels.astype(np.uint8)).save(root / folder / f"{i:03d}.png")
    return root


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """Three classes that a tiny net tells apart, in split folders."""
    root = tmp_path_factory.mktemp("images")
    counts = {"train": 12, "validation": 4, "test": 5}
    names = ("red", "green", "blue")
    return make_images(root, {f"{s}/{n}": count for s, count in counts.items() for n in names})

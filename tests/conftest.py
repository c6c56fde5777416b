"""Tiny generated images, a cache of its own for each test session, and the reference data."""

import os
from pathlib import Path

import pytest
from tiny_images import make_images


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    # Of the session, so that fixtures of a session or a module have it too.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVTRAIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="session")
def shared():
    """The folder of reference data; tests that need it are marked `realdata`."""
    folder = Path(os.environ.get("CVTRAIN_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no reference data at {folder}; CVTRAIN_SHARED names it")
    return folder


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """Three classes that a tiny net tells apart, in split folders."""
    root = tmp_path_factory.mktemp("images")
    counts = {"train": 12, "validation": 4, "test": 5}
    names = ("red", "green", "blue")
    return make_images(root, {f"{s}/{n}": count for s, count in counts.items() for n in names})

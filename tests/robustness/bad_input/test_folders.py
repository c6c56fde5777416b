"""Odd folders, as a person meets them: one message each, before the engine is loaded."""

import contextlib
import json
import os
import tempfile
from pathlib import Path

import odd_manifests  # noqa: F401 - adds its rows to the tables
import pytest
from command_line import run_all
from odd_folders import REFUSED, TAKEN, images

from cvtrain.data.check import check_index
from cvtrain.data.index import build_index
from cvtrain.errors import DataError
from cvtrain.images.decode import Decoder
from cvtrain.images.pixel_cache import PixelCache

SHARES = {"validation": 0.2, "test": 0.2, "seed": 0}
DECODER = Decoder((20, 24))
NOBODY = 65534


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What `cvtrain fit` says about each folder, and which engines are loaded in the end."""
    base = tmp_path_factory.mktemp("odd")
    commands = {}
    for make in REFUSED:
        (base / make.__name__).mkdir()
        root = base / make.__name__ / "photos"
        source = json.dumps(str(make(root) or root))
        commands[make.__name__] = ["fit", "--set", f"data.source={source}"]
    here = base / "here"
    here.mkdir()
    (here / "config.yaml").write_text("data: {source: nowhere, image_size: 64}\n")
    told = run_all(commands, here)
    assert [path.name for path in here.iterdir()] == ["config.yaml"]
    return told


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_what_cannot_be_trained_on_is_told(told, make):
    code, _, message = told[0][make.__name__]
    assert code == 3, message
    assert REFUSED[make].what in message
    assert REFUSED[make].advice in message.splitlines()[-1]
    assert message.replace("\n", "").isprintable()


def test_the_engine_was_never_loaded(told):
    assert told[1] == []


@pytest.mark.parametrize("make", TAKEN, ids=lambda make: make.__name__)
def test_what_can_be_trained_on_is_understood(make, tmp_path):
    root = tmp_path / "photos"
    index = build_index(make(root) or root, **SHARES)
    expected = TAKEN[make]
    assert index.class_names == expected.classes
    assert sum(map(len, (split.paths for split in index.splits.values()))) == expected.num_images
    assert {reason: len(paths) for reason, paths in index.left_out.items()} == expected.left_out
    assert len(index.notes) == len(expected.notes)
    for note, words in zip(index.notes, expected.notes, strict=True):
        assert words in note
    report = check_index(index, PixelCache(index.root, DECODER))
    doubtful = {problem.path: problem.what for problem in report.problems}
    assert set(doubtful) == set(expected.doubtful)
    assert all(words in doubtful[path] for path, words in expected.doubtful.items())


def test_numbers_of_the_table():
    assert len(REFUSED) + len(TAKEN) >= 50


@contextlib.contextmanager
def nobody():
    """Root, who may read everything, is nobody in the block, in all threads."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_what_may_not_be_read_is_named():
    with tempfile.TemporaryDirectory() as folder:  # nobody may enter those of pytest
        Path(folder).chmod(0o755)
        root = images(Path(folder) / "photos")
        # What is imported on the way may lie where nobody may read.
        assert not check_index(build_index(root, **SHARES), PixelCache(root, DECODER)).problems
        (root / "cat" / "000.png").chmod(0)
        with nobody():
            index = build_index(root, **SHARES)
            (problem,) = check_index(index, PixelCache(index.root, DECODER)).problems
        assert (problem.path, problem.severity) == ("cat/000.png", "bad")
        assert "permission denied" in problem.what
        (root / "dog").chmod(0)
        with nobody(), pytest.raises(DataError, match="dog: cannot be read: permission denied"):
            build_index(root, **SHARES)
        (root / "dog").chmod(0o755)


def test_files_that_go_before_they_are_read_are_named(tmp_path):
    root = images(tmp_path / "photos")
    index = build_index(root, **SHARES)
    (root / "cat" / "000.png").unlink()
    (root / "cat" / "001.png").unlink()
    (root / "cat" / "001.png").mkdir()
    found = check_index(index, PixelCache(root, DECODER)).problems
    assert {problem.path: problem.what for problem in found} == {
        "cat/000.png": "cannot be read: no such file or directory",
        "cat/001.png": "cannot be read: is a directory",
    }


@pytest.mark.parametrize("change", ["goes", "grows", "is replaced"])
def test_files_that_change_after_the_check_are_not_trained_on(tmp_path, change):
    root = images(tmp_path / "photos")
    index = build_index(root, **SHARES)
    pixels = PixelCache(root, Decoder((20, 24)), memory_limit=0)
    assert check_index(index, pixels).problems == ()
    path, other = (root / "cat" / f"00{i}.png" for i in (0, 1))
    if change == "goes":
        path.unlink()
    elif change == "grows":
        path.write_bytes(path.read_bytes() + path.read_bytes())
    else:
        path.write_bytes(other.read_bytes())
    if change == "grows":  # what follows the end of a PNG is not of it
        assert pixels["cat/000.png"].shape == (20, 24, 3)
    else:
        with pytest.raises(DataError, match=r"cat/000\.png: (cannot be read|changed since)"):
            pixels["cat/000.png"]

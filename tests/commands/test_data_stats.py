import csv
import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from cvtrain.commands.data_stats import data_stats
from cvtrain.config import config_for_source
from cvtrain.errors import DataError, ResourceError
from cvtrain.system.console import Console


def photograph(path, seed, *, size=(60, 80), quality=None):
    """Blobs of colour; the same seed in another size or quality is the same photograph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blobs = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    pixels = cv2.resize(blobs, size[::-1], interpolation=cv2.INTER_CUBIC)
    Image.fromarray(pixels).save(path, **({"quality": quality} if quality else {}))


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    seed = 0
    for split, number in {"train": 6, "validation": 3, "test": 3}.items():
        for name, share in {"cat": 1, "dog": 2}.items():
            for i in range(number // share):
                photograph(root / split / name / f"{i}.png", seed)
                seed += 1
    return root


def stats(source, output, *overrides):
    data_stats(config_for_source(str(source), overrides), output=output, console=Console())
    with (output / "duplicates.csv").open(newline="") as file:
        return json.loads((output / "stats.json").read_text()), list(csv.DictReader(file))


def test_figures_of_a_clean_folder(photos, tmp_path, capsys):
    found, pairs = stats(photos, tmp_path / "out")
    assert found["counts"] == {
        "train": {"cat": 6, "dog": 3},
        "validation": {"cat": 3, "dog": 1},
        "test": {"cat": 3, "dog": 1},
    }
    assert found["imbalance"] == 2.0
    assert found["width"] == {"min": 80, "median": 80, "max": 80}
    assert found["aspect"]["median"] == pytest.approx(4 / 3)
    assert (found["formats"], found["modes"]) == ({"PNG": 17}, {"RGB": 17})
    assert found["bytes"] == sum(path.stat().st_size for path in photos.rglob("*.png"))
    assert pairs == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *["contact_sheet.png", "duplicates.csv", "stats.json"]
    ]
    out, err = capsys.readouterr()
    assert "class\ttrain\tvalidation\ttest" in out
    assert "2.0 times" in out
    assert "near duplicates, in pairs: 0" in out
    assert "warning" not in err


def test_copies_and_look_alikes_are_told_with_their_splits(photos, tmp_path, capsys):
    shutil.copy(photos / "train" / "cat" / "0.png", photos / "train" / "cat" / "copy.png")
    shutil.copy(photos / "train" / "cat" / "1.png", photos / "train" / "dog" / "mislabel.png")
    photograph(photos / "test" / "cat" / "leak.jpg", 2, size=(120, 160), quality=60)
    photograph(photos / "train" / "cat" / "twin.jpg", 3, quality=80)
    photograph(photos / "train" / "dog" / "other.jpg", 4, quality=80)
    (photos / "train" / "cat" / "broken.png").write_bytes(b"")
    found, pairs = stats(photos, tmp_path / "out")
    assert found["exact_duplicates"] == {
        "images": 2,
        "files": 4,
        "across_splits": 0,
        "across_classes": 1,
    }
    assert found["near_duplicates"] == {"pairs": 3, "across_splits": 1, "across_classes": 1}
    assert found["unusable"] == {"train/cat/broken.png": "empty file"}
    assert (found["num_files"], found["num_usable"]) == (23, 22)
    assert found["counts"]["train"] == {"cat": 8, "dog": 5}
    assert {(p["kind"], p["path"], p["other_path"]) for p in pairs} == {
        ("exact", "train/cat/0.png", "train/cat/copy.png"),
        ("exact", "train/cat/1.png", "train/dog/mislabel.png"),
        ("near", "train/cat/2.png", "test/cat/leak.jpg"),
        ("near", "train/cat/3.png", "train/cat/twin.jpg"),
        ("near", "train/cat/4.png", "train/dog/other.jpg"),
    }
    assert (tmp_path / "out" / "near_duplicates.png").exists()
    err = capsys.readouterr().err
    assert "in two classes (one label is wrong): 2" in err
    assert "\n  train/cat/2.png (train/cat) and test/cat/leak.jpg (test/cat)\n" in err
    assert "\n  train/cat/4.png (train/cat) and train/dog/other.jpg (train/dog)\n" in err
    assert "twin" not in err
    assert "under two labels: 1" in err
    assert "cannot be used, and are left out here: 1" in err


def test_what_was_not_compared_is_told(tmp_path, capsys):
    for name, high in {"a": 5, "b": 250}.items():
        for i in range(5):
            path = tmp_path / "x" / name / f"{i}.png"
            photograph(path, i)
            Image.open(path).point(lambda v, high=high, i=i: v * high // 255 + i).save(path)
    Image.new("L", (9, 9), 99).save(tmp_path / "x/b/small.png")
    found, pairs = stats(tmp_path / "x", tmp_path / "out")
    assert found["not_compared"] == {"small": 1, "plain": 5}
    assert pairs == []
    assert (
        "images that were not compared: 1 smaller than 32 pixels, 5 with too little contrast\n"
        in capsys.readouterr().out
    )


def test_copies_are_in_the_split_that_training_will_give_them(photos, tmp_path):
    flat = shutil.copytree(photos / "train", tmp_path / "flat")
    for i in range(4, 20):
        shutil.copy(flat / "cat" / f"{i % 4}.png", flat / "cat" / f"copy{i}.png")
    found, _ = stats(flat, tmp_path / "out", "data.split.test=0.3", "data.split.validation=0.3")
    assert found["exact_duplicates"]["across_splits"] == 0
    assert set(found["counts"]) == {"train", "validation", "test"}


def test_a_subset_with_copies_is_the_one_that_training_will_see(tmp_path):
    flat = tmp_path / "flat"
    for name, seed in {"cat": 0, "dog": 50}.items():
        for i in range(12):
            photograph(flat / name / f"{i}.png", seed + i)
            shutil.copy(flat / name / f"{i}.png", flat / name / f"{i} again.png")
    found, _ = stats(flat, tmp_path / "out", "data.train_per_class=5")
    assert found["counts"]["train"] == {"cat": 5, "dog": 5}
    assert found["counts"]["test"] == {"cat": 4, "dog": 4}  # 15 % of twelve, each twice
    assert found["exact_duplicates"]["images"] == 8


def test_nothing_usable_is_told(tmp_path):
    for name in ("cat", "dog"):
        for i in range(5):
            (tmp_path / "x" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "x" / name / f"{i}.jpg").write_bytes(b"<html>")
    with pytest.raises(DataError, match="none of 10 images can be decoded"):
        stats(tmp_path / "x", tmp_path / "out")


def test_a_folder_with_something_else_is_left_alone(photos, tmp_path):
    with pytest.raises(ResourceError, match="holds what cvtrain is not known to have written"):
        stats(photos, photos)
    out = tmp_path / "out"
    stats(photos, out)
    stats(photos, out)
    files = {each.relative_to(out).as_posix() for each in out.rglob("*") if each.is_file()}
    assert set(json.loads((out / "stats.json").read_text())["contents"]) == files
    # Other programs have files of that name, too.
    (tmp_path / "site").mkdir()
    for name in ("stats.json", "thesis.txt"):
        (tmp_path / "site" / name).write_text("{}")
    with pytest.raises(ResourceError, match=r"not known to have written: stats\.json, thesis\.txt"):
        stats(photos, tmp_path / "site")

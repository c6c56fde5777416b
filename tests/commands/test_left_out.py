"""Files given = files used + files named as left out, for every source and command."""

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import run_all
from PIL import Image
from tiny_images import make_images

from cvtrain.system.outputs import read_mark

pytestmark = pytest.mark.slow

GOOD = 6  # readable images of each class, besides the odd ones
NET = ["--set", "fit.epochs=1", "--set", "fit.model={filters: [2], dense: []}", "--set"]
NET += ["data.image_size=16", "--set", "data.on_bad=skip", "--set", "precision=float32"]


def litter(folder, image, prefix=""):
    """Put beside each other what real folders hold."""
    with Image.open(image) as opened:
        pixels = opened.convert("RGB")
    for i, name in enumerate(["a.jpg?w=200", "b.jpg_large", "c.jpg.1", "d"]):
        pixels.rotate(60 * (i + 1)).save(folder / f"{prefix}{name}", format="JPEG")
    pixels.rotate(9).save(folder / f"{prefix}e.ppm")
    for name in ("notes.txt", ".hidden.jpg", "Thumbs.db", "LICENSE", "half.png.part"):
        (folder / name).write_bytes(b"x")
    (folder / f"{prefix}empty.jpg").touch()
    (folder / f"{prefix}page.jpg").write_text("<html>")
    (folder / "gone.png").symlink_to("nowhere.png")


def class_folders(root):
    make_images(root, {"cat": GOOD, "dog": GOOD})
    litter(root / "cat", root / "cat" / "000.png")
    (root / "dog" / "more").symlink_to(root / "cat")
    make_images(root / "runs" / "old" / "figures", {"worst": 2})
    (root / "runs" / "old" / "run.json").write_text('{"format": 1, "command": "fit"}')
    return root, []


def split_folders(root):
    make_images(root, {f"{s}/{c}": GOOD for s in ("seg_train", "seg_test") for c in ("cat", "dog")})
    make_images(root, {"seg_pred": 2}, seed=1)
    litter(root / "seg_train" / "cat", root / "seg_train" / "cat" / "000.png")
    (root / "seg_train" / "cat" / "001.png").rename(root / "seg_test" / "beside.png")
    return root, []


def names(root):
    make_images(root.parent / "raw", {"cat": GOOD, "dog": GOOD})
    root.mkdir()
    for path in sorted((root.parent / "raw").rglob("*.png")):
        path.rename(root / f"{path.parent.name}.{path.name}")
    litter(root, root / "cat.000.png", prefix="cat.")
    (root / "dog.001.png").rename(root / "owl.001.png")
    return root, ["data.label_pattern=^(cat|dog)\\."]


def manifest(root):
    make_images(root, {"cat": GOOD, "dog": GOOD})
    litter(root / "cat", root / "cat" / "000.png")
    files = [f for f in sorted(root.rglob("*")) if f.is_file() and "," not in f.name]
    rows = [f"{f.relative_to(root)},{f.parent.name}" for f in files]
    (root / "list.csv").write_text("\n".join(["path,label", *rows]))
    return root / "list.csv", []


def arrays(root):
    root.mkdir()
    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, (24, 12, 12, 3), dtype=np.uint8)
    labels = np.arange(24) % 2
    np.savez(root / "set.npz", x_train=images[:16], y_train=labels[:16], x_test=images[16:],
             y_test=labels[16:])  # fmt: skip
    return root / "set.npz", []


SOURCES = [class_folders, split_folders, names, manifest, arrays]


def given(source):
    """How many files a source holds, or names."""
    if source.suffix == ".csv":
        return len(source.read_text().splitlines()) - 1
    if source.suffix == ".npz":
        return 24
    return count(source)


def count(path):
    """Files at or below a path; a link is one, whatever it leads to."""
    if path.is_symlink() or not path.is_dir():
        return 1
    return sum(map(count, path.iterdir()))


def left_out(told, source):
    """How many files the line about what is left out stands for; it names all of them."""
    lines = [line for line in (told.out + told.err).splitlines() if "left out: " in line]
    assert len(lines) <= 1, lines
    total = 0
    for number, named in re.findall(r": ([\d,]+) \(([^()]*)\)(?:;|$)", lines[0] if lines else ""):
        paths = named.split(", ")
        assert len(paths) == int(number)
        total += sum(count(source / path) for path in paths)
    return total


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    here = tmp_path_factory.mktemp("here")
    commands, sources = {}, {}
    for make in SOURCES:
        name = make.__name__
        source, overrides = make(here / "sources" / name)
        sources[name] = source
        shape = [each for override in overrides for each in ("--set", override)]
        label = ["--label", overrides[0].partition("=")[2]] if overrides else []
        data = ["--set", f"data.source={json.dumps(str(source))}", *shape]
        commands |= {
            f"check {name}": ["data", "check", str(source), *shape],
            f"stats {name}": ["data", "stats", str(source), "--output", f"stats/{name}", *shape],
            f"split {name}": ["data", "split", str(source), "--output", f"{name}.csv", *label],
            f"init {name}": [
                "init",
                str(source),
                "--no-estimate",
                *label,
                "--output",
                f"{name}.yaml",
            ],
            f"fit {name}": ["fit", "base.yaml", "--run-dir", f"runs/{name}", *NET, *data],
        }
        if name in ("class_folders", "split_folders", "manifest"):
            commands[f"evaluate {name}"] = ["evaluate", "runs/class_folders", "--data", str(source)]
            commands[f"evaluate {name}"] += ["--output", f"evaluated/{name}"]
            commands[f"evaluate {name}"] += ["--split", "train"] if name == "split_folders" else []
        if source.is_dir():
            commands[f"predict {name}"] = ["predict", "runs/class_folders", str(source)]
            commands[f"predict {name}"] += ["--output", f"predicted-{name}.csv"]
            commands[f"table {name}"] = ["predict", "runs/class_folders", str(source)]
    photos = make_images(here / "sources" / "photos", {"cat": GOOD, "dog": GOOD})
    data = ["--set", f"data.source={json.dumps(str(photos))}"]
    for run in ("first", "second"):
        commands[run] = ["fit", "base.yaml", "--run-dir", str(photos / "runs" / run), *NET, *data]
    commands["maps"] = ["visualize", "runs/class_folders", str(photos / "cat" / "000.png")]
    commands["maps"] += ["--output", "maps"]
    (here / "base.yaml").write_text("fit: {}\ndata: {source: nowhere}\n")
    os.environ["KERAS_HOME"] = str(here / "keras")
    return here, sources, run_all(commands, here)[0]


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def unusable(told):
    found = re.search(r"left out, because they cannot be used: (\d+)", told.err)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("name", [make.__name__ for make in SOURCES])
def test_check_and_stats_account_for_every_file(name, told):
    here, sources, said = told
    source = sources[name]
    check = said[f"check {name}"]
    (number,) = re.findall(r"([\d,]+) files checked", check.out)
    assert int(number) + left_out(check, source) == given(source)
    stats = json.loads((here / "stats" / name / "stats.json").read_text())
    assert stats["num_files"] + left_out(said[f"stats {name}"], source) == given(source)
    assert len(stats["unusable"]) == check.out.count("\tbad\t")


@pytest.mark.parametrize("name", [make.__name__ for make in SOURCES])
def test_split_init_and_fit_account_for_every_file(name, told):
    here, sources, said = told
    source = sources[name]
    split = said[f"split {name}"]
    used = len(rows(here / f"{name}.csv")) + unusable(split)
    assert used + left_out(split, source) == given(source)
    init = said[f"init {name}"]
    assert init.code == 0, init.err
    numbers = re.search(r"images .*classes, (\d+) train, (\d+) validation, (\d+) test", init.out)
    bad = re.search(r"unusable files +(.*?) +->", init.out)
    used = sum(map(int, numbers.groups()))
    used += sum(map(int, re.findall(r"(\d+) ", bad[1]))) if bad else 0
    assert used + left_out(init, source) == given(source)
    fit = said[f"fit {name}"]
    assert fit.code == 0, fit.err
    data = json.loads((here / "runs" / name / "run.json").read_text())["data"]
    used = sum(sum(counts.values()) for counts in data["counts"].values())
    assert used + data["check"]["skipped"] + left_out(fit, source) == given(source)
    assert unusable(fit) == data["check"]["skipped"]


@pytest.mark.parametrize("name", ["class_folders", "split_folders", "manifest"])
def test_evaluate_accounts_for_every_file(name, told):
    here, sources, said = told
    evaluate = said[f"evaluate {name}"]
    assert evaluate.code == 0, evaluate.err
    used = len(rows(here / "evaluated" / name / "predictions.csv")) + unusable(evaluate)
    own = re.search(r"images of the run: those of test are measured, but not (.*)", evaluate.err)
    used += sum(map(int, re.findall(r"(\d+) ", own[1]))) if own else 0
    expected = given(sources[name])
    if name == "split_folders":  # its other split was not asked for
        expected -= 2 * GOOD
    assert used + left_out(evaluate, sources[name]) == expected


@pytest.mark.parametrize("name", ["class_folders", "split_folders", "names"])
def test_predict_has_a_row_for_every_file(name, told):
    here, sources, said = told
    source = sources[name]
    predict, table = said[f"predict {name}"], said[f"table {name}"]
    found = rows(here / f"predicted-{name}.csv")
    assert len(found) + left_out(predict, here) == given(source)
    errors = {Path(row["file"]).name.removeprefix("cat.") for row in found if row["error"]}
    assert errors == {"e.ppm", "empty.jpg", "page.jpg"}
    assert len(table.out.splitlines()) == len(found) + 1
    assert predict.code == table.code == 3


def test_what_the_commands_wrote_bears_their_mark(told):
    here, _, said = told
    assert read_mark(here / "stats" / "arrays") == "stats.json"
    assert read_mark(here / "evaluated" / "manifest") == "metrics.json"
    assert read_mark(here / "runs" / "manifest") == "run.json"
    assert said["maps"].code == 0, said["maps"].err
    assert read_mark(here / "maps") == "visualize.json"


def test_a_second_training_beside_the_first_sees_the_same_images(told):
    here, _, said = told
    assert (said["first"].code, said["second"].code) == (0, 0), said["second"].err
    first, second = (
        json.loads((here / "sources" / "photos" / "runs" / name / "run.json").read_text())
        for name in ("first", "second")
    )
    assert first["class_names"] == second["class_names"] == ["cat", "dog"]
    assert first["data"]["digest"] == second["data"]["digest"]
    assert "folders that cvtrain wrote: 1 (runs/first)" in said["second"].err

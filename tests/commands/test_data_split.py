import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest
from tiny_images import make_images

from cvtrain.commands.data_check import data_check
from cvtrain.commands.data_split import data_split
from cvtrain.config import Config, config_for_source
from cvtrain.data.manifest import read_manifest
from cvtrain.errors import ConfigError, DataError
from cvtrain.sections import Columns, Data
from cvtrain.steps.dataset import scan
from cvtrain.system.console import Console
from cvtrain.system.signals import Stop

OPTIONS = {"validation": 0.2, "test": 0.2, "seed": 0, "group": None, "label": None}


def split(source, output, **options):
    data_split(str(source), output, **OPTIONS | options, console=Console())
    return {path: (part, label) for part, label, path in read_manifest(output)}


def counts_of(manifest):
    return Counter(manifest.values())


@pytest.fixture
def photos(tmp_path):
    return make_images(tmp_path / "photos", {"cat": 20, "dog": 30})


def test_a_manifest_has_the_split_that_training_would_draw(photos, tmp_path, capsys):
    manifest = split(photos, tmp_path / "manifest.csv")
    capsys.readouterr()
    config = Config(data=Data(source=str(photos), split={"validation": 0.2, "test": 0.2}))
    index, _, _ = scan(config, Stop(), Console())
    drawn = {
        f"photos/{path}": (name, index.class_names[label])
        for name, part in index.splits.items()
        for path, label in zip(part.paths, part.labels, strict=True)
    }
    assert manifest == drawn
    assert counts_of(manifest)["validation", "dog"] == 6
    assert split(photos, tmp_path / "again.csv") == manifest
    assert split(photos, tmp_path / "other.csv", seed=1) != manifest
    data_check(config_for_source(str(tmp_path / "manifest.csv")), console=Console())
    assert "2 classes, 30 train, 10 validation, 10 test images" in capsys.readouterr().out


def test_counts_are_shown(photos, tmp_path, capsys):
    split(photos, tmp_path / "manifest.csv")
    out, err = capsys.readouterr()
    assert "class\ttrain\tvalidation\ttest" in out
    assert "cat\t12\t4\t4" in out
    assert "manifest.csv: 2 classes, 30 train, 10 validation, 10 test images" in out
    assert "data: {source: " in err


def test_the_manifest_may_lie_elsewhere_and_behind_a_link(photos, tmp_path):
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    manifest = split(photos, tmp_path / "link" / "m.csv")
    assert "../../photos/cat/000.png" in manifest


def test_groups_fall_into_one_split_with_those_that_share_an_image(tmp_path, capsys):
    counts = {"x/well": 40, "x/ill": 40}
    root = make_images(tmp_path, counts) / "x"
    for name in ("well", "ill"):
        for i, path in enumerate(sorted((root / name).iterdir())):
            path.rename(path.with_name(f"p{i // 4}_{name}_{i}.png"))
    shutil.copy(root / "well" / "p3_well_12.png", root / "well" / "p7_copy.png")
    manifest = split(root, tmp_path / "m.csv", group=r"(p\d+)_")
    splits_of = {}
    for path, (part, _) in manifest.items():
        splits_of.setdefault(path.rpartition("/")[2].partition("_")[0], set()).add(part)
    assert len(splits_of) == 10
    assert all(len(parts) == 1 for parts in splits_of.values())
    assert splits_of["p3"] == splits_of["p7"]
    counts = counts_of(manifest)
    assert all(
        counts[part, name] for part in ("train", "validation", "test") for name in ("well", "ill")
    )
    assert "groups: 9:" in capsys.readouterr().err


def test_every_image_needs_a_group(photos, tmp_path):
    (photos / "dog" / "029.png").rename(photos / "dog" / "029-x.png")
    with pytest.raises(DataError, match="does not match 1 of 50 images: dog/029"):
        split(photos, tmp_path / "m.csv", group=r"(\d\d)\.png")
    assert not (tmp_path / "m.csv").exists()


def test_labels_may_come_from_names(photos, tmp_path):
    for path in sorted(photos.glob("*/*.png")):
        path.rename(photos / f"{path.parent.name}.{path.name}")
    manifest = split(photos, tmp_path / "m.csv", label=r"^(cat|dog)\.")
    assert Counter(label for _, label in manifest.values()) == {"cat": 20, "dog": 30}


def test_what_cannot_be_used_is_named_and_left_out(photos, tmp_path, capsys):
    (photos / "cat" / "empty.jpg").write_bytes(b"")
    shutil.copy(photos / "cat" / "003.png", photos / "dog" / "copy.png")
    manifest = split(photos, tmp_path / "m.csv")
    assert len(manifest) == 49
    err = capsys.readouterr().err
    assert "cat/empty.jpg: empty file" in err
    assert "of another class" in err


def test_splits_of_the_source_are_kept_without_leaks(tmp_path, capsys):
    root = make_images(tmp_path / "x", {"train/a": 20, "train/b": 20, "test/a": 5, "test/b": 5})
    shutil.copy(root / "test" / "a" / "000.png", root / "train" / "a" / "copy.png")
    manifest = split(root, tmp_path / "m.csv")
    counts = counts_of(manifest)
    for name in "ab":
        assert (counts["test", name], counts["train", name] + counts["validation", name]) == (5, 20)
    assert "x/train/a/copy.png" not in manifest
    assert "splits of the source that are kept: test" in capsys.readouterr().err
    split(root, tmp_path / "m.csv", force=True, group=r"(\d|copy)\.png")
    err = capsys.readouterr().err
    assert "splits of the source that are kept: test" in err
    assert "groups in two splits of the source: " in err


def test_a_manifest_that_is_there_is_replaced_by_force_alone(photos, tmp_path):
    by_patient = tmp_path / "m.csv"
    split(photos, by_patient, group=r"(\d)\.png")
    before = by_patient.read_bytes()
    with pytest.raises(ConfigError, match=r"m\.csv is there already") as caught:
        split(photos, by_patient)
    assert "--force" in caught.value.advice
    assert by_patient.read_bytes() == before
    split(photos, by_patient, force=True)
    assert by_patient.read_bytes() != before


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"validation": 0.6, "test": 0.4}, "together they are 1"),
        ({"group": "p"}, r"--group p: must have one group"),
        ({"label": "(cat"}, r"--label \(cat: must be a regular expression"),
    ],
)
def test_impossible_wishes_are_told(photos, tmp_path, options, what):
    with pytest.raises(ConfigError, match=what):
        split(photos, tmp_path / "m.csv", **options)


def test_a_manifest_is_not_written_over_itself(photos, tmp_path):
    split(photos, tmp_path / "m.csv")
    with pytest.raises(ConfigError, match="is the source itself"):
        split(tmp_path / "m.csv", tmp_path / "m.csv")


def test_a_manifest_without_splits_can_be_split(photos, tmp_path):
    manifest = split(photos, tmp_path / "m.csv")
    with (tmp_path / "plain.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *((p, m[1]) for p, m in manifest.items())])
    again = split(tmp_path / "plain.csv", tmp_path / "again.csv")
    assert set(again) == set(manifest)
    assert Counter(part for part, _ in again.values()) == {
        "train": 30,
        "validation": 10,
        "test": 10,
    }


def test_a_manifest_of_other_columns_can_be_split(photos, tmp_path):
    truth = {p.relative_to(tmp_path).as_posix(): p.parent.name for p in photos.rglob("*.png")}
    lines = [f"{c}/{Path(path).stem},{c}" for path, c in truth.items()]
    (tmp_path / "list.csv").write_text("\n".join(["id,breed", *lines]))
    columns = Columns(path="id", label="breed", folder="photos", suffix=".png")
    manifest = split(tmp_path / "list.csv", tmp_path / "m.csv", columns=columns)
    assert {path: label for path, (_, label) in manifest.items()} == truth

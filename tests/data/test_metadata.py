"""Folders that hold a list of their images, as Hugging Face and Roboflow write them."""

import json

import pytest
from tiny_images import make_images

from cvtrain.data.columns import Columns
from cvtrain.data.index import build_index
from cvtrain.errors import DataError

SHARES = {"validation": 0, "test": 0, "seed": 0}


def labels_of(index):
    return {
        path: (split, label)
        for split, classes in index.by_class().items()
        for label, paths in classes.items()
        for path in paths
    }


def images(folder, count=6):
    make_images(folder, {"": count}, size=(8, 8))
    return {f"{i:03d}.png": ("cat", "dog")[i % 2] for i in range(count)}


def write_metadata(folder, labels, *, name="metadata.jsonl", key="label"):
    if name.endswith(".csv"):
        lines = [f"file_name,{key}", *(f"{path},{label}" for path, label in labels.items())]
    else:
        lines = [json.dumps({"file_name": p, key: label, "n": 1}) for p, label in labels.items()]
    (folder / name).write_text("\n".join(lines))


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_a_folder_with_metadata(tmp_path, name):
    truth = images(tmp_path / "set")
    write_metadata(tmp_path / "set", truth, name=name)
    index = build_index(tmp_path / "set", **SHARES)
    assert index.root == tmp_path / "set"
    assert labels_of(index) == {path: ("train", label) for path, label in truth.items()}
    assert index.notes == (f"{tmp_path / 'set'}: labels are read from {name}, not from folders",)
    assert index.left_out == {}


def test_each_split_has_its_metadata_or_all_have_one(tmp_path):
    truth, whole = {}, {}
    for folder, split in (("train", "train"), ("valid", "validation"), ("test", "test")):
        labels = images(tmp_path / "parts" / folder)
        images(tmp_path / "whole" / folder)
        write_metadata(tmp_path / "parts" / folder, labels)
        truth |= {f"{folder}/{path}": (split, label) for path, label in labels.items()}
        whole |= {f"{folder}/{path}": label for path, label in labels.items()}
    write_metadata(tmp_path / "whole", whole, name="metadata.csv")
    assert labels_of(build_index(tmp_path / "parts", **SHARES)) == truth
    assert labels_of(build_index(tmp_path / "whole", **SHARES)) == truth


def test_metadata_wins_over_folders_of_classes_and_says_so(tmp_path):
    make_images(tmp_path, {"a": 4, "b": 4}, size=(8, 8))
    truth = {f"{c}/{i:03d}.png": ("x", "y")[i % 2] for c in "ab" for i in range(4)}
    write_metadata(tmp_path, truth)
    index = build_index(tmp_path, **SHARES)
    assert labels_of(index) == {path: ("train", label) for path, label in truth.items()}
    assert "labels are read from metadata.jsonl, not from folders" in index.notes[0]


def test_metadata_without_labels_leaves_the_folders_and_says_so(tmp_path):
    make_images(tmp_path, {"a": 4, "b": 4}, size=(8, 8))
    write_metadata(tmp_path, {"a/000.png": "a cat"}, name="metadata.csv", key="text")
    index = build_index(tmp_path, **SHARES)
    assert index.class_names == ("a", "b")
    (note,) = index.notes
    assert "metadata.csv has no column label, but file_name, text; the folders are the" in note


def test_columns_name_the_labels_of_metadata(tmp_path):
    truth = images(tmp_path / "flat")
    write_metadata(tmp_path / "flat", truth, key="text")
    with pytest.raises(DataError, match="received: file_name,text,n") as caught:
        build_index(tmp_path / "flat", **SHARES)
    assert "data.columns={path: file_name, label: text}" in caught.value.advice
    index = build_index(tmp_path / "flat", **SHARES, columns=Columns("file_name", "text"))
    assert labels_of(index) == {path: ("train", label) for path, label in truth.items()}


def test_images_that_are_not_listed_are_left_out_and_named(tmp_path):
    truth = images(tmp_path / "set", 8)
    listed = dict(list(truth.items())[:6])
    write_metadata(tmp_path / "set", listed)
    (tmp_path / "set" / "readme.txt").touch()
    index = build_index(tmp_path / "set", **SHARES)
    assert len(labels_of(index)) == 6
    assert index.left_out == {
        "images that are not listed": ["006.png", "007.png"],
        ".txt files": ["readme.txt"],
    }


def write_classes(folder, labels):
    ones = {"cat": "1, 0", "dog": "0, 1", "both": "1, 1"}
    lines = [f"{path}, {ones[label]}" for path, label in labels.items()]
    (folder / "_classes.csv").write_text("\n".join(["filename, cat, dog", *lines]))


def test_an_export_of_roboflow(tmp_path):
    truth = {}
    for folder, split in (("train", "train"), ("valid", "validation"), ("test", "test")):
        labels = images(tmp_path / folder)
        write_classes(tmp_path / folder, labels)
        truth |= {f"{folder}/{path}": (split, label) for path, label in labels.items()}
    assert labels_of(build_index(tmp_path, **SHARES)) == truth
    write_classes(tmp_path / "valid", labels | {"003.png": "both"})
    with pytest.raises(DataError, match=r"valid/_classes\.csv:5: cat, dog are 1, and several lab"):
        build_index(tmp_path, **SHARES)


def test_two_folders_of_one_split_are_refused(tmp_path):
    for folder in ("valid", "val"):
        write_metadata(tmp_path / folder, images(tmp_path / folder))
    with pytest.raises(DataError, match="val/, valid/ mean the same split"):
        build_index(tmp_path, **SHARES)


def test_metadata_may_name_what_a_manifest_may(tmp_path):
    truth = images(tmp_path / "set")
    (tmp_path / "set" / "000.png").rename(tmp_path / "outside.png")
    del truth["000.png"]
    truth |= {"../outside.png": "cat"}
    write_metadata(tmp_path / "set", truth)
    index = build_index(tmp_path / "set", **SHARES)
    assert labels_of(index) == {path: ("train", label) for path, label in truth.items()}


def test_a_table_that_cannot_be_read_is_no_manifest_of_class_folders(tmp_path):
    make_images(tmp_path, {"a": 4, "b": 4}, size=(8, 8))
    (tmp_path / "metadata.csv").write_bytes(b"\xff\xfe\0")
    assert build_index(tmp_path, **SHARES).class_names == ("a", "b")


def test_columns_need_a_manifest(tmp_path):
    make_images(tmp_path, {"a": 4, "b": 4}, size=(8, 8))
    with pytest.raises(DataError, match=r"no manifest, and data\.columns names"):
        build_index(tmp_path, **SHARES, columns=Columns("id", "breed"))

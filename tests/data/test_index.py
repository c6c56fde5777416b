import re
import shutil

import numpy as np
import pytest

from cvtrain.data import scan
from cvtrain.data.index import build_index
from cvtrain.data.scan import LINKS
from cvtrain.errors import DataError

SHARES = {"validation": 0.2, "test": 0.2, "seed": 0}


@pytest.fixture
def make(tmp_path):
    """Make empty image files from {folder: number}; names suffice for an index."""

    def make(numbers, root="images"):
        for folder, number in numbers.items():
            (tmp_path / root / folder).mkdir(parents=True, exist_ok=True)
            for i in range(number):
                (tmp_path / root / folder / f"{i}.jpg").touch()
        return tmp_path / root

    return make


def error_of(source, **options):
    with pytest.raises(DataError) as caught:
        build_index(source, **SHARES | options)
    assert caught.value.advice
    return caught.value.message.removeprefix(str(source)).removeprefix(": ")


def test_split_folders(make):
    root = make({"Train/b": 3, "train_extra/x": 1, "valid/a": 1, "Train/a": 2, "test/b": 2})
    index = build_index(root, validation=0.2, test=0.2, seed=0)
    assert index.class_names == ("a", "b")
    assert list(index.splits) == ["train", "validation", "test"]
    assert index.splits["train"].paths == (
        *["Train/a/0.jpg", "Train/a/1.jpg"],
        *["Train/b/0.jpg", "Train/b/1.jpg", "Train/b/2.jpg"],
    )
    assert index.splits["train"].labels.tolist() == [0, 0, 1, 1, 1]
    assert index.splits["train"].labels.dtype == np.int32
    assert index.counts == {
        "train": {"a": 2, "b": 3},
        "validation": {"a": 1, "b": 0},
        "test": {"a": 0, "b": 2},
    }
    assert index.notes == (
        "validation has no images of class b",
        "test has no images of class a",
    )


def test_class_folders_are_split_class_by_class(make):
    root = make({"10": 10, "9": 100, "1": 3})
    index = build_index(root, validation=0.2, test=0.1, seed=0)
    assert index.class_names == ("1", "9", "10")
    assert index.counts == {
        "train": {"1": 1, "9": 70, "10": 7},
        "validation": {"1": 1, "9": 20, "10": 2},
        "test": {"1": 1, "9": 10, "10": 1},
    }
    every = [path for split in index.splits.values() for path in split.paths]
    assert len(every) == len(set(every)) == 113


def test_the_split_depends_on_seed_and_names_alone(make, monkeypatch):
    root = make({"a": 40, "b": 40})

    def paths(source=root, **options):
        index = build_index(source, **SHARES | options)
        return {name: split.paths for name, split in index.splits.items()}

    first = paths()
    copy = shutil.copytree(root, root.parent / "copy")
    assert paths(copy) == first
    listed = scan.list_folder
    monkeypatch.setattr(scan, "list_folder", lambda *args: _backwards(listed(*args)))
    assert {name: set(p) for name, p in paths().items()} == {n: set(p) for n, p in first.items()}
    monkeypatch.undo()
    assert paths(seed=1) != first
    assert paths(validation=0.4)["test"] == first["test"]


def _backwards(listing):
    listing.images.reverse()
    return listing


def test_one_more_image_moves_few_others(make):
    root = make({"a": 99, "b": 99})
    before = set(build_index(root, **SHARES).splits["train"].paths)
    (root / "a" / "new.jpg").touch()
    after = set(build_index(root, **SHARES).splits["train"].paths)
    assert len(before ^ after) <= 4


def test_a_missing_split_is_taken_from_train_and_test_is_never_divided(make):
    root = make({"train/a": 10, "train/b": 20, "test/a": 5, "test/b": 5})
    index = build_index(root, validation=0.2, test=0.5, seed=0)
    assert index.counts == {
        "train": {"a": 8, "b": 16},
        "validation": {"a": 2, "b": 4},
        "test": {"a": 5, "b": 5},
    }
    assert list(build_index(root, validation=0, test=0.5, seed=0).splits) == ["train", "test"]


def test_shares_of_zero_leave_all_in_train(make):
    index = build_index(make({"a": 1, "b": 1}), validation=0, test=0, seed=0)
    assert list(index.splits) == ["train"]


def test_large_shares_leave_something_to_train_on(make):
    index = build_index(make({"a": 3, "b": 4}), validation=0.5, test=0.49, seed=0)
    assert all(count >= 1 for counts in index.counts.values() for count in counts.values())


def test_classes_may_be_chosen_and_keep_their_natural_order(make):
    root = make({"train/10": 9, "train/9": 9, "train/1": 9, "test/9": 2, "test/x": 2})
    index = build_index(root, **SHARES, classes=["10", "9"])
    assert index.class_names == ("9", "10")
    assert index.counts == {
        "train": {"9": 7, "10": 7},
        "validation": {"9": 2, "10": 2},
        "test": {"9": 2, "10": 0},
    }
    everything = build_index(make({"10": 9, "9": 9, "1": 9}, "other"), **SHARES)
    some = build_index(make({}, "other"), **SHARES, classes=["10", "9"])
    assert all(
        paths == everything.by_class()[split][name]
        for split, classes in some.by_class().items()
        for name, paths in classes.items()
    )


def test_a_chosen_class_may_be_written_in_another_unicode_form(make):
    root = make({"cafe\u0301": 3, "tea": 3, "juice": 3})
    index = build_index(root, **SHARES, classes=["caf\xe9", "tea"])
    assert index.class_names == ("caf\xe9", "tea")


def test_an_unknown_chosen_class_is_an_error_with_a_suggestion(make):
    root = make({"dress": 3, "hat": 3})
    with pytest.raises(DataError, match="no class dres, as data") as caught:
        build_index(root, **SHARES, classes=["hat", "dres"])
    assert caught.value.advice == "Did you mean dress?"
    with pytest.raises(DataError) as caught:
        build_index(root, **SHARES, classes=["hat", "zzz"])
    assert caught.value.advice == "The classes are dress, hat."


def test_a_subset_for_training_leaves_the_other_splits_and_grows_by_adding(make):
    root = make({"a": 50, "b": 10})
    everything = build_index(root, **SHARES)
    ten = build_index(root, **SHARES, train_per_class=10)
    assert ten.counts["train"] == {"a": 10, "b": 6}
    for split in ("validation", "test"):
        assert ten.splits[split].paths == everything.splits[split].paths
    twenty = build_index(root, **SHARES, train_per_class=20)
    assert set(ten.splits["train"].paths) < set(twenty.splits["train"].paths)
    assert set(twenty.splits["train"].paths) < set(everything.splits["train"].paths)
    other = build_index(root, **SHARES | {"seed": 1}, train_per_class=10)
    assert other.splits["train"].paths != ten.splits["train"].paths


def test_a_subset_of_given_splits(make):
    root = make({f"{split}/{name}": 9 for split in ("train", "val", "test") for name in "ab"})
    index = build_index(root, **SHARES, train_per_class=4)
    assert [sum(counts.values()) for counts in index.counts.values()] == [8, 18, 18]


def test_an_index_knows_among_which_splits_it_dealt(make):
    def auto_splits(folders):
        return build_index(
            make({f"{f}/{c}": 9 for f in folders for c in "ab"}), **SHARES
        ).auto_splits

    assert build_index(make({"a": 9, "b": 9}, "flat"), **SHARES).auto_splits == (
        "train",
        "validation",
        "test",
    )
    assert auto_splits(["train", "test"]) == ("train", "validation")
    assert "test" not in auto_splits(["train", "test", "validation"])


def test_nested_folders_belong_to_their_class(make):
    index = build_index(make({"a/x/y": 2, "a/z": 1, "b": 3}), validation=0, test=0, seed=0)
    assert index.counts == {"train": {"a": 3, "b": 3}}


def test_images_beside_class_folders_are_left_out(make):
    root = make({"a": 3, "b": 3})
    (root / "flat.jpg").touch()
    (root / "readme.md").touch()
    index = build_index(root, **SHARES)
    assert index.left_out == {
        "images beside the class folders": ["flat.jpg"],
        ".md files": ["readme.md"],
    }


def test_links_to_folders_are_left_out_by_name(make):
    root = make({"a": 3, "b": 3})
    (root / "c").symlink_to(root / "a")
    (root / "b" / "loop").symlink_to(root)
    index = build_index(root, **SHARES)
    assert index.class_names == ("a", "b")
    assert index.left_out == {LINKS: ["c", "b/loop"]}


def test_classes_called_like_a_split(make):
    index = build_index(make({"bus": 3, "car": 3, "train": 3}), **SHARES)
    assert index.class_names == ("bus", "car", "train")


def test_unicode_forms_of_one_name_are_one_class(make):
    root = make({"train/caf\u00e9": 2, "train/tea": 2, "test/cafe\u0301": 1})
    index = build_index(root, validation=0, test=0, seed=0)
    assert index.class_names == ("caf\u00e9", "tea")
    assert index.splits["test"].paths == ("test/cafe\u0301/0.jpg",)
    assert index.splits["test"].labels.tolist() == [0]


def test_manifest(make):
    root = make({"x": 4})
    (root / "list.csv").write_text(
        "path,label,split\nx/0.jpg,b,train\nx/1.jpg,a,train\nx/2.jpg,a,test\n"
    )
    index = build_index(root / "list.csv", validation=0, test=0.3, seed=0)
    assert index.root == root
    assert index.splits["train"].paths == ("x/1.jpg", "x/0.jpg")
    assert index.splits["test"].labels.tolist() == [0]


def test_manifest_without_splits_is_divided(make):
    root = make({"x": 20})
    lines = [f"x/{i}.jpg,{'ab'[i % 2]}" for i in range(20)]
    (root / "list.csv").write_text("\n".join(["path,label", *lines]))
    index = build_index(root / "list.csv", **SHARES)
    assert index.counts == {
        "train": {"a": 6, "b": 6},
        "validation": {"a": 2, "b": 2},
        "test": {"a": 2, "b": 2},
    }


def test_given_class_names_decide_the_labels(make):
    root = make({"test/zebra": 2})
    index = build_index(root, **SHARES, class_names=("cat", "zebra"))
    assert index.class_names == ("cat", "zebra")
    assert index.splits["test"].labels.tolist() == [1, 1]
    assert list(index.splits) == ["test"]
    whole = make({"cat": 2, "zebra": 1}, "whole")
    index = build_index(whole, validation=0, test=0, seed=0, class_names=("zebra", "cat"))
    assert index.splits["train"].labels.tolist() == [0, 1, 1]
    assert "has class cat" in error_of(whole, class_names=("dog", "zebra"))


def test_without_leaves_samples_out(make):
    index = build_index(
        make({"train/a": 2, "train/b": 2, "test/a": 1}), **{**SHARES, "validation": 0}
    )
    rest = index.without({"train/a/1.jpg", "test/a/0.jpg"})
    assert rest.splits["train"].paths == ("train/a/0.jpg", "train/b/0.jpg", "train/b/1.jpg")
    assert rest.splits["train"].labels.tolist() == [0, 1, 1]
    assert list(rest.counts) == ["train"]
    assert len(index.splits["train"].paths) == 4


@pytest.mark.parametrize(
    ("numbers", "what"),
    [
        ({"": 0}, "no images"),
        ({"": 3}, "3 images but no class folders"),
        ({"a": 5, "b": 5, "c": 0}, "no images in class c"),
        ({"a": 5}, "only one class, a"),
        (
            {"a": 5, "b": 2, "c": 1},
            "too few images to share among train, test, validation in class b, c",
        ),
        ({"train/a": 5, "train/b": 5, "test/a": 1, "test/c": 1}, "test has class c"),
        ({"test/a": 5, "test/b": 5}, "there are images for test but none for training"),
        (
            {"train/a": 5, "train/b": 5, "val/a": 1, "valid/a": 1},
            "val/, valid/ mean the same split",
        ),
        (
            {"trian/a": 5, "test/a": 1},
            "/trian: a folder of folders whose name is not that of a split",
        ),
        (
            {"trian/a": 5, "vaildation/a": 1},
            "/trian: a folder of folders whose name is not that of a split",
        ),
        ({"train/a": 5, "train/b": 5, "test": 3}, "/test: 3 images but no class folders"),
        ({"train": 5, "test": 3}, "/test: 3 images but no class folders"),
        ({"caf\u00e9": 3, "cafe\u0301": 3}, "'cafe\\u0301' and 'caf\\xe9' are one name"),
        ({"a": 3, "b\x1b[31m": 3}, "b\\x1b[31m: the name holds the invisible character U+001B"),
        ({"a": 3, "b\udcff": 3}, "b\\udcff: the name holds bytes that are not UTF-8"),
    ],
)
def test_folders_that_are_no_data_set(make, numbers, what):
    message = error_of(make(numbers))
    assert what in message
    assert message.isprintable()


def test_advice_for_misspelt_names(make):
    root = make({"train/shoe": 5, "train/hat": 5, "test/shoes": 1})
    with pytest.raises(DataError, match=r"Did you mean shoe\?"):
        build_index(root, **SHARES)
    root = make({"trian/a": 5, "test/a": 1}, "other")
    with pytest.raises(DataError, match=r"Did you mean train/\?"):
        build_index(root, **SHARES)


def test_what_was_ignored_is_told_when_nothing_is_left(make):
    root = make({"a": 0})
    (root / "a" / "x.txt").touch()
    assert error_of(root) == "no images in class a (left out: .txt files: 1 (a/x.txt))"
    shutil.rmtree(root / "a")
    (root / "y.txt").touch()
    assert error_of(root) == "no images (left out: .txt files: 1 (y.txt))"


@pytest.mark.parametrize("name", ["photo.jpg", "data.zip"])
def test_a_file_that_is_no_manifest(tmp_path, name):
    (tmp_path / name).touch()
    assert "neither a folder nor a .csv manifest" in error_of(tmp_path / name)


NEARLY_EQUAL = [("Cat", "cat"), ("T-shirt", "t_shirt"), ("polar bear", "polarbear"), ("1", "01")]


def _folders(root, names):
    for name in names:
        (root / name).mkdir()
        for i in range(5):
            (root / name / f"{i}.jpg").touch()
    return root, None


def _splits(root, names):
    for split in ("train", "test"):
        (root / split).mkdir()
        _folders(root / split, names)
    return root, None


def _manifest(root, names):
    for i in range(5 * len(names)):
        (root / f"{i}.jpg").touch()
    rows = [f"{i}.jpg,{names[i % len(names)]}" for i in range(5 * len(names))]
    (root / "list.csv").write_text("\n".join(["path,label", *rows]))
    return root / "list.csv", None


def _file_names(root, names):
    for name in names:
        for i in range(5):
            (root / f"{name}.{i}.jpg").touch()
    return root, re.compile(r"^(.+)\.\d\.jpg")


@pytest.mark.parametrize("make", [_folders, _splits, _manifest, _file_names])
@pytest.mark.parametrize("pair", NEARLY_EQUAL)
def test_nearly_equal_names_are_noted_whatever_source_they_are_from(make, pair, tmp_path):
    source, pattern = make(tmp_path, [*pair, "owl"])
    index = build_index(source, **SHARES, label_pattern=pattern)
    first, second = sorted(pair, key=scan.natural_key)
    assert index.notes == (f"'{first}' and '{second}' are different classes; is this intended?",)
    assert len(index.class_names) == 3


@pytest.mark.parametrize("make", [_folders, _splits, _manifest, _file_names])
def test_names_that_differ_in_more_are_not_noted(make, tmp_path):
    source, pattern = make(tmp_path, ["C", "C++", "10", "1", "cat", "cats"])
    assert build_index(source, **SHARES, label_pattern=pattern).notes == ()


def test_images_of_other_classes_are_said_to_be_left_out(make):
    index = build_index(make({"a": 3, "b": 3, "c": 2}), **SHARES, classes=["a", "b"])
    assert index.left_out == {"images of other classes than data.classes": ["c/0.jpg", "c/1.jpg"]}

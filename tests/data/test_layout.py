"""Which folders are splits: what names and contents say beyond doubt, and what is refused."""

import re

import pytest

from cvtrain.data.index import build_index
from cvtrain.data.layout import BESIDE_SPLITS
from cvtrain.errors import DataError
from cvtrain.sections.base import compile_pattern

SHARES = {"validation": 0.2, "test": 0.2, "seed": 0}
CLASSES = ("cat", "dog")


def make(root, *folders, n=5):
    """Empty files suffice: nothing is decoded here."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            (root / folder / f"{i}.jpg").touch()
    return root


def below(*folders, names=CLASSES):
    return [f"{folder}/{name}" for folder in folders for name in names]


def first_folders(index):
    """The folders that the images of each split are in, from the top to above the class."""
    return {
        split: {path.rpartition("/")[0].rpartition("/")[0] for path in samples.paths}
        for split, samples in index.splits.items()
    }


UNDERSTOOD = {
    "words": (
        below("seg_train", "seg_test"),
        {"train": {"seg_train"}, "test": {"seg_test"}},
    ),
    "words, each in a folder of its own name": (
        below("seg_train/seg_train", "seg_test/seg_test"),
        {"train": {"seg_train/seg_train"}, "test": {"seg_test/seg_test"}},
    ),
    "years": (below("train2017", "val2017"), {"train": {"train2017"}, "validation": {"val2017"}}),
    "in capitals, joined": (
        below("TrainSet", "ValidSet", "TestSet"),
        {"train": {"TrainSet"}, "validation": {"ValidSet"}, "test": {"TestSet"}},
    ),
    "spaces": (
        below("Training Data", "Test Data"),
        {"train": {"Training Data"}, "test": {"Test Data"}},
    ),
    "the same classes, other words": (
        below("my_train", "final-test"),
        {"train": {"my_train"}, "test": {"final-test"}},
    ),
    "a plain train beside a word": (
        below("train", "test_set"),
        {"train": {"train"}, "test": {"test_set"}},
    ),
    "unpacked twice": (
        below("train/train", "test/test"),
        {"train": {"train/train"}, "test": {"test/test"}},
    ),
    "unpacked twice, one of them": (
        below("train/train", "test"),
        {"train": {"train/train"}, "test": {"test"}},
    ),
    "images/ in each split": (
        below("train/images", "val/images"),
        {"train": {"train/images"}, "validation": {"val/images"}},
    ),
}


@pytest.mark.parametrize("case", UNDERSTOOD)
def test_what_is_beyond_doubt_is_understood_and_said(case, tmp_path):
    folders, expected = UNDERSTOOD[case]
    index = build_index(make(tmp_path, *folders), **SHARES | {"validation": 0, "test": 0})
    assert index.class_names == CLASSES
    assert first_folders(index) == expected
    (note,) = index.notes
    for split, (folder,) in expected.items():
        assert folder == split or f"{folder}/ as {split}" in note


def test_plain_splits_need_no_note(tmp_path):
    index = build_index(make(tmp_path, *below("Train", "VAL", "testing")), **SHARES)
    assert first_folders(index) == {"train": {"Train"}, "validation": {"VAL"}, "test": {"testing"}}
    assert index.notes == ()


def test_folders_without_labels_beside_splits_are_left_out(tmp_path):
    make(tmp_path, *below("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred")
    index = build_index(tmp_path, **SHARES)
    assert set(index.splits) == {"train", "validation", "test"}
    assert index.left_out == {BESIDE_SPLITS: ["seg_pred"]}


def test_splits_in_each_class_are_understood_and_said(tmp_path):
    make(tmp_path, *below("cat", "dog", names=("train", "Test")))
    index = build_index(tmp_path, **SHARES)
    assert index.class_names == CLASSES
    assert index.splits["test"].paths[0] == "cat/Test/0.jpg"
    assert index.counts["test"] == {"cat": 5, "dog": 5}
    assert index.counts["validation"] == {"cat": 1, "dog": 1}
    assert index.notes == ("read as splits of each class: the folders Test, train",)


REFUSED = {
    "flat images": (
        ["train_images", "test_images"],
        "test_images, train_images are named like splits (test, train)",
        "CSV manifest",
    ),
    "classes and splits in one name": (
        ["cat_train", "cat_test", "dog_train", "dog_test"],
        "cat_test, cat_train, dog_test, dog_train are named like splits",
        "Rename them to train/",
    ),
    "the same folders, named by years": (
        below("2023", "2024"),
        "2023, 2024 have the same folders in them (cat, dog)",
        "data.label_pattern=^[^/]+/([^/]+)/",
    ),
    "folds": (
        below("fold_1", "fold_2", "fold_3"),
        "have the same folders in them (cat, dog)",
        "or name one of them",
    ),
    "three versions of one set": (
        below("color", "grayscale", "segmented", names=("healthy", "scab", "rust")),
        "color, grayscale, segmented have the same folders in them (healthy, rust, scab)",
        "name one of them",
    ),
    "numbers as classes": (
        below("siteA", "siteB", names=("0", "1")),
        "siteA, siteB have the same folders in them (0, 1)",
        "data.label_pattern=^([^/]+)/",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_may_be_splits_or_classes_is_refused_with_the_right_call(case, tmp_path):
    folders, what, advice = REFUSED[case]
    with pytest.raises(DataError) as caught:
        build_index(make(tmp_path, *folders), **SHARES)
    assert what in caught.value.message
    assert advice in caught.value.advice


@pytest.mark.parametrize(
    ("case", "classes"),
    [
        ("the same folders, named by years", {"cat": 10, "dog": 10}),
        ("numbers as classes", {"siteA": 10, "siteB": 10}),
        ("three versions of one set", {"healthy": 15, "scab": 15, "rust": 15}),
        (
            "classes and splits in one name",
            {f"{name}_{split}": 5 for name in CLASSES for split in ("train", "test")},
        ),
    ],
)
def test_the_advised_patterns_read_it(case, classes, tmp_path):
    folders, *_ = REFUSED[case]
    make(tmp_path, *folders)
    with pytest.raises(DataError) as caught:
        build_index(tmp_path, **SHARES)
    found = []
    for pattern in re.findall(r"--set 'data\.label_pattern=([^']+)'", caught.value.advice):
        index = build_index(
            tmp_path, validation=0, test=0, seed=0, label_pattern=compile_pattern(pattern)
        )
        found.append(index.counts["train"])
    assert classes in found


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (below("vest", "shirt", names=("day1", "day2")), ("shirt", "vest")),
        (below("brain", "vest", names=("2026-05-01", "2026-05-02")), ("brain", "vest")),
        (
            below("trains", "vest", "grain", "brain", names=("x",)),
            ("brain", "grain", "trains", "vest"),
        ),
        (["trains/old", "trains/new", "cars/red"], ("cars", "trains")),
        (["bus", "car", "train"], ("bus", "car", "train")),
        (["bullet_train", "freight_train", "car"], ("bullet_train", "car", "freight_train")),
        (["bullet_train", "pregnancy_test", "car"], ("bullet_train", "car", "pregnancy_test")),
        (["cat/images", "dog/images"], CLASSES),
        (["cat/a", "cat/b", "dog/c", "dog/d"], CLASSES),
        (["cat", "cat/a", "cat/b", "dog/a", "dog/b"], CLASSES),
    ],
)
def test_classes_are_classes(folders, classes, tmp_path):
    index = build_index(make(tmp_path, *folders), **SHARES)
    assert index.class_names == classes
    assert set(index.splits) == {"train", "validation", "test"}


def test_parts_of_classes_are_said(tmp_path):
    make(tmp_path, *below("vest", "shirt", names=("day1", "day2")))
    (note,) = build_index(tmp_path, **SHARES).notes
    assert note.startswith("the classes are shirt, vest, and the same folders in them (day1, day2)")


@pytest.mark.parametrize(
    "folders",
    [
        below("trian", "test"),
        below("train", "vaildation"),
        below("trian", "vaildation"),
        below("train", "vest"),
        below("tran", "val", "test"),
    ],
)
def test_a_misspelt_split_stands_beside_another(folders, tmp_path):
    with pytest.raises(
        DataError, match="a folder of folders whose name is not that of a split"
    ) as caught:
        build_index(make(tmp_path, *folders), **SHARES)
    assert caught.value.advice.startswith("Did you mean ")


@pytest.mark.parametrize("unlabelled", ["test", "test/test"])
def test_images_without_labels_beside_a_training_set(unlabelled, tmp_path):
    root = make(tmp_path / "photos", *below("train"), unlabelled)
    with pytest.raises(DataError) as caught:
        build_index(root, **SHARES)
    assert "5 images but no class folders" in caught.value.message
    assert f"train on {root}/train alone" in caught.value.advice
    assert f"cvtrain predict {root}/{unlabelled}" in caught.value.advice


def test_flat_images_in_a_folder_of_the_splits_name_get_a_pattern(tmp_path):
    for split in ("train", "test"):
        make(tmp_path, f"{split}/{split}", n=0)
        for name in CLASSES:
            for i in range(5):
                (tmp_path / split / split / f"{name}.{i}.jpg").touch()
    with pytest.raises(DataError) as caught:
        build_index(tmp_path, **SHARES)
    (pattern,) = re.findall(r"--set 'data\.label_pattern=([^']+)'", caught.value.advice)
    index = build_index(tmp_path, **SHARES, label_pattern=compile_pattern(pattern))
    assert index.counts["test"] == {"cat": 5, "dog": 5}


# Links


def test_a_split_may_be_a_link(tmp_path):
    make(tmp_path / "elsewhere", *CLASSES)
    make(tmp_path / "photos", *below("train"))
    (tmp_path / "photos" / "valid").symlink_to("../elsewhere")
    index = build_index(tmp_path / "photos", **SHARES)
    assert index.counts["validation"] == {"cat": 5, "dog": 5}
    assert index.splits["validation"].paths[0] == "valid/cat/0.jpg"
    assert index.counts["train"] == {"cat": 4, "dog": 4}
    assert not any(index.left_out.values())


@pytest.mark.parametrize("target", ["..", ".", "../.."])
def test_a_split_that_leads_back_is_refused(target, tmp_path):
    root = make(tmp_path / "a" / "photos", *below("train"))
    (root / "test").symlink_to(target if target != "." else root)
    with pytest.raises(DataError, match="a link that leads back to"):
        build_index(root, **SHARES)


def test_a_split_that_leads_nowhere_is_refused(tmp_path):
    root = make(tmp_path, *below("train"))
    (root / "test").symlink_to("../gone")
    with pytest.raises(DataError, match="test: a link to a folder that is not there"):
        build_index(root, **SHARES)


def test_links_in_a_linked_split_are_not_followed(tmp_path):
    make(tmp_path / "elsewhere", *CLASSES)
    (tmp_path / "elsewhere" / "cat" / "loop").symlink_to(tmp_path)
    (tmp_path / "elsewhere" / "more").symlink_to(tmp_path)
    root = make(tmp_path / "photos", *below("train"))
    (root / "test").symlink_to(tmp_path / "elsewhere")
    index = build_index(root, **SHARES)
    assert index.counts["test"] == {"cat": 5, "dog": 5}
    assert [sorted(paths) for paths in index.left_out.values() if paths] == [
        ["test/cat/loop", "test/more"]
    ]

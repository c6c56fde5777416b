import unicodedata
from collections import Counter

import pytest

from cvtrain.data.index import build_index
from cvtrain.data.labels import label_in_name, suggest_pattern
from cvtrain.data.layout import BESIDE_SPLITS
from cvtrain.errors import DataError
from cvtrain.sections.base import compile_pattern

SHARES = {"validation": 0.2, "test": 0.2, "seed": 0}


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def index_of(root, pattern, **options):
    return build_index(root, **SHARES | options, label_pattern=compile_pattern(pattern))


@pytest.mark.parametrize(
    ("pattern", "path", "name"),
    [
        (r"(cat|dog)\.", "cat.0.jpg", "cat"),
        (r"(cat|dog)\.", "train/dog.0.jpg", "dog"),
        (r"^(?:left|right)_(?P<patient>p\d+)", "left_p07.png", "p07"),
        (r"(cat)|dog", "dog.jpg", ""),
        (r"(cat)", "dog.jpg", ""),
        (r"_(.*)\.", "1_a\nb.jpg", ""),
        (r"(.*)_", unicodedata.normalize("NFD", "café_1.jpg"), "caf\xe9"),
    ],
)
def test_the_group_of_a_pattern_is_the_name(pattern, path, name):
    assert label_in_name(path, compile_pattern(pattern)) == name


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("*.jpg", "must be a regular expression"),
        ("(cat", "must be a regular expression"),
        ("cat", "it has 0"),
        ("(cat|(dog))", "it has 2"),
    ],
)
def test_impossible_patterns_are_told_by_example(pattern, what):
    with pytest.raises(ValueError, match=r"\(cat\|dog\)\\\. ") as caught:
        compile_pattern(pattern)
    assert what in str(caught.value)


def test_flat_files_get_their_labels_from_their_names(tmp_path):
    root = touch(tmp_path, *(f"{name}.{i}.jpg" for name in ("cat", "dog") for i in range(20)))
    index = index_of(root, r"^(\w+)\.")
    assert index.class_names == ("cat", "dog")
    assert index.counts == {
        "train": {"cat": 12, "dog": 12},
        "validation": {"cat": 4, "dog": 4},
        "test": {"cat": 4, "dog": 4},
    }
    for split in index.splits.values():
        for path, label in zip(split.paths, split.labels, strict=True):
            assert path.startswith(index.class_names[label])
    assert index.notes == ()


def test_split_folders_of_flat_files_are_splits(tmp_path):
    root = touch(
        tmp_path, *(f"{s}/{n}.{i}.jpg" for s in ("train", "val") for n in "ab" for i in "12")
    )
    touch(root, "extra/a.9.jpg")
    index = index_of(root, r"(\w)\.\d", test=0.0)
    assert index.counts == {"train": {"a": 2, "b": 2}, "validation": {"a": 2, "b": 2}}
    assert index.left_out == {BESIDE_SPLITS: ["extra"]}


def test_folders_in_any_depth_may_tell_the_label(tmp_path):
    root = touch(
        tmp_path, *(f"{day}/{n}/{i}.jpg" for day in ("mo", "tu") for n in "xy" for i in "12")
    )
    index = index_of(root, r"/(\w)/", validation=0.0, test=0.0)
    assert index.counts == {"train": {"x": 4, "y": 4}}


def test_what_does_not_match_is_left_out_by_name(tmp_path):
    root = touch(
        tmp_path, *(f"{n}.{i}.jpg" for n in "ab" for i in range(9)), "copy of a.jpg", "c.txt"
    )
    index = index_of(root, r"^([ab])\.")
    assert index.left_out == {
        "images that the label pattern does not match": ["copy of a.jpg"],
        ".txt files": ["c.txt"],
    }


def test_a_pattern_that_matches_nothing_is_told_with_one_that_does(tmp_path):
    root = touch(tmp_path, *(f"{n}.{i}.jpg" for n in ("cat", "dog") for i in range(3)))
    with pytest.raises(DataError, match="matches none of 6 images, such as cat") as caught:
        index_of(root, "(Cat|Dog)")
    suggestion = caught.value.advice.removeprefix("Did you mean ").removesuffix("?")
    assert index_of(root, suggestion).class_names == ("cat", "dog")
    touch(root, "1.jpg")
    with pytest.raises(DataError) as caught:
        index_of(root, "(Cat|Dog)")
    assert "searched in the path below the source" in caught.value.advice


def test_flat_files_without_a_pattern_are_told_of_patterns(tmp_path):
    root = touch(tmp_path, *(f"{n}.{i}.jpg" for n in ("cat", "dog") for i in range(3)))
    with pytest.raises(DataError, match="no class folders") as caught:
        build_index(root, **SHARES)
    assert "--set 'data.label_pattern=(" in caught.value.advice


def test_a_manifest_has_its_own_labels(tmp_path):
    touch(tmp_path, "a.jpg")
    (tmp_path / "m.csv").write_text("path,label\na.jpg,a\n")
    with pytest.raises(DataError, match="a manifest has its own labels"):
        index_of(tmp_path / "m.csv", "(a)")


def numbered(*names):
    return [name.format(i) for name in names for i in (1, 2)]


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        (["cat.0.jpg", "cat.1.jpg", "dog.0.jpg", "dog.1.jpg"], {"cat": 2, "dog": 2}),
        (["a/cat-0.jpg", "a/cat-1.jpg", "a/dog-0.jpg", "a/dog-1.jpg"], {"cat": 2, "dog": 2}),
        (["cat0.png", "cat1.png", "dog0.png", "dog1.png"], {"cat": 2, "dog": 2}),
        (["1_cat.png", "2_cat.png", "1_dog.png", "2_dog.png"], {"cat": 2, "dog": 2}),
        (numbered("photo_cat_{}.png", "photo_dog_{}.png"), {"cat": 2, "dog": 2}),
        (numbered("my_cat_{}.png", "my_dog_{}.png"), {"my_cat": 2, "my_dog": 2}),
        (
            numbered("english_setter_{}.jpg", "english_cocker_spaniel_{}.jpg", "Maine_Coon_{}.jpg"),
            {"english_setter": 2, "english_cocker_spaniel": 2, "Maine_Coon": 2},
        ),
        (numbered("great dane {}.jpg", "st-john's {}.jpg"), {"great dane": 2, "st-john's": 2}),
        (numbered("00{}_great_dane.jpg", "01{}_pug.jpg"), {"great_dane": 2, "pug": 2}),
        (numbered("cat ({}).jpg", "dog ({}).jpg"), {"cat": 2, "dog": 2}),
        (numbered("äpfel.{}.jpg", "birnen.{}.jpg"), {"äpfel": 2, "birnen": 2}),
        (numbered("äpfel{}.jpg", "öpfel{}.jpg"), {"äpfel": 2, "öpfel": 2}),
        (
            numbered(*(unicodedata.normalize("NFD", f"{n}_{{}}.jpg") for n in ("café", "ñu"))),
            {"café": 2, "ñu": 2},
        ),
        (numbered("बिल्ली_{}.jpg", "कुत्ता_{}.jpg"), {"बिल्ली": 2, "कुत्ता": 2}),
        (numbered("IMG_000{}_cat.jpg", "IMG_001{}_dog.jpg"), {"cat": 2, "dog": 2}),
        (numbered("IMG_000{}.jpg", "DSC_000{}.jpg"), None),
        (numbered("P103000{}.JPG", "PXL_2026010{}_120000.jpg", "GOPR000{}.JPG"), None),
        (numbered("Screenshot from 2026-01-0{}.png", "_DSC000{}.jpg", "scan{}.png"), None),
        (numbered("imago_{}.jpg", "scandal_{}.jpg"), {"imago": 2, "scandal": 2}),
        (numbered("p_{}.jpg", "n_{}.jpg"), {"p": 2, "n": 2}),
        ([*(f"{n}.{i}.jpg" for n in "ab" for i in range(9)), "c.jpg"], {"a": 9, "b": 9, "": 1}),
        (["a.jpg", "b.jpg", "c.jpg"], None),
        (["cat.0.jpg", "cat.1.jpg"], None),
        ([], None),
    ],
)
def test_patterns_of_common_names_are_suggested(paths, labels):
    suggestion = suggest_pattern(paths)
    if labels is None:
        assert suggestion == ""
    else:
        assert Counter(label_in_name(path, compile_pattern(suggestion)) for path in paths) == labels

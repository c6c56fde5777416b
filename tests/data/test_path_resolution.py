"""Files that a manifest spells differently, or that are in another folder."""

import unicodedata

import pytest

from cvtrain.data.path_resolution import (
    ANY_SUFFIX,
    Files,
    PathRule,
    find_path_rules,
    same_number,
    spelling_of,
)

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café/é.png") for form in ("NFC", "NFD"))


def files_in(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return Files(root)


@pytest.mark.parametrize(
    ("value", "path", "spelling"),
    [
        ("img\\cat\\0.jpg", "img/cat/0.jpg", "backslashes"),
        ("IMG/Cat/0.JPG", "img/cat/0.jpg", "upper or lower case"),
        ("img/0.jpg", "img/0.JPG", "upper or lower case"),
        ("a%20b/%C3%A4.jpg", "a b/ä.jpg", "percent-encoding"),
        ("a b.jpg", "a%20b.jpg", "percent-encoding"),
        (COMPOSED, DECOMPOSED, "another form of Unicode"),
        (DECOMPOSED, COMPOSED, "another form of Unicode"),
        ("'img/0.jpg'", "img/0.jpg", "quotes, spaces or case"),
        ("./img\\..\\img\\0.jpg", "img/../img/0.jpg", "backslashes"),
    ],
)
def test_a_name_that_differs_in_spelling_alone_stands_for_the_file(tmp_path, value, path, spelling):
    files = files_in(tmp_path, path)
    found = files.find(value, PathRule())
    assert (tmp_path / found).samefile(tmp_path / path)
    assert spelling_of(value, path) == spelling


def test_what_is_there_as_it_is_written_is_taken(tmp_path):
    files = files_in(tmp_path, "a.jpg", "A.jpg", "b\\c.jpg", "b/c.jpg", "%41.jpg")
    for value in ("a.jpg", "A.jpg", "b\\c.jpg", "b/c.jpg", "%41.jpg"):
        assert files.find(value, PathRule()) == value


@pytest.mark.parametrize("value", ["a.JPG", "b", "x\0y", "x" * 300, "", ".", "a.jpg/c", "../a.jpg"])
def test_what_fits_several_files_or_none_is_not_found(tmp_path, value):
    assert files_in(tmp_path, "r/a.jpg", "r/A.jpg", "r/b/c.jpg").find(value, PathRule("r")) == ""


@pytest.mark.parametrize(
    ("place", "value", "path"),
    [
        (PathRule(suffix=".jpg"), "a", "a.jpg"),
        (PathRule(suffix=".jpg"), "a.png", "a.jpg"),
        (PathRule(suffix=".jpg"), "v1.5", "v1.5.jpg"),
        (PathRule(suffix=".jpg"), "b.png", "b.png"),  # it is there
        (PathRule(suffix=ANY_SUFFIX), "b", "b.png"),
        (PathRule(suffix=ANY_SUFFIX), "both", ""),
        (PathRule("train"), "t.jpg", "train/t.jpg"),
        (PathRule(("train", "more")), "m.jpg", "more/m.jpg"),
        (PathRule(strip="/home/x/"), "/home/x/a.jpg", "a.jpg"),
        (PathRule(strip="/home/x"), "/home/x/a.jpg", "a.jpg"),
        (PathRule(strip="C:\\x\\"), "C:\\x\\train\\t.jpg", "train/t.jpg"),
        (PathRule(strip="C:/x/"), "C:\\x\\train\\t.jpg", "train/t.jpg"),
        (PathRule("train", "x/", ".jpg"), "x/t", "train/t.jpg"),
        (PathRule(strip="y/"), "a.jpg", "a.jpg"),
    ],
)
def test_a_place_says_how_a_path_becomes_a_file(tmp_path, place, value, path):
    files = files_in(
        tmp_path, "a.jpg", "v1.5.jpg", "b.png", "both.png", "both.jpg", "train/t.jpg", "more/m.jpg"
    )
    assert files.find(value, place) == path


def test_folders_beside_count_for_a_folder_of_lists(tmp_path):
    files_in(tmp_path, "other/0.jpg", "other/1.jpg", "lists/list.csv")
    assert find_path_rules(Files(tmp_path / "lists"), ["0.jpg", "1.jpg"]) == [PathRule("../other")]
    assert find_path_rules(files_in(tmp_path / "set", "img/2.jpg"), ["0.jpg", "1.jpg"]) == []
    assert find_path_rules(files_in(tmp_path / "set", "img/0.jpg"), ["0.jpg"]) == [PathRule("img")]


def test_where_nearly_all_are_is_enough_and_where_few_are_is_not(tmp_path):
    files = files_in(tmp_path, *(f"img/{i}.jpg" for i in range(9)))
    values = [f"{i}.jpg" for i in range(10)]
    assert find_path_rules(files, values) == [PathRule("img")]
    assert find_path_rules(files, [*values, *"abcdefghij"]) == []
    assert find_path_rules(files, []) == []


def test_many_folders_are_not_looked_through_for_ever(tmp_path):
    files = files_in(tmp_path, *(f"{i:04d}/deep/x.jpg" for i in range(400)))
    assert find_path_rules(files, ["y.jpg", "z.jpg"]) == []


@pytest.mark.parametrize(
    ("value", "found"),
    [
        *(("7", "img/0007.jpg"), ("7.0", "img/0007.jpg"), ("7.jpg", "img/0007.jpg")),
        *(("8", ""), ("8.0", "img/8.jpg"), ("a", ""), ("\u0667", "")),
    ],
)
def test_names_that_were_taken_for_numbers(tmp_path, value, found):
    assert same_number(files_in(tmp_path, "img/0007.jpg", "img/8.jpg"), value) == found

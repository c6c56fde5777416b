"""Which column is what: as a header says it, and as it seems."""

from pathlib import Path

import pytest

from cvtrain.config import config_for_source
from cvtrain.data.columns import Columns, propose_columns, usual_columns
from cvtrain.data.path_resolution import Files


@pytest.mark.parametrize(
    ("name", "header", "columns"),
    [
        ("l.csv", ["path", "label"], Columns()),
        ("l.csv", ["Split", " Label ", "PATH"], Columns()),
        ("l.csv", ["file_name", "label", "width"], Columns(path="file_name")),
        (
            "_classes.csv",
            ["filename", " cat", " dog"],
            Columns(path="filename", label=("cat", "dog")),
        ),
        ("l.csv", ["filename", "cat", "dog"], None),
        ("_classes.csv", ["filename", "class"], None),
        ("l.csv", ["path", "label", "spilt"], None),
        ("l.csv", ["path", "label", "label"], None),
        ("l.csv", [], None),
    ],
)
def test_headers_that_say_all(name, header, columns):
    assert usual_columns(Path(name), header) == columns


@pytest.mark.parametrize(
    "columns",
    [
        Columns("id", "breed", suffix=".jpg"),
        Columns("Image Index", "Finding Labels", folder="images_001/images"),
        Columns("image", ("MEL", "NV", "1", "no", "null")),
        Columns(1, 2),
        Columns(1, 3, 2, suffix=".*"),
        Columns("a: b", "it's #1", "{x}", ("../a b", "."), 'C:\\"x"\\', ".jpg"),
        Columns("1", "2.5", "1e3"),
        Columns(".5", ".inf", "~"),
        Columns("\x1b[31m", "caf\xe9 \u2028", "- x"),
        Columns("y", "n", folder="/data/x-1/", strip="~/photos/"),
        Columns(strip="https://example.org/x/"),
    ],
)
def test_a_config_reads_what_is_proposed(columns):
    text = columns.as_yaml()
    assert text.isprintable()
    section = config_for_source("digits", [f"data.columns={text}"]).data.columns
    assert Columns(**section.model_dump()) == columns


def propose(root, header, rows):
    proposal = propose_columns(Files(root), header, rows)
    return proposal.columns, proposal.is_certain


@pytest.fixture
def root(tmp_path):
    (tmp_path / "img").mkdir()
    for i in range(8):
        (tmp_path / f"img/{i}.png").touch()
    return tmp_path


def column(*values):
    return [values[i % len(values)] for i in range(8)]


FILES = [f"{i}.png" for i in range(8)]


@pytest.mark.parametrize(
    ("table", "label", "is_certain"),
    [
        ({"species": column("a", "b")}, "species", True),
        ({"anything": column("a", "b")}, "anything", True),
        ({"anything": column("a", "b"), "more": column("x", "y")}, "anything", False),
        ({"class": column("a", "b"), "more": column("x", "y")}, "class", True),
        ({"class": column("a", "b"), "label": column("x", "y")}, "label", False),
        ({"width": column("640", "480")}, "width", False),
        ({"has_cactus": column("0", "1")}, "has_cactus", False),
        ({"label": column("0", "1")}, "label", True),
        ({"a": column("1", "0"), "b": column("0", "1")}, ("a", "b"), True),
        ({"a": column("1.0", "0.0", "0.0"), "b": column("0.0", "1.0", "0.0")}, ("a", "b"), True),
        ({"a": column("1", "0"), "b": column("0", "1"), "c": column("x", "y")}, ("a", "b"), False),
        ({"a": column("1", "0"), "b": column("1", "1")}, None, False),
        ({"caption": [f"a cat {i}" for i in range(8)]}, None, False),
        ({}, None, False),
    ],
)
def test_the_labels_have_few_different_values(root, table, label, is_certain):
    header, rows = ["file", *table], list(zip(FILES, *table.values(), strict=True))
    columns, certain = propose(root, header, rows)
    assert columns == (None if label is None else Columns("file", label, folder="img"))
    assert certain == is_certain


def test_the_files_are_found_whatever_their_column_is_called(root):
    rows = list(zip(column("a", "b"), FILES, strict=True))
    assert propose(root, ["x", "y"], rows) == (Columns("y", "x", folder="img"), True)


def test_two_lines_of_one_image_are_doubtful(root):
    rows = list(zip(FILES * 2, column("a", "b") * 2, strict=True))
    proposal = propose_columns(Files(root), ["file", "class"], rows)
    assert not proposal.is_certain
    assert proposal.remarks == ("some images have several lines, but only one each is allowed",)


def test_files_beside_the_manifest_are_proposed_and_doubtful(root):
    (root / "lists").mkdir()
    rows = list(zip(FILES, column("a", "b"), strict=True))
    columns, certain = propose(root / "lists", ["file", "class"], rows)
    assert columns == Columns("file", "class", folder="../img")
    assert not certain

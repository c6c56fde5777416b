"""What is advised for a manifest is typed, and must read it: each image with its own class.

The truth is the list that the manifest was made from.
"""

import csv
import io
import shlex
from pathlib import Path

import pytest
from tiny_images import make_images

from cvtrain.config import config_for_source
from cvtrain.errors import DataError
from cvtrain.steps.dataset import find
from cvtrain.system.console import Console
from cvtrain.system.signals import Stop

CLASSES = {"cat": 4, "dog": 4}


def images_in(root: Path, folder: str) -> list[tuple[str, str]]:
    """(path, label) of new images in class folders below `root/folder`."""
    made = make_images(root / folder, CLASSES, size=(8, 8))
    return [(p.relative_to(root).as_posix(), p.parent.name) for p in sorted(made.rglob("*.png"))]


def named_images(root: Path, folder: str, *, prefix: str = "", suffix: str = ".png"):
    """(path, label) of images in one folder whose names do not tell the label."""
    rows = []
    for i, (path, label) in enumerate(images_in(root, f"new-{folder}-{prefix}")):
        name = f"{folder}/{prefix}{i * 7919:06x}{suffix}"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / path).rename(root / name)
        rows.append((name, label))
    return rows


def table(header, rows, separator=","):
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def without_suffix(path):
    return path.rpartition(".")[0]


def stem(path):
    return Path(path).stem


# Each makes images below `root`; returns their (path, label), the text of the manifest, and what
# must be said of it.


def no_suffix(root):
    truth = images_in(root, "img")
    rows = [(without_suffix(path), label) for path, label in truth]
    return truth, table(("path", "label"), rows), "the paths have no suffix, the files end in .png"


def no_suffix_and_backslashes(root):
    truth = images_in(root, "img")
    rows = [(without_suffix(path).replace("/", "\\"), label) for path, label in truth]
    return truth, table(("path", "label"), rows), "backslashes, as on Windows; the paths have no s"


def no_suffix_and_upper_case(root):
    truth = images_in(root, "img")
    rows = [(without_suffix(path).upper(), label) for path, label in truth]
    return truth, table(("path", "label"), rows), "the paths have no suffix, the files end in .png"


def another_suffix(root):
    truth = images_in(root, "img")
    rows = [(without_suffix(path) + ".jpg", label) for path, label in truth]
    return truth, table(("path", "label"), rows), "the paths end in .jpg, the files end in .png"


def several_suffixes(root):
    truth = named_images(root, "img", prefix="a")
    truth += named_images(root, "img", prefix="b", suffix=".jpg")
    rows = [(without_suffix(path), label) for path, label in truth]
    return truth, table(("path", "label"), rows), "the files end in several suffixes"


def drive_of_windows(root):
    truth = images_in(root, "img")
    rows = [("C:\\Users\\bob\\" + path.replace("/", "\\"), label) for path, label in truth]
    return truth, table(("path", "label"), rows), "the paths are absolute paths of Windows"


def home_folder(root):
    truth = images_in(root, "img")
    rows = [(f"~/photos/{path}", label) for path, label in truth]
    return truth, table(("path", "label"), rows), "only a shell expands ~"


def addresses(root):
    truth = images_in(root, "img")
    rows = [(f"https://example.org/set/{path}", label) for path, label in truth]
    return truth, table(("path", "label"), rows), "the paths are URLs, which are not downloaded"


def leading_slash(root):
    truth = images_in(root, "img")
    rows = [(f"/{path}", label) for path, label in truth]
    return truth, table(("path", "label"), rows), "the paths are absolute"


def another_computer(root):
    truth = images_in(root, "img")
    rows = [(f"/home/alice/my data/{path}", label) for path, label in truth]
    return truth, table(("path", "label"), rows), "the paths are absolute"


def a_folder_too_many(root):
    truth = images_in(root, "img")
    rows = [(f"data/photos/{path}", label) for path, label in truth]
    return truth, table(("path", "label"), rows), "there is no data/photos/ that the paths begin"


def a_folder_is_missing(root):
    truth = images_in(root, "img")
    rows = [(path.removeprefix("img/"), label) for path, label in truth]
    return truth, table(("path", "label"), rows), "the files lie in img"


def swapped_columns(root):
    truth = images_in(root, "img")
    rows = [(label, path) for path, label in truth]
    return truth, table(("path", "label"), rows), "the files are in the column label"


def dog_breeds(root):
    truth = named_images(root, "train")
    rows = [(stem(path), label) for path, label in truth]
    return truth, table(("id", "breed"), rows), "received: id,breed"


def chest_xray(root):
    truth = named_images(root, "images_001/images", prefix="a")
    truth += named_images(root, "images_002/images", prefix="b")
    rows = [(Path(path).name, label, "PA") for path, label in truth]
    header = ("Image Index", "Finding Labels", "View Position")
    return truth, table(header, rows), "received: Image Index,Finding Labels,View Position"


def skin_lesions(root):
    truth = named_images(root, "ISIC_Input")
    rows = [(stem(p), float(c == "cat"), float(c == "dog"), 0.0) for p, c in truth]
    return truth, table(("image", "cat", "dog", "UNK"), rows), "received: image,cat,dog,UNK"


def ham10000(root):
    truth = named_images(root, "part_1", prefix="a") + named_images(root, "part_2", prefix="b")
    rows = [(f"HAM_{i}", stem(p), c, 50.0 + i) for i, (p, c) in enumerate(truth)]
    return truth, table(("lesion_id", "image_id", "dx", "age"), rows), "received: lesion_id,"


def semicolons_of_other_columns(root):
    truth = images_in(root, "img")
    return truth, table(("Datei", "Klasse"), truth, ";"), "received: Datei,Klasse"


def no_header(root):
    truth = images_in(root, "img")
    return truth, table(*truth[:1], truth[1:]), "there is no header: the first line names an image"


def no_header_and_no_suffix(root):
    truth = named_images(root, "train")
    rows = [(stem(path), label) for path, label in truth]
    return truth, table(*rows[:1], rows[1:]), "there is no header: the first line names an image"


def index_of_pandas(root):
    truth = images_in(root, "img")
    rows = [(i, *row) for i, row in enumerate(truth)]
    return truth, table(("", "path", "label"), rows), "the first column has no name: pandas"


def misspelt_split(root):
    truth = images_in(root, "img")
    rows = [(*row, ("train", "test")[i % 2]) for i, row in enumerate(truth)]
    return truth, table(("path", "label", "spilt"), rows), "received: path,label,spilt"


def names_that_a_shell_or_yaml_would_read(root):
    truth = images_in(root, "it's $HOME")
    rows = [(path.removeprefix("it's $HOME/"), label) for path, label in truth]
    return truth, table(("the file: #1", "it's {a} class"), rows), "received: the file: #1,"


def numbers_as_names(root):
    truth = images_in(root, "img")
    return truth, table(("0", "1"), truth), "received: 0,1"


MAKES = [
    *(no_suffix, no_suffix_and_backslashes, no_suffix_and_upper_case, another_suffix),
    *(several_suffixes, drive_of_windows, home_folder, addresses, leading_slash),
    *(another_computer, a_folder_too_many, a_folder_is_missing, swapped_columns, dog_breeds),
    *(chest_xray, skin_lesions, ham10000, semicolons_of_other_columns, no_header),
    *(no_header_and_no_suffix, index_of_pandas, misspelt_split, numbers_as_names),
    names_that_a_shell_or_yaml_would_read,
]


def found(source, *overrides):
    """(path, label) of each image that a command would find."""
    split = "data.split={validation: 0, test: 0}"
    index = find(config_for_source(str(source), [split, *overrides]), Stop(), Console(quiet=True))
    return sorted(
        (path, label)
        for classes in index.by_class().values()
        for label, paths in classes.items()
        for path in paths
    )


@pytest.mark.parametrize("make", MAKES, ids=lambda make: make.__name__)
def test_what_is_advised_reads_the_manifest(make, tmp_path):
    truth, text, what = make(tmp_path / "photos")
    manifest = tmp_path / "photos" / "list.csv"
    manifest.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        found(manifest)
    assert what in caught.value.message
    assert len(caught.value.message.splitlines()) == 1
    words = shlex.split(caught.value.advice.removeprefix("To read it: "))
    assert words[0] == "--set"
    assert found(manifest, words[1]) == sorted(truth)
    option = words[words.index("--columns") + 1].removesuffix(")")
    columns = config_for_source("digits", columns=option).data.columns
    assert columns == config_for_source("digits", [words[1]]).data.columns


def test_the_folder_that_was_looked_in_is_named_with_the_first_path(tmp_path):
    images_in(tmp_path, "img")
    manifest = tmp_path / "list.csv"
    manifest.write_text("path,label\nx/1.png,cat\nx/2.png,dog\n")
    with pytest.raises(DataError) as caught:
        found(manifest)
    assert f"none of the 2 files is there, such as x/1.png in {tmp_path}: " in caught.value.message
    assert "data.columns={folder: FOLDER, strip: x/}" in caught.value.advice


def test_zeros_that_a_spreadsheet_took_away_are_told(tmp_path):
    make_images(tmp_path / "train", {"": 12}, size=(8, 8))
    rows = [(str(i), "ab"[i % 2]) for i in range(12)]
    for header in (("path", "label"), ("id", "label")):
        (tmp_path / "list.csv").write_text(table(header, rows))
        with pytest.raises(
            DataError, match=r"0 has been taken for a number, .* train/000\.png"
        ) as caught:
            found(tmp_path / "list.csv")
        assert "dtype=str" in caught.value.advice


def test_the_same_names_in_two_folders_are_told(tmp_path):
    truth = named_images(tmp_path, "large")
    named_images(tmp_path, "small")
    rows = [(stem(path), label) for path, label in truth]
    (tmp_path / "list.csv").write_text(table(("id", "label"), rows))
    with pytest.raises(DataError, match="files of the same names are also in small"):
        found(tmp_path / "list.csv")

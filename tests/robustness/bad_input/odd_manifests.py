"""Manifests as spreadsheets and scripts write them, with the folder of their images."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from odd_folders import GOOD, images, refused, taken


def manifest(root: Path, content: str | bytes) -> Path:
    path = root / "list.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows_of(root: Path) -> Iterator[tuple[str, str]]:
    """Path and label of each image in class folders."""
    for path in sorted(root.rglob("*.png")):
        yield path.relative_to(root).as_posix(), path.parent.name


def listed_in(
    root: Path, *, header: tuple[str, str] | None = ("path", "label"), separator=",", before=""
) -> Path:
    lines = [separator.join(row) for row in ([header] if header else []) + [*rows_of(root)]]
    return manifest(root, before + "\n".join(lines))


@taken(num_images=12)
def manifest_with_semicolons(root):
    return listed_in(images(root), separator=";")


@taken(num_images=12)
def manifest_with_tabs(root):
    return listed_in(images(root), separator="\t")


@taken(num_images=12)
def manifest_with_the_separator_of_excel(root):
    return listed_in(images(root), before="\ufeffsep=;\r\n", separator=";")


@refused("received: path label; the columns are separated by spaces", "separated by commas")
def manifest_with_spaces(root):
    return listed_in(images(root), separator=" ")


@refused("received: filename,class", "'data.columns={path: filename, label: class}'")
def manifest_of_other_columns(root):
    return listed_in(images(root), header=("filename", "class"))


@refused("there is no header: the first line names an image", "{path: 1, label: 2}")
def manifest_without_a_header(root):
    return listed_in(images(root), header=None)


@refused("the first column has no name: pandas", "{path: path, label: label}")
def manifest_with_the_index_of_pandas(root):
    root = images(root)
    lines = [f"{i},{path},{label}" for i, (path, label) in enumerate(rows_of(root))]
    return manifest(root, "\n".join([",path,label", *lines]))


@refused("some lines have several ones: several labels are not supported", "Add a column of labels")
def manifest_of_several_labels(root):
    root = images(root)
    lines = [f"{path},1,{int(label == 'cat')}" for path, label in rows_of(root)]
    return manifest(root, "\n".join(["image,animal,cat", *lines]))


@refused("are several labels, which is not supported", "Correct or remove")
def manifest_of_joined_labels(root):
    root = images(root)
    rows = [*rows_of(root)]
    lines = [f"{path},{'cat|dog' if i == 3 else label}" for i, (path, label) in enumerate(rows)]
    return manifest(root, "\n".join(["path,label", *lines]))


@refused("none of the 12 files is there, such as cat/000 in ", "{suffix: .png}")
def manifest_without_suffixes(root):
    root = images(root)
    lines = [f"{path.removesuffix('.png')},{label}" for path, label in rows_of(root)]
    return manifest(root, "\n".join(["path,label", *lines]))


@refused("no files with these names are in this folder or near it", "{folder: FOLDER}")
def manifest_of_nothing_there(root):
    return manifest(images(root), "path,label\na.png,cat\nb.png,dog\n")


@taken(num_images=12, notes=("12 paths are spelled differently from their files (backslashes)",))
def manifest_of_windows(root):
    root = images(root)
    lines = [f"{path},{label}".replace("/", "\\") for path, label in rows_of(root)]
    return manifest(root, "\n".join(["path,label", *lines]))


@taken(num_images=12, notes=("labels are read from metadata.jsonl, not from folders",))
def folder_of_hugging_face(root):
    images(root)
    lines = [json.dumps({"file_name": path, "label": label}) for path, label in rows_of(root)]
    (root / "metadata.jsonl").write_text("\n".join(lines))


@taken(num_images=12, notes=("labels are read from test/_classes.csv, train/_classes.csv",))
def folder_of_roboflow(root):
    for split in ("train", "test"):
        images(root / split, {"": 6})
        lines = [f"{i:03d}.png, {int(i % 2 == 0)}, {int(i % 2 == 1)}" for i in range(6)]
        (root / split / "_classes.csv").write_text("\n".join(["filename, cat, dog", *lines]))


@refused("received: nothing", "Name the columns")
def manifest_of_nothing(root):
    images(root)
    return manifest(root, "")


@refused("no images", "")
def manifest_of_a_header(root):
    images(root)
    return manifest(root, "path,label\n")


@refused("list.csv:3: there is no file cat/nope.png", "Correct or remove these lines")
def manifest_of_missing_files(root):
    images(root)
    return manifest(root, "path,label\ncat/000.png,cat\ncat/nope.png,cat\ndog/,dog\n")


@refused("list.csv:2: the label is empty", "Correct or remove these lines")
def manifest_without_labels(root):
    images(root)
    return manifest(root, "path,label\ncat/000.png,\n")


@refused("list.csv:2: split must be train, validation or test", "Correct or remove")
def manifest_of_odd_splits(root):
    images(root)
    return manifest(root, "path,label,split\ncat/000.png,cat,holdout\n")


@refused("list.csv:3: cat/000.png is already in line 2", "Correct or remove")
def manifest_with_a_line_twice(root):
    images(root)
    return manifest(root, "path,label\ncat/000.png,cat\ncat/000.png,dog\n")


@refused("list.csv:1: not UTF-8", "Save the manifest as CSV in UTF-8")
def manifest_in_utf16(root):
    images(root)
    return manifest(root, "path,label\ncat/000.png,cat\n".encode("utf-16"))


@refused("list.csv:2: there is no file pipe.png", "Correct or remove")
def manifest_of_a_pipe(root):
    images(root)
    os.mkfifo(root / "pipe.png")
    return manifest(root, "path,label\npipe.png,cat\n")


@refused("list.csv:2: 3 values for 2 columns", "Correct or remove")
def manifest_with_a_comma_too_many(root):
    images(root)
    return manifest(root, "path,label\ncat/000.png,cat,furry\n")


@taken(num_images=6)
def manifest_of_excel(root):
    images(root)
    lines = ["\ufeffPath,Label,Split"] + [
        f"{name}/00{i}.png, {name} ,{split}"
        for name in GOOD
        for i, split in enumerate(("train", "VAL", "Testing"))
    ]
    return manifest(root, "\r\n".join(lines))


@taken(num_images=12)
def manifest_from_elsewhere(root):
    images(root.parent / "elsewhere")
    root.mkdir()
    paths = sorted((root.parent / "elsewhere").rglob("*.png"))
    lines = [
        f"{path if i % 2 else f'../elsewhere/{path.parent.name}/{path.name}'},{path.parent.name}"
        for i, path in enumerate(paths)
    ]
    return manifest(root, "path,label\n" + "\n".join(lines))

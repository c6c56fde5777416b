"""Manifests as spreadsheets and scripts write them, with the folder of their images."""

import os
from pathlib import Path

from odd_folders import GOOD, images, refused, taken


def manifest(root: Path, content: str | bytes) -> Path:
    path = root / "list.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@refused("list.csv:1: the header must be path,label", "separated by commas")
def manifest_with_semicolons(root):
    images(root)
    return manifest(root, "path;label\ncat/000.png;cat\n")


@refused("list.csv:1: the header must be path,label", "separated by commas")
def manifest_with_tabs(root):
    images(root)
    return manifest(root, "path\tlabel\ncat/000.png\tcat\n")


@refused("received: filename,class", "Name the columns")
def manifest_of_other_columns(root):
    images(root)
    return manifest(root, "filename,class\ncat/000.png,cat\n")


@refused("received: nothing", "Name the columns")
def manifest_of_nothing(root):
    images(root)
    return manifest(root, "")


@refused("no images", "")
def manifest_of_a_header(root):
    images(root)
    return manifest(root, "path,label\n")


@refused("list.csv:3: there is no file cat/nope.png", "Mend or remove these lines")
def manifest_of_missing_files(root):
    images(root)
    return manifest(root, "path,label\ncat/000.png,cat\ncat/nope.png,cat\ndog/,dog\n")


@refused("list.csv:2: the label is empty", "Mend or remove these lines")
def manifest_without_labels(root):
    images(root)
    return manifest(root, "path,label\ncat/000.png,\n")


@refused("list.csv:2: split must be train, validation or test", "Mend or remove")
def manifest_of_odd_splits(root):
    images(root)
    return manifest(root, "path,label,split\ncat/000.png,cat,holdout\n")


@refused("list.csv:3: cat/000.png is already in line 2", "Mend or remove")
def manifest_with_a_line_twice(root):
    images(root)
    return manifest(root, "path,label\ncat/000.png,cat\ncat/000.png,dog\n")


@refused("list.csv:1: not UTF-8", "Save the manifest as CSV in UTF-8")
def manifest_in_utf16(root):
    images(root)
    return manifest(root, "path,label\ncat/000.png,cat\n".encode("utf-16"))


@refused("list.csv:2: there is no file pipe.png", "Mend or remove")
def manifest_of_a_pipe(root):
    images(root)
    os.mkfifo(root / "pipe.png")
    return manifest(root, "path,label\npipe.png,cat\n")


@refused("list.csv:2: 3 values for 2 columns", "Mend or remove")
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

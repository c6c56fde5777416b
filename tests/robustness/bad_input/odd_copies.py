"""Sets in which one image is there several times: the functions make them at `root`.

Those that return a path name that as the source, the others `root`.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from odd_folders import Make
from tiny_images import make_images

DEALT: dict[Make, str] = {}
"""Which splits can be drawn among different images that can be used."""
REFUSED: dict[Make, str] = {}
"""What is said where none can."""


def auto_splits(counts: str) -> Callable[[Make], Make]:
    return lambda make: DEALT.setdefault(make, counts) and make


def refused(what: str) -> Callable[[Make], Make]:
    return lambda make: REFUSED.setdefault(make, what) and make


def images(root: Path, counts: dict[str, int], *, times: int = 1) -> Path:
    """Images of `counts`, each of them `times` times: 000.png, 000 (1).png, ..."""
    make_images(root, counts, size=(16, 16))
    for path in [path for folder in counts for path in sorted((root / folder).iterdir())]:
        for i in range(1, times):
            shutil.copy(path, path.with_name(f"{path.stem} ({i}).png"))
    return root


def spoil(folder: Path, number: int) -> None:
    for path in sorted(folder.iterdir())[:number]:
        path.write_bytes(b"")


# Shares are 15 % and 15 % of the different images of each class, rounded, and at least one.


@auto_splits("2 classes, 16 train, 4 validation, 4 test images")
def all_of_six_twice(root):
    images(root, {"cat": 6, "dog": 6}, times=2)


@auto_splits("2 classes, 112 train, 24 validation, 24 test images")
def all_of_forty_twice(root):
    images(root, {"cat": 40, "dog": 40}, times=2)


@auto_splits("2 classes, 48 train, 12 validation, 12 test images")
def all_three_times(root):
    images(root, {"cat": 12, "dog": 12}, times=3)


@auto_splits("2 classes, 18 train, 6 validation, 6 test images")
def one_class_twice(root):
    images(root, {"cat": 10}, times=2)
    make_images(root, {"dog": 10}, size=(16, 16))


@auto_splits("2 classes, 16 train, 4 validation, 4 test images")
def a_manifest_of_copies(root):
    images(root, {"cat": 6, "dog": 6}, times=2)
    rows = [f"{path.relative_to(root)},{path.parent.name}" for path in sorted(root.rglob("*.png"))]
    (root / "list.csv").write_text("\n".join(["path,label", *rows]))
    return root / "list.csv"


@auto_splits("2 classes, 16 train, 4 validation, 4 test images")
def damaged_files_and_copies(root):
    images(root, {"cat": 9, "dog": 9}, times=2)  # 7, 1 and 1 of nine, 1, 1 and 1 of three
    spoil(root / "dog", 12)


@auto_splits("2 classes, 12 train, 3 validation, 3 test images")
def half_of_a_class_in_another(root):
    images(root, {"cat": 12, "dog": 12})
    for path in sorted((root / "cat").iterdir())[:6]:
        shutil.copy(path, root / "dog" / f"also {path.name}")


@auto_splits("2 classes, 16 train, 4 validation, 8 test images")
def training_images_in_the_test(root):
    images(root, {"train/cat": 12, "train/dog": 12, "test/cat": 2, "test/dog": 2})
    for path in [
        p for name in ("cat", "dog") for p in sorted((root / "train" / name).iterdir())[:2]
    ]:
        shutil.copy(path, root / "test" / path.parent.name / f"also {path.name}")


@auto_splits("2 classes, 24 train, 24 validation, 24 test images")
def copies_in_splits_of_the_source(root):
    splits = ("train", "validation", "test")
    images(root, {f"{split}/{name}": 6 for split in splits for name in ("cat", "dog")}, times=2)


@refused("cat (2 in 4 files: 2 copies), dog (2 in 4 files: 2 copies)")
def all_of_two_twice(root):
    images(root, {"cat": 2, "dog": 2}, times=2)


@refused("in class dog (1 in 12 files: 11 copies)")
def a_class_of_one_image(root):
    images(root, {"cat": 12})
    images(root, {"dog": 1}, times=12)


@refused("in class dog (2 in 18 files: 14 damaged or unreadable, 2 copies)")
def too_many_damaged_files_beside_copies(root):
    images(root, {"cat": 9, "dog": 9}, times=2)
    spoil(root / "dog", 14)


@refused("in class wolf (0 in 6 files: 6 in two classes)")
def all_of_a_class_in_another(root):
    images(root, {"cat": 12, "dog": 12})
    (root / "wolf").mkdir()
    for path in sorted((root / "dog").iterdir())[:6]:
        shutil.copy(path, root / "wolf" / path.name)


@refused("cat (0 in 8 files: 8 in a later split too), dog (0 in 8 files: 8 in a later split too)")
def a_test_that_is_the_training_set(root):
    shutil.copytree(images(root / "train", {"cat": 8, "dog": 8}), root / "test")


@refused("classes cat and dog hold the same images")
def a_class_that_copies_another(root):
    shutil.copytree(images(root, {"cat": 10}) / "cat", root / "dog")


@refused("classes cat and dog hold the same images")
def two_of_four_classes_the_same(root):
    images(root, {"cat": 10, "bird": 10, "fish": 10})
    shutil.copytree(root / "cat", root / "dog")


@refused("classes cat and dog hold the same images")
def the_same_classes_in_splits_of_the_source(root):
    images(root, {f"{split}/cat": 4 for split in ("train", "validation", "test")})
    for split in root.iterdir():
        shutil.copytree(split / "cat", split / "dog")


@refused("classes cat and dog hold the same images")
def one_image_and_no_other(root):
    images(root, {"cat": 1}, times=8)
    shutil.copytree(root / "cat", root / "dog")

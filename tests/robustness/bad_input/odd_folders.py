"""Folders as they lie about: the functions make them at `root`, which is not there.

Those that return a path name that as the source, the others `root`.
"""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tiny_images import make_images

from cvtrain.data.layout import BESIDE_SPLITS
from cvtrain.data.scan import LINKS

GOOD = {"cat": 6, "dog": 6}
SPLIT = {f"{split}/{name}": 3 for split in ("train", "validation", "test") for name in GOOD}

Make = Callable[[Path], Path | None]


class Refused(NamedTuple):
    """What is said of a folder that cannot be trained on, and the advice."""

    what: str
    advice: str


class Taken(NamedTuple):
    """What is understood of a folder that can.

    Attributes:
        classes: their names, in the order of the labels.
        num_images: of all splits.
        left_out: how much of it, by reason.
        notes: words of what a person is told, one for each note.
        doubtful: words of what the check doubts, by path.
    """

    classes: tuple[str, ...] = ("cat", "dog")
    num_images: int = 12
    left_out: dict[str, int] = {}  # noqa: RUF012 - never changed
    notes: tuple[str, ...] = ()
    doubtful: dict[str, str] = {}  # noqa: RUF012


REFUSED: dict[Make, Refused] = {}
TAKEN: dict[Make, Taken] = {}


def refused(what: str, advice: str) -> Callable[[Make], Make]:
    return lambda make: REFUSED.setdefault(make, Refused(what, advice)) and make


def taken(**expected) -> Callable[[Make], Make]:
    return lambda make: TAKEN.setdefault(make, Taken(**expected)) and make


def images(root: Path, counts: dict[str, int] = GOOD) -> Path:
    return make_images(root, counts, seed=len(str(root)))


def any_image(root: Path) -> Path:
    return min(root.rglob("*.png"))


# What is not there, or not of images


@refused("photos-of-pet: no such folder or file", "Did you mean")
def missing(root):
    images(root.parent / "photos-of-pets")
    return root.parent / "photos-of-pet"


@refused("no such folder or file", "")
def name_too_long(root):
    return root / ("x" * 300)


@refused("no images", "one folder of images per class")
def nothing(root):
    root.mkdir()


@refused("neither a folder nor a .csv manifest", "Name a folder")
def a_text(root):
    root.write_text("hello")


@refused("photos.zip: a ZIP archive", "python -m zipfile -e")
def an_archive(root):
    root.mkdir()
    (root / "photos.zip").write_bytes(b"PK\x03\x04")
    return root / "photos.zip"


@refused("x_train", "")
def no_arrays(root):
    root.mkdir()
    np.savez(root / "set.npz", images=np.zeros(3))
    return root / "set.npz"


@refused(
    "no images in class cat (left out: hidden files: 1 (cat/._1.jpg); hidden", "Fill or remove"
)
def only_system_files(root):
    for name in ("cat/._1.jpg", "cat/Thumbs.db", "__MACOSX/cat/1.jpg", ".git/x.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


@refused(
    "no images in class cat (left out: broken links: 1 (cat/gone.jpg); links", "Fill or remove"
)
def pipes_and_loops(root):
    (root / "cat").mkdir(parents=True)
    os.mkfifo(root / "cat" / "pipe.jpg")
    (root / "cat" / "loop").symlink_to(root)
    (root / "cat" / "gone.jpg").symlink_to(root / "nowhere.jpg")


# Classes


@refused("12 images but no class folders", "data.label_pattern")
def flat(root):
    images(root)
    for path in root.glob("*/*.png"):
        path.rename(root / f"{path.parent.name}{path.name}")
    for folder in GOOD:
        (root / folder).rmdir()


@refused("only one class, cat", "at least two folders")
def one_class(root):
    images(root, {"cat": 6})


@refused("only one class, pets", "If the folders in it are the classes, name")
def folder_in_a_folder(root):
    images(root, {"pets/cat": 6, "pets/dog": 6})


@refused("no images in class emu", "Fill or remove")
def empty_class(root):
    images(root)
    (root / "emu").mkdir()


@refused("too few images", "")
def too_few(root):
    images(root, {"cat": 6, "dog": 2})


@refused("are one name in two Unicode forms", "into one folder")
def two_unicode_forms(root):
    images(root, {"cat": 6, "caf\u00e9": 6, "cafe\u0301": 6})


@refused("the name holds the invisible character U+001B", "Rename the folder")
def escape_in_a_class(root):
    images(root, {"cat": 6, "\x1b[31mdog": 6})


@refused("the name holds the invisible character U+000A", "Rename the folder")
def newline_in_a_class(root):
    images(root, {"cat": 6, "dog\nfood": 6})


@refused("the name holds the invisible character U+200B", "Rename the folder")
def nothing_to_see_in_a_class(root):
    images(root, {"cat": 6, "cat\u200b": 6})


@refused("the name holds bytes that are not UTF-8", "Rename the folder")
def class_not_utf8(root):
    images(root)
    os.rename(os.fsencode(root / "cat"), os.fsencode(root) + b"/caf\xe9")  # noqa: PTH104


# Splits


@refused("none for training", "Add a folder train/")
def no_train(root):
    images(root, {name: n for name, n in SPLIT.items() if not name.startswith("train")})


@refused("none for training", "Add a folder train/")
def train_is_a_file(root):
    no_train(root)
    (root / "train").write_text("see the other disk")


@refused("a folder of folders whose name is not that of a split", "Did you mean train/?")
def misspelt_split(root):
    images(root, {"trian/cat": 3, "trian/dog": 3, "test/cat": 3, "test/dog": 3})


@refused("val/, valid/ mean the same split", "into one")
def split_twice(root):
    images(root, {"train/cat": 3, "train/dog": 3, "val/cat": 3, "val/dog": 3, "valid/cat": 3})


@refused("Train/, TRAINING/ mean the same split", "into one")
def train_in_two_spellings(root):
    images(root, {f"{split}/{name}": 3 for split in ("Train", "TRAINING", "test") for name in GOOD})


@refused("test has class dgo, which training does not know", "Did you mean dog?")
def unknown_class_in_test(root):
    images(root, {"train/cat": 6, "train/dog": 6, "test/cat": 3, "test/dgo": 3})


@refused("test has class Cat, which training does not know", "must match exactly")
def class_in_another_case(root):
    images(root, {"train/cat": 6, "train/dog": 6, "test/Cat": 3, "test/dog": 3})


@refused("train/cat/copy.png: the same image as test/cat/001.png", "on_leak=allow")
def leak(root):
    images(root, SPLIT)
    shutil.copy(root / "test" / "cat" / "001.png", root / "train" / "cat" / "copy.png")


@refused("train/cat/copy.bmp: the same image as test/cat/001.png", "on_leak=allow")
def leak_in_another_format(root):
    images(root, SPLIT)
    with Image.open(root / "test" / "cat" / "001.png") as image:
        image.save(root / "train" / "cat" / "copy.bmp")


@refused("train/dog/copy.png, which is of another class", "on_bad=skip")
def two_labels(root):
    images(root, SPLIT)
    shutil.copy(root / "train" / "cat" / "001.png", root / "train" / "dog" / "copy.png")


# Files


@refused("caf\\udce9.png: the name is not UTF-8", "on_bad=skip")
def file_not_utf8(root):
    images(root)
    shutil.copy(any_image(root), os.fsencode(root / "dog") + b"/caf\xe9.png")


@refused("dog/memory.png: cannot be read: input/output error", "on_bad=skip")
def unreadable_for_all(root):
    images(root)
    (root / "dog" / "memory.png").symlink_to("/proc/self/mem")


@refused("cannot be used: 10,000", "without them there are too few")
def ten_thousand_empty_files(root):
    for name in GOOD:
        (root / name).mkdir(parents=True)
        for i in range(5000):
            (root / name / f"{i}.jpg").touch()


# What can be trained on


@taken()
def plain(root):
    images(root)


@taken(classes=("1", "9", "10"), num_images=9)
def numbers(root):
    images(root, {"10": 3, "9": 3, "1": 3})


@taken(
    num_images=18,
    left_out={
        "hidden files": 2,
        "hidden folders": 1,
        "system files": 2,
        "system folders": 1,
        ".txt files": 1,
    },
)
def of_a_mac(root):
    images(root, SPLIT)
    for name in (
        "train/cat/._000.png",
        "train/.Spotlight/x.png",
        ".DS_Store",
        "__MACOSX/cat/x.png",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    for name in ("test/Thumbs.db", "test/cat/desktop.ini", "read me.txt"):
        (root / name).write_bytes(b"x")


@taken(
    num_images=14,
    left_out={"broken links": 2, LINKS: 2, "special files": 3},
)
def links_pipes_and_sockets(root):
    images(root)
    elsewhere = images(root.parent / "elsewhere", {"x": 2})
    for i, path in enumerate(sorted(elsewhere.rglob("*.png"))):
        (root / "cat" / f"linked{i}.png").symlink_to(path)
    (root / "cat" / "loop").symlink_to(root)
    (root / "dog" / "more").symlink_to(elsewhere)
    (root / "cat" / "gone.png").symlink_to("nowhere.png")
    (root / "cat" / "itself.png").symlink_to("itself.png")
    os.mkfifo(root / "cat" / "pipe.png")
    (root / "cat" / "zero.png").symlink_to("/dev/zero")
    here = Path.cwd()
    os.chdir(root / "dog")  # the path of a socket may have a hundred characters
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.png")
    os.chdir(here)


@taken(left_out={"images beside the class folders": 2})
def images_beside_the_classes(root):
    images(root)
    for i, path in enumerate(sorted((root / "cat").iterdir())[:2]):
        shutil.copy(path, root / f"{i}.png")


@taken(classes=("Cat", "cat", "dog"), num_images=18, notes=("'Cat' and 'cat' are different",))
def two_cases(root):
    images(root, {"Cat": 6, "cat": 6, "dog": 6})


@taken(num_images=15)
def class_folders_in_class_folders(root):
    images(root, {"cat/2025/may": 6, "cat/2026": 3, "dog/x": 6})


@taken(num_images=18, left_out={BESIDE_SPLITS: 1})
def splits_in_capitals(root):
    images(
        root,
        {f"{split}/{name}": 3 for split in ("Train", "VAL", "tEsT") for name in GOOD}
        | {"more/x": 2},
    )


@taken(classes=('it\'s "it"', "T-shirt (été)", "مرحبا", "🐈 cat"), num_images=12)
def names_of_all_kinds(root):
    images(root, {"🐈 cat": 3, 'it\'s "it"': 3, "مرحبا": 3, "T-shirt (été)": 3})


@taken(num_images=18)
def odd_file_names(root):
    images(root)
    names = ("new\nline", "\x1b[31mred", "a b", "'\"$(x)`", "%s{{7*7}}", "=1+1")
    for name, path in zip(names, sorted((root / "cat").iterdir()), strict=True):
        path.rename(path.with_name(f"{name}.png"))
    images(root.parent / "more", {"dog": 6})
    for path in sorted((root.parent / "more" / "dog").iterdir()):
        path.rename(root / "dog" / f"-{path.name.upper()}")


@taken(num_images=18)
def as_long_as_can_be(root):
    images(root)
    deep = root / "cat"
    while len(str(deep)) < 3_700:
        deep = deep / ("x" * 200)
    images(deep, {"y" * 100: 6})


@taken(doubtful={"cat/copy.png": "the same image as cat/000.png"}, num_images=13)
def the_same_twice(root):
    images(root)
    shutil.copy(root / "cat" / "000.png", root / "cat" / "copy.png")


@taken(
    doubtful={"cat/000.jpg": "PNG by its content"},
    num_images=12,
    left_out={"files without a suffix that are no images": 1, ".part files": 1},
)
def other_suffixes(root):
    images(root)
    (root / "cat" / "000.png").rename(root / "cat" / "000.jpg")
    (root / "cat" / "001.png").rename(root / "cat" / "001.PNG")
    (root / "dog" / "no-suffix").write_bytes(b"x")
    (root / "dog" / "half.png.part").write_bytes(b"x")

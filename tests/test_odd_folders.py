"""Odd folders, as a person meets them: one message each, before the engine is loaded."""

import json
import os
import shutil
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image
from tiny_images import make_images

GOOD = {"cat": 6, "dog": 6}


def images(root, counts=None):
    return make_images(root, counts or GOOD, seed=len(str(root)))


def first(root, suffix=".png"):
    return next(path for path in sorted(root.rglob("*")) if path.suffix == suffix)


def png_header(width, height):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def nothing(root):
    root.mkdir()


def missing(root):
    images(root.parent / "photos-of-pets")
    return root.parent / "photos-of-pet"


def flat(root):
    images(root)
    for path in root.glob("*/*.png"):
        path.rename(root / f"{path.parent.name}{path.name}")
    for folder in GOOD:
        (root / folder).rmdir()


def one_class(root):
    images(root, {"cat": 6})


def empty_class(root):
    images(root)
    (root / "emu").mkdir()


def only_system_files(root):
    for name in ("cat/._1.jpg", "cat/Thumbs.db", "__MACOSX/cat/1.jpg", ".git/x.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def no_train(root):
    images(root, {"test/cat": 3, "test/dog": 3, "validation/cat": 3, "validation/dog": 3})


def misspelt_split(root):
    images(root, {"trian/cat": 3, "trian/dog": 3, "test/cat": 3, "test/dog": 3})


def split_twice(root):
    images(root, {"train/cat": 3, "train/dog": 3, "val/cat": 3, "val/dog": 3, "valid/cat": 3})


def unknown_class_in_test(root):
    images(root, {"train/cat": 6, "train/dog": 6, "test/cat": 3, "test/dgo": 3})


def too_few(root):
    images(root, {"cat": 6, "dog": 2})


def two_unicode_forms(root):
    images(root, {"cat": 6, "caf\u00e9": 6, "cafe\u0301": 6})


def truncated(root):
    images(root)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(root / "cat" / "cut.jpg")
    content = (root / "cat" / "cut.jpg").read_bytes()
    (root / "cat" / "cut.jpg").write_bytes(content[: len(content) // 2])


def zero_bytes(root):
    images(root)
    (root / "dog" / "empty.jpg").write_bytes(b"")


def web_page(root):
    images(root)
    (root / "dog" / "page.jpg").write_bytes(b"<!doctype html><html>404</html>")


def tiff(root):
    images(root)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(root / "dog" / "scan.tif")
    (root / "dog" / "scan.tif").rename(root / "dog" / "scan.jpg")


def heic(root):
    images(root)
    (root / "dog" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))


def enormous(root):
    images(root)
    (root / "dog" / "bomb.png").write_bytes(png_header(60_000, 60_000))


def not_utf8(root):
    images(root)
    shutil.copy(first(root), os.fsencode(root / "dog") + b"/caf\xe9.png")


def leak(root):
    images(root, {f"{s}/{n}": 3 for s in ("train", "validation", "test") for n in GOOD})
    shutil.copy(root / "test" / "cat" / "001.png", root / "train" / "cat" / "copy.png")


def leak_in_other_format(root):
    images(root, {f"{s}/{n}": 3 for s in ("train", "validation", "test") for n in GOOD})
    with Image.open(root / "test" / "cat" / "001.png") as image:
        image.save(root / "train" / "cat" / "copy.bmp")


def two_labels(root):
    images(root, {f"{s}/{n}": 3 for s in ("train", "validation", "test") for n in GOOD})
    shutil.copy(root / "train" / "cat" / "001.png", root / "train" / "dog" / "copy.png")


def a_text(root):
    root.write_text("hello")


def odd_header(root):
    root.mkdir()
    (root / "list.csv").write_text("file;class\na.jpg;cat\n")
    return root / "list.csv"


def manifest_without_files(root):
    images(root)
    (root / "list.csv").write_text("path,label\ncat/000.png,cat\ncat/nope.png,cat\ndog/,dog\n")
    return root / "list.csv"


def manifest_without_labels(root):
    images(root)
    (root / "list.csv").write_text("path,label\ncat/000.png,\n")
    return root / "list.csv"


def manifest_of_odd_splits(root):
    images(root)
    (root / "list.csv").write_text("path,label,split\ncat/000.png,cat,holdout\n")
    return root / "list.csv"


def no_arrays(root):
    root.mkdir()
    np.savez(root / "set.npz", images=np.zeros(3))
    return root / "set.npz"


def an_archive(root):
    root.mkdir()
    (root / "photos.zip").write_bytes(b"PK\x03\x04")
    return root / "photos.zip"


def pipes_and_loops(root):
    (root / "cat").mkdir(parents=True)
    os.mkfifo(root / "cat" / "pipe.jpg")
    (root / "cat" / "loop").symlink_to(root)
    (root / "cat" / "gone.jpg").symlink_to(root / "nowhere.jpg")


FOLDERS = {
    nothing: "no images",
    missing: "Did you mean",
    flat: "no class folders",
    one_class: "only one class, cat",
    empty_class: "no images in class emu",
    only_system_files: "no images",
    no_train: "none for training",
    misspelt_split: "Did you mean train/?",
    split_twice: "mean the same split",
    unknown_class_in_test: "dgo, which training does not know",
    too_few: "too few images",
    two_unicode_forms: "two Unicode forms",
    truncated: "cat/cut.jpg: damaged JPEG file",
    zero_bytes: "dog/empty.jpg: empty file",
    web_page: "dog/page.jpg: no image but HTML",
    tiff: "dog/scan.jpg: TIFF file",
    heic: "dog/IMG_1.HEIC: HEIC file",
    enormous: "dog/bomb.png",
    not_utf8: "caf\\udce9.png: the name is not UTF-8",
    leak: "train/cat/copy.png: the same image as test/cat/001.png",
    leak_in_other_format: "train/cat/copy.bmp: the same image as test/cat/001.png",
    two_labels: "another class",
    a_text: "neither a folder nor a .csv manifest",
    odd_header: "list.csv:1: the header must be path,label",
    manifest_without_files: "list.csv:3: there is no file cat/nope.png",
    manifest_without_labels: "list.csv:2: the label is empty",
    manifest_of_odd_splits: "list.csv:2: split must be train, validation or test",
    no_arrays: "x_train",
    an_archive: "unpack archives first",
    pipes_and_loops: "no images",
}

RUN_ALL = """
import contextlib, io, json, sys
from cvtrain import __main__
told = {}
for name, source in json.load(sys.stdin).items():
    sys.argv = ["cvtrain", "fit", "--set", f"data.source={json.dumps(source)}"]
    with contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            __main__.main()
        except SystemExit as exit:
            told[name] = [exit.code, err.getvalue()]
print(json.dumps([told, sorted({"tensorflow", "keras"} & set(sys.modules))]))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What `cvtrain fit` says about each folder, and which engines are loaded in the end."""
    base = tmp_path_factory.mktemp("odd")
    sources = {}
    for make in FOLDERS:
        (base / make.__name__).mkdir()
        root = base / make.__name__ / "photos"
        sources[make.__name__] = str(make(root) or root)
    here = base / "here"
    here.mkdir()
    (here / "config.yaml").write_text("data: {source: nowhere, image_size: 64}\n")
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input=json.dumps(sources),
        capture_output=True,
        text=True,
        cwd=here,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in here.iterdir()] == ["config.yaml"]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("make", FOLDERS, ids=lambda make: make.__name__)
def test_an_odd_folder_is_told(told, make):
    code, message = told[0][make.__name__]
    assert code == 3, message
    assert FOLDERS[make] in message
    assert "Traceback" not in message


def test_the_engine_was_never_loaded(told):
    assert told[1] == []

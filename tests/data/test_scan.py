import os

import pytest
from PIL import Image

from cvtrain.data import scan
from cvtrain.data.scan import Found, find_images, images_below, list_folder, natural_key
from cvtrain.errors import DataError


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_natural_key_sorts_as_people_do():
    names = ["10", "9", "1", "img12.png", "img2.png", "b", "A", "a", "007", "7"]
    assert sorted(names, key=natural_key) == [
        *["1", "007", "7", "9", "10"],
        *["A", "a", "b", "img2.png", "img12.png"],
    ]
    assert natural_key("9" * 10_000) < natural_key("1" + "0" * 10_000)


def test_images_below_leaves_out_and_counts_what_is_no_image(tmp_path):
    touch(tmp_path, "b/1.JPG", "b/10.png", "b/9.webp", "b/deep/er/x.bmp", "phone.HEIC", "scan.tif")
    touch(tmp_path, "._x.jpg", ".hidden/x.jpg", "__MACOSX/x.jpg", "Thumbs.db", "b/desktop.ini")
    touch(tmp_path, "readme.txt", "b/notes.TXT", "LICENSE", "b/x.jpg.part")
    left_out = {}
    assert list(images_below(tmp_path, "", left_out)) == [
        *["phone.HEIC", "scan.tif"],
        *["b/1.JPG", "b/9.webp", "b/10.png", "b/deep/er/x.bmp"],
    ]
    assert left_out == {
        "hidden files": ["._x.jpg"],
        "hidden folders": [".hidden"],
        "system folders": ["__MACOSX"],
        "system files": ["Thumbs.db", "b/desktop.ini"],
        ".txt files": ["readme.txt", "b/notes.TXT"],
        ".part files": ["b/x.jpg.part"],
        "files without a suffix that are no images": ["LICENSE"],
    }


def test_only_regular_files_and_links_to_them_count(tmp_path):
    touch(tmp_path, "real.png")
    (tmp_path / "linked.png").symlink_to("real.png")
    (tmp_path / "broken.png").symlink_to("missing.png")
    (tmp_path / "self.png").symlink_to("self.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    left_out = {}
    assert list(images_below(tmp_path, "", left_out)) == ["linked.png", "real.png"]
    assert left_out == {
        "broken links": ["broken.png", "self.png"],
        scan.LINKS: ["loop"],
        "special files": ["pipe.png"],
    }


def test_the_order_of_listing_does_not_matter(tmp_path, monkeypatch):
    touch(tmp_path, *(f"{folder}/{i}.png" for folder in "ab" for i in range(12)))
    forwards = list(images_below(tmp_path, "", {}))
    real_scandir = os.scandir

    class Backwards:
        def __init__(self, path):
            with real_scandir(path) as entries:
                self.entries = list(entries)[::-1]

        def __enter__(self):
            return self.entries

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(scan.os, "scandir", Backwards)
    assert list(images_below(tmp_path, "", {})) == forwards


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(scan.os, "scandir", refuse)
    with pytest.raises(DataError, match="cannot be read: permission denied"):
        list_folder(tmp_path, "", {})
    assert "permission denied" in next(find_images([str(tmp_path)], {})).problem


def test_find_images_takes_files_folders_and_globs(tmp_path, monkeypatch):
    touch(tmp_path, "a/2.png", "a/10.png", "a/deep/x.jpg", "a/notes.txt", "b[1].png", "c.dat")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)

    def paths(*asked):
        return [found.path for found in find_images(asked, {})]

    assert paths("a") == ["a/2.png", "a/10.png", "a/deep/x.jpg"]
    assert paths("a/*.png") == ["a/2.png", "a/10.png"]
    assert paths("a/**/*.jpg") == ["a/deep/x.jpg"]
    assert paths("a/**") == ["a/2.png", "a/10.png", "a/deep/x.jpg", "a/notes.txt"]
    assert paths("b[1].png", "c.dat") == ["b[1].png", "c.dat"]
    assert paths(str(tmp_path / "a" / "2.png")) == [str(tmp_path / "a" / "2.png")]


def test_find_images_reports_and_goes_on(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.png", "texts/x.txt")
    monkeypatch.chdir(tmp_path)
    assert list(find_images(["missing.png", "*.gif", "texts", "a"], {})) == [
        Found("missing.png", "no such file or folder"),
        Found("*.gif", "matches no file"),
        Found("texts", "holds no images (left out: .txt files: 1 (x.txt))"),
        Found("a/1.png"),
    ]


def test_find_images_streams(tmp_path):
    touch(tmp_path, "a/1.png")
    found = find_images([str(tmp_path), "asked for only when the first is done"], {})
    assert next(found).problem == ""
    assert "no such file" in next(found).problem


@pytest.mark.parametrize("name", ["x", "x.jpg?w=200", "x.jpg_large", "x.1", "x.part", "x.bin"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000", "AVIF"])
def test_the_first_bytes_tell_an_image_whatever_it_is_called(kind, name, tmp_path):
    Image.new("RGB", (20, 20), (9, 99, 199)).save(tmp_path / name, format=kind)
    left_out = {}
    assert list(images_below(tmp_path, "", left_out)) == [name]
    assert left_out == {}


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"BM", b"BMW owners' club\n", b"P1 is a patient\n", b"GIF", b"RIFF....WAVE"),
        *(b"%PDF-1.7\n", b"<svg xmlns='x'/>", b"8BPS\0\1", b"\0\0\1\0\1\0", b"PK\3\4", b"\x7fELF"),
    ],
)
def test_texts_documents_and_programs_are_left_out(content, tmp_path):
    (tmp_path / "x").write_bytes(content)
    (tmp_path / "x.dat").write_bytes(content)
    left_out = {}
    assert list(images_below(tmp_path, "", left_out)) == []
    assert left_out == {
        "files without a suffix that are no images": ["x"],
        ".dat files": ["x.dat"],
    }


def test_raw_files_of_cameras_are_left_out_though_they_begin_as_tiff(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "IMG_1.CR2", format="TIFF")
    left_out = {}
    assert list(images_below(tmp_path, "", left_out)) == []
    assert left_out == {".cr2 files": ["IMG_1.CR2"]}


def test_what_is_left_out_is_described_in_one_line():
    left_out = {".txt files": ["a.txt"], "broken links": [f"{i}.png" for i in range(5)], "none": []}
    assert scan.describe_left_out(left_out) == (
        ".txt files: 1 (a.txt); broken links: 5 (0.png, 1.png, 2.png and 2 more)"
    )
    assert not scan.is_ordinary(left_out)
    assert scan.is_ordinary({"hidden files": [".x"], "system folders": ["__MACOSX"], "none": []})

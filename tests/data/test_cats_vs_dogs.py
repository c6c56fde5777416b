import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from cvtrain.data import cats_vs_dogs as pets
from cvtrain.data.cats_vs_dogs import write_cats_vs_dogs
from cvtrain.errors import DataError


def jpeg(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


def photos(cats, dogs):
    names = {f"PetImages/Cat/{i}.jpg": jpeg(i) for i in cats}
    return names | {f"PetImages/Dog/{i}.jpg": jpeg(1000 + i) for i in dogs}


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def files_below(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def quiet(_done, _total):
    pass


def test_photographs_keep_their_bytes_and_broken_ones_are_named(tmp_path):
    files = photos([0, 2, 10], [0, 1])
    files |= {
        "PetImages/Cat/1.jpg": b"",
        "PetImages/Dog/3.jpg": jpeg(5)[:-40],
        "PetImages/Cat/Thumbs.db": b"x",
        "readme[1].txt": b"x",
    }
    archive = write_zip(tmp_path / "pets.zip", files)
    told = []
    left_out = write_cats_vs_dogs(tmp_path / "out", archive, None, lambda *done: told.append(done))
    assert files_below(tmp_path / "out") == [
        *["cat/0.jpg", "cat/10.jpg", "cat/2.jpg", "dog/0.jpg", "dog/1.jpg"]
    ]
    assert (tmp_path / "out" / "cat" / "10.jpg").read_bytes() == files["PetImages/Cat/10.jpg"]
    assert left_out[0] == "PetImages/Cat/1.jpg: empty file"
    assert left_out[1].startswith("PetImages/Dog/3.jpg: damaged JPEG file")
    assert len(left_out) == 2
    assert told[-1] == (5, 7)


def test_a_subset_goes_by_number_and_leaves_no_gap_for_broken_ones(tmp_path):
    files = photos(range(12), range(20, 8, -1)) | {"PetImages/Cat/2.jpg": b"\0" * 9}
    archive = write_zip(tmp_path / "pets.zip", files)
    counts = {"train": 4, "validation": 2, "test": 3}
    left_out = write_cats_vs_dogs(tmp_path / "out", archive, counts, quiet)
    found = files_below(tmp_path / "out")
    for split, cats in {"train": [0, 1, 3, 4], "validation": [5, 6], "test": [7, 8, 9]}.items():
        assert [name for name in found if name.startswith(f"{split}/cat")] == [
            f"{split}/cat/{i}.jpg" for i in cats
        ]
    dogs = [int(name.split("/")[2][:-4]) for name in found if "/dog/" in name]
    assert sorted(dogs) == list(range(9, 18))
    assert left_out == ["PetImages/Cat/2.jpg: 9 zero bytes"]


def test_too_few_photographs_for_a_subset(tmp_path):
    archive = write_zip(tmp_path / "pets.zip", photos(range(9), range(7)))
    with pytest.raises(DataError, match="fewer than 8 usable photographs of dog"):
        write_cats_vs_dogs(tmp_path / "out", archive, {"train": 4, "test": 4}, quiet)
    write_cats_vs_dogs(tmp_path / "exactly", archive, {"train": 4, "test": 3}, quiet)
    assert len(files_below(tmp_path / "exactly")) == 14


def test_a_hostile_archive_writes_nothing_elsewhere(tmp_path, monkeypatch):
    hostile = photos(range(2), range(2))
    for name in (
        "../PetImages/Cat/7.jpg",
        "/PetImages/Cat/7.jpg",
        "PetImages/Cat/../../../7.jpg",
        "PetImages/Cat/7.jpg/../../8.jpg",
        "PetImages\\Cat\\7.jpg",
        "PetImages/Cat/7.jpg\n",
        "PetImages/Cat/\u0667.jpg",
        "PetImages/Cat/7777777.jpg",
    ):
        hostile[name] = jpeg(7)
    archive = write_zip(tmp_path / "pets.zip", hostile)
    write_cats_vs_dogs(tmp_path / "out", archive, None, quiet)
    assert files_below(tmp_path) == [
        *["out/cat/0.jpg", "out/cat/1.jpg", "out/dog/0.jpg", "out/dog/1.jpg", "pets.zip"]
    ]
    monkeypatch.setattr(pets, "_MAX_PHOTO", 10)
    left_out = write_cats_vs_dogs(tmp_path / "bombs", archive, None, quiet)
    assert len(left_out) == 4
    assert "bytes" in left_out[0]


@pytest.mark.parametrize("damage", ["no archive", "cut", "bit"])
def test_a_damaged_archive_is_told(tmp_path, damage):
    archive = write_zip(tmp_path / "pets.zip", photos(range(3), range(3)))
    content = bytearray(archive.read_bytes())
    if damage == "bit":
        content[200] ^= 255
    archive.write_bytes(
        b"<html>" if damage == "no archive" else content[: {"cut": 900}.get(damage)]
    )
    with pytest.raises(DataError, match=r"pets\.zip: "):
        write_cats_vs_dogs(tmp_path / "out", archive, None, quiet)


def test_another_archive_is_refused(tmp_path):
    archive = write_zip(tmp_path / "other.zip", {"train/cat.0.jpg": jpeg(0)})
    with pytest.raises(DataError, match="does not contain PetImages/Cat"):
        write_cats_vs_dogs(tmp_path / "out", archive, None, quiet)

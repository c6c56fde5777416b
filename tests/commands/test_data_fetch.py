import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from cvtrain.commands.data_check import data_check
from cvtrain.commands.data_fetch import data_fetch
from cvtrain.config import config_for_source
from cvtrain.data.sources import NAMED_SETS
from cvtrain.errors import ResourceError
from cvtrain.system.console import Console


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fetch(name, folder=None, *, subset=None, local=None):
    data_fetch(name, folder, subset=subset, local=local, console=Console())


def test_digits_become_a_folder_that_a_config_may_name(here, capsys):
    fetch("digits")
    assert (here / "data" / "digits" / "train" / "7").is_dir()
    assert "data/digits: the data set is complete" in capsys.readouterr().out
    fetch("digits")
    assert "the data set is already there" in capsys.readouterr().out
    data_check(config_for_source("digits"), console=Console())
    assert "1,797 files checked" in capsys.readouterr().out


def test_another_folder_and_what_is_in_the_way(here):
    fetch("digits", here / "sets" / "d")
    assert (here / "sets" / "d" / "test").is_dir()
    with pytest.raises(ResourceError, match="is not empty"):
        fetch("mnist", here / "sets" / "d")


def test_the_books_subset_from_a_local_archive(here, monkeypatch, capsys):
    pets = NAMED_SETS["cats_vs_dogs"]
    assert pets.subsets["book2"] == {"train": 1000, "validation": 500, "test": 1000}
    monkeypatch.setitem(pets.subsets, "book2", {"train": 3, "validation": 1, "test": 2})
    generator = np.random.default_rng(0)
    with zipfile.ZipFile(here / "pets.zip", "w") as archive:
        for name in ("Cat", "Dog"):
            for i in range(8):
                content = io.BytesIO()
                pixels = generator.integers(0, 256, (9, 9, 3), np.uint8)
                Image.fromarray(pixels).save(content, "JPEG")
                archive.writestr(f"PetImages/{name}/{i}.jpg", content.getvalue() if i else b"")
    fetch("cats_vs_dogs", subset="book2", local=here / "pets.zip")
    out, err = capsys.readouterr()
    assert "left out: PetImages/Cat/0.jpg: empty file" in err
    assert "pets.zip: not the published file: its digest is sha256:" in err
    assert "data/cats_vs_dogs-book2: the data set is complete" in out
    data_check(config_for_source("data/cats_vs_dogs-book2"), console=Console())
    assert "2 classes, 6 train, 2 validation, 4 test images" in capsys.readouterr().out

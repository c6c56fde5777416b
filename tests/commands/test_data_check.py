"""`data check` names every bad file and says so by its exit."""

import shutil

import pytest
from tiny_images import make_images

from cvtrain.commands.data_check import data_check
from cvtrain.config import config_for_source
from cvtrain.errors import DataError
from cvtrain.system.console import Console


def test_a_clean_folder_is_said_to_be_clean(image_folder, capsys):
    data_check(config_for_source(str(image_folder)), console=Console())
    assert "0 bad" in capsys.readouterr().out


def test_bad_and_doubtful_files_are_listed_with_advice(image_folder, tmp_path, capsys):
    source = shutil.copytree(image_folder, tmp_path / "messy")
    (source / "train" / "red" / "empty.jpg").write_bytes(b"")
    (source / "train" / "red" / "page.jpg").write_bytes(b"<!DOCTYPE html><html></html>")
    shutil.copy(source / "train" / "red" / "000.png", source / "train" / "red" / "png.jpg")
    with pytest.raises(DataError, match="cannot be used: 2"):
        data_check(config_for_source(str(source)), console=Console())
    lines = capsys.readouterr().out.splitlines()
    (empty,) = [line for line in lines if "empty.jpg" in line]
    assert "\tbad\t" in empty
    (page,) = [line for line in lines if "page.jpg" in line]
    assert "HTML" in page
    assert any("png.jpg" in line and "\tdoubtful\t" in line for line in lines)


def test_files_are_named_where_there_are_too_few_to_be_split(tmp_path, capsys):
    make_images(tmp_path, {"red": 8, "green": 8, "rare": 1})
    config = config_for_source(str(tmp_path))
    with pytest.raises(DataError, match=r"too few images to share .* in class rare"):
        data_check(config, console=Console())
    assert "17 files checked" in capsys.readouterr().out
    (tmp_path / "red" / "000.png").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be used: 1"):
        data_check(config, console=Console())
    shown = capsys.readouterr()
    assert "red/000.png" in shown.out
    assert "too few images to share" in shown.err
    with pytest.raises(DataError, match="no such folder"):
        data_check(config_for_source(str(tmp_path / "none")), console=Console())

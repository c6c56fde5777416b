"""`data check` names every bad file and says so by its exit."""

import shutil

import pytest

from cvtrain.config import config_for_source
from cvtrain.console import Console
from cvtrain.errors import DataError
from cvtrain.pipelines.data_check import data_check


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

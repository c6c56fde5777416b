"""A folder of other formats becomes one that trains, by the very command that errors name."""

import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_images import make_images

from cvtrain.commands import data_convert as module
from cvtrain.commands.data_convert import data_convert
from cvtrain.errors import ConfigError, DataError, ResourceError, Stopped
from cvtrain.system.console import Console

QUIET = Console(quiet=True)


@pytest.fixture
def scans(tmp_path):
    """my scans/a/0.tif and so on, ten a class, each with its PNG in images/."""
    make_images(tmp_path / "images", {"a": 10, "b": 10})
    for path in sorted((tmp_path / "images").glob("*/*.png")):
        target = tmp_path / "my scans" / path.parent.name / f"{path.stem}.tif"
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.save(target)
    return tmp_path / "my scans"


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*.*"))


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def run(here, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "cvtrain", *arguments],
        cwd=here,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    "command",
    [
        ["init", "my scans", "--no-estimate"],
        ["data", "check", "my scans"],
        ["fit", "config.yaml"],
        ["fit", "config.yaml", "--set", "data.on_bad=skip"],
    ],
    ids=" ".join,
)
def test_the_advice_for_a_set_that_is_all_tiff_works_as_it_is_printed(scans, command):
    here = scans.parent
    (here / "config.yaml").write_text("data: {source: my scans, image_size: 96}\n")
    if command[0] == "init":
        (here / "config.yaml").unlink()
    told = run(here, *command)
    assert told.returncode == 3
    assert "TIFF file, which cvtrain does not read" in told.stderr + told.stdout
    (advice,) = [line for line in told.stderr.splitlines() if "Convert the folder: " in line]
    assert "intact" not in told.stderr
    name, *arguments = shlex.split(advice.partition(": ")[2])
    assert name == "cvtrain"
    assert run(here, *arguments).returncode == 0
    converted = here / "my scans-png"
    assert files_in(converted) == [f"{name}.png" for name in files_in(scans)]
    for path in files_in(scans):
        np.testing.assert_array_equal(
            pixels(converted / f"{path}.png"), pixels(here / "images" / f"{path[:-4]}.png")
        )
    if command[0] == "init":
        assert run(here, "init", "my scans-png", "--no-estimate").returncode == 0


def test_what_is_read_is_copied_and_what_is_damaged_is_named(scans, capsys):
    shutil.copy(scans.parent / "images/a/000.png", scans / "a/copy.png")
    (scans / "b/broken.jpg").write_bytes(b"\xff\xd8\xff")
    (scans / "b/notes.txt").write_text("who knows\n")
    (scans / "b/.hidden.tif").write_bytes(b"II*\0")
    pages = [Image.new("RGB", (9, 9), (i, 0, 0)) for i in range(3)]
    pages[0].save(scans / "b/pages.tif", save_all=True, append_images=pages[1:])
    before = files_in(scans)
    data_convert(str(scans), None, console=QUIET)
    converted = scans.parent / "my scans-png"
    assert (converted / "a/copy.png").read_bytes() == (scans / "a/copy.png").read_bytes()
    out, err = capsys.readouterr()
    assert "21 images converted to PNG, 1 copied" in out
    assert "left out: b/broken.jpg: damaged JPEG" in err
    assert "left out: b/notes.txt: no image but text" in err
    assert "only the first picture of these files was converted: b/pages.tif" in err
    assert ".hidden" not in err
    assert len(files_in(converted)) == 22
    assert files_in(scans) == before


def test_no_two_files_become_one(tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    Image.new("L", (9, 9), 1).save(folder / "a.tif")
    Image.new("L", (9, 9), 2).save(folder / "a.tif.png")
    Image.new("L", (9, 9), 3).save(folder / "a.tiff")
    data_convert(str(folder), None, console=QUIET)
    found = {
        path: int(pixels(tmp_path / "x-png" / path)[0, 0]) for path in files_in(tmp_path / "x-png")
    }
    assert found == {"a.tif.png": 2, "a.tif.png.png": 1, "a.tiff.png": 3}


def test_it_says_what_it_cannot_do(scans, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="nowhere: is not a folder"):
        data_convert("nowhere", None, console=QUIET)
    for output in (scans, scans / "inside", scans.parent):
        with pytest.raises(ConfigError, match="must be outside the folder of images"):
            data_convert(str(scans), output, console=QUIET)
    with pytest.raises(ResourceError, match="holds something else"):
        data_convert(str(scans), tmp_path / "images", console=QUIET)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("x")
    with pytest.raises(DataError, match=r"of 1 files none can be read; a\.txt: no image"):
        data_convert(str(tmp_path / "texts"), None, console=QUIET)
    assert not (tmp_path / "texts-png").exists()
    (tmp_path / "texts/a.txt").unlink()
    with pytest.raises(DataError, match="contains no files"):
        data_convert(str(tmp_path / "texts"), None, console=QUIET)
    monkeypatch.chdir(scans)
    data_convert(".", None, console=QUIET)
    assert (tmp_path / "my scans-png").is_dir()
    data_convert("../my scans", None, console=QUIET)  # again, in place of the first


def test_what_needs_an_extra_is_told_once_for_the_set(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    folder = tmp_path / "my phone"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(DataError, match=r"of 3 files none can be read; 0\.heic: HEIC") as caught:
        data_convert(str(folder), None, console=QUIET)
    command = caught.value.advice.removeprefix("Convert the folder: ")
    assert command == f"pip install 'cvtrain[heif]' && cvtrain data convert '{folder}'"


def test_a_stop_leaves_nothing(scans, monkeypatch):
    def stopped(*_, **__):
        raise Stopped("stopped", "")

    monkeypatch.setattr(module, "_convert", stopped)
    with pytest.raises(Stopped):
        data_convert(str(scans), None, console=QUIET)
    assert not (scans.parent / "my scans-png").exists()

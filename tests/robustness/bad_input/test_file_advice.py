"""Every advice about a file is followed to the letter, and what it was given for is gone.

Commands are run as they are printed. What only a person can do (fetch an intact copy, export a file
with the program that wrote it) is done by the test. An advice without a row here is a failure.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from command_line import run_all
from PIL import Image
from test_image_files import ROWS
from tiny_images import make_images

DAMAGED = {"tiff-begun.jpg", "avif-of-mif1.jpg", "jpeg2000-begun.jpg"}
OF_EXTRAS = {"dicom": "pydicom", "heif": "pillow_heif"}  # their rows are beginnings of files


def test_every_row_says_which_advice_it_is_given():
    assert all(row.advice for row in ROWS if row.bad)


def intact(path):
    generator = np.random.default_rng(zlib.crc32(path.name.encode()))
    image = generator.integers(0, 256, (32, 32, 3), np.uint8)
    path.unlink()
    Image.fromarray(image).save(path.with_name(f"{path.name}.png"))


def convert(path, command):
    """Run the command as it is printed, once for the whole folder, and take the file's PNG."""
    steps = [shlex.split(step) for step in command.split(" && ")]
    if len(steps) == 2:
        (*pip, requirement), _ = steps
        assert pip == ["pip", "install"]
        extra = re.fullmatch(r"cvtrain\[(\w+)\]", requirement)[1]
        assert extra in OF_EXTRAS
        path.unlink()
        return
    name, *arguments = steps[-1]
    assert name == "cvtrain"
    source = Path(arguments[-1])
    converted = source.with_name(f"{source.name}-png")
    if not converted.exists():
        subprocess.run([sys.executable, "-m", "cvtrain", *arguments], check=True, timeout=300)
    result = converted / path.relative_to(source).with_name(f"{path.name}.png")
    assert result.exists() == (path.name not in DAMAGED), path
    path.unlink()
    if result.exists():
        shutil.move(result, path.parent)


def rename(path, suffix):
    path.rename(path.with_suffix(suffix))


def resave(path, change=lambda image: image):
    with Image.open(path) as image:
        change(image).save(path.with_name(f"{path.name}.png"))
    path.unlink()


FOLLOW = {
    r"Replace it by an intact copy\.": intact,
    r"Remove it, or replace it\.": intact,
    r"Remove it if it shows nothing\.": Path.unlink,
    r"Remove one: the image counts double\.": Path.unlink,
    r"Convert the folder: (.+)": convert,
    r"Export it as JPEG or PNG with a program that opens it\.": intact,
    r"Store it in a smaller size\.": intact,
    r"Let its name end in (\.\w+)\.": rename,
    r"Replace it by a larger one, or remove it\.": intact,
    r"Look at it; where its colours matter, store it as RGB\.": lambda path: resave(
        path, lambda image: image.convert("RGB")
    ),
    r"Look at it; where another frame matters, store that one alone\.": resave,
    r"Look at it; where its lower part is grey, replace it by an intact copy\.": intact,
    r"Choose another background: (--set .+)": None,
    r"Fetch it with: (git lfs pull)": None,
}


def follow(path, advice):
    for pattern, do in FOLLOW.items():
        if match := re.fullmatch(pattern, advice):
            if do is not None and path.exists():
                do(path, *match.groups())
            return
    raise AssertionError(f"nobody follows this advice: {advice}")


def findings(out):
    table = [line.split("\t") for line in out.splitlines() if line.startswith("odd/")]
    return {(path, severity, what): advice for path, severity, what, advice in table}


def test_who_follows_the_advice_is_rid_of_what_it_was_given_for(tmp_path):
    root = make_images(tmp_path / "photos", {"plain": 9})
    (root / "odd").mkdir()
    for row in ROWS:
        (root / "odd" / row.name).write_bytes(row.content)
    check = ["data", "check", str(root), "--set", "data.image_size=64"]
    before = findings(run_all({"check": check}, tmp_path)[0]["check"].out)
    assert len(before) > 80
    settings = set()
    for (path, *_), advice in before.items():
        follow(root / path, advice)
        settings |= set(re.findall(r"--set .+", advice))
    (setting,) = settings
    check += shlex.split(setting)
    after = findings(run_all({"check": check}, tmp_path)[0]["check"].out)
    assert {path for path, severity, _ in after if severity == "bad"} == {"odd/pointer.png"}
    assert {path for path, *_ in set(before) & set(after)} == {"odd/pointer.png"}


@pytest.mark.skipif(not shutil.which("git-lfs"), reason="needs git-lfs")
def test_git_lfs_pull_fetches_what_a_pointer_stands_for(tmp_path):
    def git(where, *arguments):
        subprocess.run(
            ["git", "-c", "user.name=x", "-c", "user.email=x@x", *arguments],
            cwd=where,
            env=os.environ | {"GIT_LFS_SKIP_SMUDGE": "1"},
            check=True,
            capture_output=True,
        )

    origin, clone = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    git(origin, "init")
    git(origin, "lfs", "install", "--local")
    git(origin, "lfs", "track", "*.png")
    Image.new("RGB", (9, 9), "red").save(origin / "a.png")
    git(origin, "add", ".")
    git(origin, "commit", "-m", "x")
    git(tmp_path, "clone", f"file://{origin}", "clone")
    assert (clone / "a.png").read_bytes().startswith(b"version https://git-lfs")
    git(clone, "lfs", "pull")
    assert (clone / "a.png").read_bytes() == (origin / "a.png").read_bytes()

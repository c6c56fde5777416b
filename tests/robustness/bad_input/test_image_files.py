"""Image files of every kind, odd and damaged: each is named for what it is, or decoded rightly."""

from collections import defaultdict

import numpy as np
import pytest
from command_line import run_all
from odd_jpegs import jpegs
from odd_others import bmps, gifs, webps
from odd_pngs import pngs
from odd_strangers import strangers
from tiny_images import make_images

from cvtrain.images.decode import DecodeError, Decoder

ROWS = [*jpegs(), *pngs(), *bmps(), *gifs(), *webps(), *strangers()]
MOST_LISTED = 20


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_file_is_refused_or_decoded_as_others_do(row):
    if row.bad:
        with pytest.raises(DecodeError) as caught:
            Decoder((16, 24))(row.content)
        assert row.bad in caught.value.message
        assert row.advice in caught.value.advice
        assert caught.value.message.isprintable()
    else:
        expected = row.expected
        decoded = Decoder(expected.shape[:2])(row.content)
        assert (decoded.height, decoded.width) == expected.shape[:2]
        difference = np.abs(decoded.pixels.astype(int) - expected)
        assert difference.max(initial=0) <= row.within


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What `data check` and `fit` say about one folder with every row in it, and the engines."""
    root = tmp_path_factory.mktemp("odd") / "photos"
    make_images(root, {"plain": 9})
    (root / "odd").mkdir()
    for row in ROWS:
        (root / "odd" / row.name).write_bytes(row.content)
    check = ["data", "check", str(root), "--set", "data.image_size=64"]
    fit = ["fit", "--set", f"data.source={root}", "--set", "data.image_size=64"]
    (root.parent / "config.yaml").write_text("data: {source: nowhere}\n")
    told = run_all({"check": check, "again": check, "fit": fit}, root.parent)
    assert {path.name for path in root.parent.iterdir()} == {"photos", "config.yaml"}
    return told


def test_the_check_names_each_bad_and_doubtful_file_with_advice(told):
    check = told[0]["check"]
    assert check.code == 3
    table = [line.split("\t") for line in check.out.splitlines() if line.startswith("odd/")]
    found = defaultdict(list)
    for path, *finding in table:
        found[path.removeprefix("odd/")].append(finding)
    expected = {row.name: row for row in ROWS if row.bad or row.warned}
    assert set(found) == set(expected)
    for name, findings in found.items():
        row = expected[name]
        words = row.bad or row.warned
        assert {severity for severity, *_ in findings} == {"bad" if row.bad else "doubtful"}
        assert any(words in what and row.advice in advice for _, what, advice in findings)
    num_bad = sum(bool(row.bad) for row in ROWS)
    assert f"{len(ROWS) + 9} files checked" in check.out
    assert f"{num_bad} bad, {len(found) - num_bad} doubtful" in check.out  # files, not findings


def test_what_is_remembered_is_the_same(told):
    assert told[0]["again"] == told[0]["check"]


def test_training_is_refused_before_an_engine_is_loaded(told):
    (code, _, err), engines = told[0]["fit"], told[1]
    assert code == 3
    assert engines == []
    bad = [row.name for row in ROWS if row.bad]
    assert f"files that cannot be used: {len(bad)}" in err
    assert sum(f"odd/{name}: " in err for name in bad) == MOST_LISTED
    assert f"and {len(bad) - MOST_LISTED} more; `cvtrain data check` lists all" in err
    assert "data.on_bad=skip" in err


def test_names_and_numbers_of_the_table():
    assert len({row.name for row in ROWS}) == len(ROWS) >= 60
    assert all(row.advice for row in ROWS if row.bad)

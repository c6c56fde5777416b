"""What cvtrain wrote is never data, wherever it lies; other folders with such files are."""

import json

import pytest
from tiny_images import make_images

from cvtrain.data.index import build_index
from cvtrain.data.scan import OUTPUTS, find_images
from cvtrain.data.sources import fetch
from cvtrain.errors import DataError
from cvtrain.runs.run import Run
from cvtrain.sections.base import compile_pattern
from cvtrain.system.outputs import FETCHED_SET, read_mark

SHARES = {"validation": 0.2, "test": 0.2, "seed": 0}


@pytest.fixture
def photos(tmp_path):
    return make_images(tmp_path / "photos", {"cat": 5, "dog": 5})


def a_run(path):
    make_images(path / "figures", {"worst": 2})
    (path / "run.json").write_text('{"format": 1, "command": "fit"}')


def statistics(path):
    make_images(path, {"sheets": 1})
    (path / "stats.json").write_text(json.dumps({"source": "photos", "num_files": 10}))


def an_evaluation(path):
    make_images(path, {"figures": 1})
    (path / "metrics.json").write_text(json.dumps({"split": "test", "source": "x", "tta": 1}))


def maps(path):
    make_images(path, {"overlays": 1})
    (path / "visualize.json").write_text(json.dumps({"format": 1, "weights_sha256": "0" * 64}))


def artifacts_of_mlflow(path):
    make_images(path.parent / "mlruns", {"0/abc/artifacts/figures": 1})


MAKERS = [a_run, statistics, an_evaluation, maps, artifacts_of_mlflow]


@pytest.mark.parametrize("where", ["out", "runs/out", "cat/out", "cat/deep/er/out"])
@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("pattern", [None, compile_pattern("^(cat|dog)/")])
def test_what_cvtrain_wrote_is_left_out_by_name(make, where, pattern, photos):
    make(photos / where)
    index = build_index(photos, **SHARES, label_pattern=pattern)
    assert index.class_names == ("cat", "dog")
    assert sum(len(split.paths) for split in index.splits.values()) == 10
    (left_out,) = index.left_out[OUTPUTS]
    assert left_out == where if make is not artifacts_of_mlflow else left_out.endswith("mlruns")


def test_the_marks_are_those_that_the_commands_write(tmp_path):
    Run.create(tmp_path / "run", "fit", name="x")
    assert read_mark(tmp_path / "run") == "run.json"
    fetch("digits", tmp_path / "digits")
    assert read_mark(tmp_path / "digits") == FETCHED_SET


def test_the_cache_is_no_data(photos, monkeypatch):
    make_images(photos / "cache", {"reproductions/x/figures": 1})
    monkeypatch.setenv("CVTRAIN_CACHE", str(photos / "cache"))
    index = build_index(photos, **SHARES)
    assert index.class_names == ("cat", "dog")
    assert index.left_out == {OUTPUTS: ["cache"]}


def test_a_fetched_set_is_data_where_it_is_the_source_and_not_below_another(photos):
    fetch("digits", photos / "data" / "digits")
    assert build_index(photos, **SHARES).left_out == {OUTPUTS: ["data/digits"]}
    assert len(build_index(photos / "data" / "digits", **SHARES).class_names) == 10


@pytest.mark.parametrize("make", MAKERS[:-1])
def test_an_output_that_is_named_as_the_source_is_refused(make, tmp_path):
    make(tmp_path / "out")
    with pytest.raises(DataError, match="a folder that cvtrain wrote"):
        build_index(tmp_path / "out", **SHARES)


@pytest.mark.parametrize("name", ["run.json", "stats.json", "metrics.json", "visualize.json"])
def test_files_of_others_that_have_such_names_change_nothing(name, photos):
    (photos / "cat" / name).write_text('{"shutter": "1/60"}')
    index = build_index(photos, **SHARES)
    assert sum(len(split.paths) for split in index.splits.values()) == 10
    assert index.left_out == {".json files": [f"cat/{name}"]}


def test_what_is_named_one_by_one_is_found_also_in_an_output(photos):
    a_run(photos / "runs" / "a")
    left_out = {}
    found = [each.path for each in find_images([str(photos)], left_out)]
    assert len(found) == 10
    assert left_out == {OUTPUTS: [str(photos / "runs" / "a")]}
    assert len(list(find_images([str(photos / "runs" / "a")], {}))) == 2

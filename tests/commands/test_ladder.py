"""Every rung is a normal run on the same split, and the table is what those runs say."""

import csv
import itertools

import numpy as np
import pytest
from scipy.stats import binomtest

from cvtrain.commands import ladder as module
from cvtrain.commands.ladder import ladder
from cvtrain.config import load_config
from cvtrain.errors import ConfigError, Stopped
from cvtrain.runs.run import Run, RunRequest
from cvtrain.system.console import Console

CONFIG = """
seed: 3
precision: float32
data: {{source: {source}, image_size: [16, 20]}}
augment: {{flip: horizontal}}
fit:
  model: {{filters: [4, 8], dense: [8]}}
  epochs: 2
  batch_size: 8
  optimizer: {{name: adam, learning_rate: 1e-2}}
extract_features:
  backbone: {{weights: {base}}}
  head: {{dense: [], dropout: 0}}
  views: 2
  epochs: 2
  batch_size: 8
  optimizer: {{name: adam, learning_rate: 1e-2}}
finetune: {{epochs: 1, batch_size: 8, optimizer: {{learning_rate: 1e-3}}}}
"""
RUNGS = ["scratch", "augmented", "features", "features, views", "fine-tuned"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, image_folder, finished):
    path = tmp_path_factory.mktemp("ladder") / "tiny.yaml"
    path.write_text(CONFIG.format(source=image_folder, base=finished.path))
    return path


def climb(path, folder, *overrides, resume=False):
    config = load_config(path, overrides)
    return ladder(config, RunRequest(folder, "tiny", resume), Console(quiet=True))


@pytest.fixture(scope="module")
def climbed(recipe, tmp_path_factory):
    """A finished ladder that was stopped in its third rung on the way."""
    folder = tmp_path_factory.mktemp("climbed") / "ladder"
    original = module.extract_features

    def stopping(*_, **__):
        raise Stopped("stopped", "go on")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "extract_features", stopping)
        with pytest.raises(Stopped, match="features: stopped"):
            climb(recipe, folder)
    assert module.extract_features is original
    before = Run.open(folder / "scratch").content
    run = climb(recipe, folder, resume=True)
    assert Run.open(folder / "scratch").content == before
    return run


@pytest.mark.slow
def test_every_rung_is_a_run_on_the_same_split(climbed):
    rows = climbed.content["rungs"]
    assert [row["name"] for row in rows] == RUNGS
    runs = [Run.open(climbed.path / row["run"]) for row in rows]
    assert [run.content["command"] for run in runs] == [
        "fit",
        "fit",
        "extract-features",
        "extract-features",
        "finetune",
    ]
    assert all(run.model_path.exists() for run in runs)
    assert len({(run.path / "split.json").read_bytes() for run in runs}) == 1
    assert [(run.path / "figures/augmented_samples.png").exists() for run in runs] == [
        False,
        True,
        False,
        True,
        True,
    ]
    for row, run in zip(rows, runs, strict=True):
        assert row["accuracy"] == run.content["metrics"]["test"]["accuracy"]
        assert row["num_parameters"] == run.content["num_parameters"]


@pytest.mark.slow
def test_each_rung_is_tested_against_the_one_below(climbed):
    def correct(name):
        with (climbed.path / name / "predictions-test.csv").open(newline="") as file:
            return {row["file"]: row["correct"] == "1" for row in csv.DictReader(file)}

    rows = climbed.content["rungs"]
    assert "against_the_rung_below" not in rows[0]
    for below, row in itertools.pairwise(rows):
        a, b = correct(below["run"]), correct(row["run"])
        only_a = sum(a[file] and not b[file] for file in a)
        only_b = sum(b[file] and not a[file] for file in a)
        expected = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
        assert row["against_the_rung_below"]["p"] == pytest.approx(expected)


@pytest.mark.slow
def test_there_is_an_estimate_for_every_rung_before_it_starts(climbed):
    estimates = climbed.content["estimates"]
    assert list(estimates) == RUNGS
    assert all(np.isfinite(seconds) and seconds > 0 for seconds in estimates.values())


@pytest.mark.slow
def test_table_and_figure_are_written(climbed):
    lines = (climbed.path / "ladder.csv").read_text().splitlines()
    assert len(lines) == 1 + len(RUNGS)
    assert (climbed.path / "figures" / "ladder.png").stat().st_size > 5000


def test_mixed_images_are_refused_before_anything_starts(recipe):
    settings = ["augment={flip: horizontal, cutmix: 1}", "extract_features.views=1"]
    with pytest.raises(ConfigError, match=r"augment\.cutmix: mixes images") as caught:
        module.stages_of(load_config(recipe, settings), recipe.parent)
    assert "--set augment.cutmix=null" in caught.value.advice


def test_without_augmentation_there_are_three_rungs(recipe):
    config = load_config(recipe, ["augment=null", "extract_features.views=1"])
    names = [rung.name for rung in module.stages_of(config, recipe.parent)]
    assert names == ["scratch", "features", "fine-tuned"]


@pytest.mark.slow
def test_a_ladder_that_goes_on_with_more_rungs_estimates_them(recipe, tmp_path, monkeypatch):
    def stopping(*_, **__):
        raise Stopped("stopped", "go on")

    folder = tmp_path / "ladder"
    monkeypatch.setattr(module, "fit", stopping)
    with pytest.raises(Stopped):
        climb(recipe, folder, "augment=null", "extract_features.views=1")
    assert len(Run.open(folder).content["estimates"]) == 3
    config = load_config(recipe, ["extract_features.views=1"])
    request = RunRequest(folder, "tiny", resume=True, accept_changes=True)
    with pytest.raises(Stopped):
        ladder(config, request, Console(quiet=True))
    assert set(Run.open(folder).content["estimates"]) == set(RUNGS)

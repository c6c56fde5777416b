"""Planted mislabels are found in training and test images, and carried to fine-tuning."""

import shutil

import pytest

from cvtrain.config import load_config
from cvtrain.console import Console
from cvtrain.mislabels import read_mislabels
from cvtrain.pipelines.extract_features import extract_features
from cvtrain.pipelines.finetune import finetune

CONFIG = """
seed: 3
precision: float32
data: {{source: {source}, image_size: 32}}
augment: {{flip: horizontal}}
extract_features:
  backbone: {{name: mobilenet, alpha: 0.25, weights: none, cut: conv_pw_3}}
  head: {{name: logistic}}
finetune: {{epochs: 1, batch_size: 16}}
"""
PLANTED = {"train/green/planted.png": "red", "test/blue/planted.png": "green"}


@pytest.fixture(scope="module")
def config(tmp_path_factory, image_folder):
    """The config of images two of which are under a wrong label, one of them twice."""
    folder = tmp_path_factory.mktemp("planted")
    source = shutil.copytree(image_folder, folder / "images")
    for path, truth in PLANTED.items():
        split = path.partition("/")[0]
        # Of the validation images, so that it is no copy of one beside it.
        original = source / ("validation" if split == "train" else "train") / truth / "000.png"
        original.rename(source / path)
    shutil.copy(source / "train/green/planted.png", source / "train/green/copy.png")
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(source=source))
    return load_config(path)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "features"
    return extract_features(config, folder, name="tiny", resume=False, console=Console(quiet=True))


def test_what_was_planted_leads_the_list(run):
    found = {each.file: each for each in read_mislabels(run.path / "mislabels.csv")}
    for path, truth in PLANTED.items():
        assert (found[path].split, found[path].suggestion) == (path.partition("/")[0], truth)
        assert found[path].p_suggestion > found[path].p_label
    # Its copy does not vouch for it.
    assert "train/green/copy.png" in found
    assert len(found) == 3


def test_the_record_says_how_many_were_judged(run):
    assert run.record["mislabels"] == {
        "num": 3,
        "judged": {"train": 37, "validation": 11, "test": 16},
    }
    assert "judge" in run.record["seconds"]


def test_the_likeliest_are_told(run):
    log = (run.path / "log.txt").read_text()
    assert "3 of 64 images may be labelled wrongly" in log
    assert "train/green/planted.png: labelled green, looks like red" in log


def test_fine_tuning_keeps_what_the_features_said(run, config, tmp_path):
    tuned = finetune(
        config, tmp_path / "tuned", source=run, name="tiny", resume=False, console=Console(True)
    )
    assert tuned.record["mislabels"]["judged"]["train"] == 37
    before, after = (
        [each for each in read_mislabels(path / "mislabels.csv") if each.split == "train"]
        for path in (run.path, tuned.path)
    )
    assert after == before


def test_a_network_that_has_learnt_the_labels_does_not_judge_them(finished):
    assert finished.record["mislabels"]["judged"] == {"validation": 12, "test": 15}
    found = read_mislabels(finished.path / "mislabels.csv")
    assert not [each for each in found if each.split == "train"]

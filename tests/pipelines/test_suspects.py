"""Planted mislabels are found in training and test images, and carried to fine-tuning."""

import shutil

import pytest
from tiny_images import make_images

from cvtrain.config import load_config
from cvtrain.console import Console
from cvtrain.mislabels import read_mislabels
from cvtrain.pipelines.extract_features import extract_features
from cvtrain.pipelines.finetune import finetune

CONFIG = """
seed: 3
precision: float32
data: {{source: {source}, image_size: [16, 20]}}
extract_features:
  backbone: {{weights: {base}}}
  head: {{name: logistic}}
finetune: {{epochs: 1, batch_size: 16}}
"""
# One in each class: those in a class lower what counts as confident for it.
PLANTED = {
    f"{split}/{label}/planted.png": truth
    for split in ("train", "test")
    for label, truth in (("green", "red"), ("red", "blue"), ("blue", "green"))
}


@pytest.fixture(scope="module")
def config(tmp_path_factory, finished):
    """The config of images, six of which are under a wrong label, one of them twice."""
    folder = tmp_path_factory.mktemp("planted")
    counts = {"train": 40, "validation": 6, "test": 6}
    names = ("red", "green", "blue")
    source = make_images(
        folder / "images", {f"{s}/{n}": count for s, count in counts.items() for n in names}
    )
    for path, truth in PLANTED.items():
        # Of another split, so that it is no copy of one beside it.
        next((source / "validation" / truth).iterdir()).rename(source / path)
    shutil.copy(source / "train/green/planted.png", source / "train/green/copy.png")
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(source=source, base=finished.path))
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
    assert len(found) == 7


def test_the_record_says_how_many_were_judged(run):
    assert run.record["mislabels"] == {
        "num": 7,
        "judged": {"train": 124, "validation": 12, "test": 21},
    }
    assert "judge" in run.record["seconds"]


def test_the_likeliest_are_told(run):
    log = (run.path / "log.txt").read_text()
    assert "7 of 157 images may be labelled wrongly" in log
    assert "planted.png: labelled " in log


def test_fine_tuning_keeps_what_the_features_said(run, config, tmp_path):
    tuned = finetune(
        config, tmp_path / "tuned", source=run, name="tiny", resume=False, console=Console(True)
    )
    assert tuned.record["mislabels"]["judged"]["train"] == 124
    before, after = (
        [each for each in read_mislabels(path / "mislabels.csv") if each.split == "train"]
        for path in (run.path, tuned.path)
    )
    assert after == before


def test_a_network_that_has_learnt_the_labels_does_not_judge_them(finished):
    assert finished.record["mislabels"]["judged"] == {"validation": 12, "test": 15}
    found = read_mislabels(finished.path / "mislabels.csv")
    assert not [each for each in found if each.split == "train"]

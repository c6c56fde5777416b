"""Planted mislabels are found in training and test images, and carried to fine-tuning."""

import shutil

import numpy as np
import pytest
from tiny_images import make_images

from cvtrain.commands.extract_features import extract_features
from cvtrain.commands.finetune import finetune
from cvtrain.config import config_for_source, load_config
from cvtrain.evaluation.mislabels import read_mislabels
from cvtrain.runs.run import Run, RunRequest
from cvtrain.steps import find_mislabels as suspects
from cvtrain.steps.dataset import open_dataset
from cvtrain.steps.find_mislabels import NO_SEARCH, search_training_images
from cvtrain.steps.session import RunSession
from cvtrain.system.console import Console
from cvtrain.system.signals import Stop
from cvtrain.system.stopwatch import Stopwatch

RNG = np.random.default_rng(0)
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
    return extract_features(config, RunRequest(folder, "tiny"), Console(quiet=True))


def test_what_was_planted_leads_the_list(run):
    found = {each.file: each for each in read_mislabels(run.path / "mislabels.csv")}
    for path, truth in PLANTED.items():
        assert (found[path].split, found[path].suggestion) == (path.partition("/")[0], truth)
        assert found[path].p_suggestion > found[path].p_label
    # Its copy does not vouch for it.
    assert "train/green/copy.png" in found
    assert len(found) == 7


def test_the_record_says_how_many_were_judged(run):
    assert run.content["mislabels"] == {
        "num": 7,
        "judged": {"train": 124, "validation": 12, "test": 21},
    }
    assert "judge" in run.content["seconds"]


def test_the_likeliest_are_told(run):
    log = (run.path / "log.txt").read_text()
    assert "7 of 157 images may be labelled wrongly" in log
    assert "planted.png: labelled " in log


def test_fine_tuning_keeps_what_the_features_said(run, config, tmp_path):
    tuned = finetune(config, RunRequest(tmp_path / "tuned", "tiny"), Console(True), source=run)
    assert tuned.content["mislabels"]["judged"]["train"] == 124
    before, after = (
        [each for each in read_mislabels(path / "mislabels.csv") if each.split == "train"]
        for path in (run.path, tuned.path)
    )
    assert after == before


def test_a_network_that_has_learnt_the_labels_does_not_judge_them(finished):
    assert finished.content["mislabels"]["judged"] == {"validation": 12, "test": 15}
    found = read_mislabels(finished.path / "mislabels.csv")
    assert not [each for each in found if each.split == "train"]


class Colours:
    """Mean colours in place of cached features, of as many views as there are."""

    def __init__(self, session, num_views=1):
        paths = session.dataset.index.splits["train"].paths * num_views
        self.maps = np.stack([session.dataset.pixels[path] for path in paths]).mean(axis=(1, 2))

    def take(self, places):
        return self.maps[places, None, None, :].astype(np.float32)


def job_on(source, folder):
    config = config_for_source(str(source), ["data.image_size=16", "data.on_bad=skip"])
    console = Console(quiet=True)
    dataset = open_dataset(config, Stop(), console)
    return RunSession(config, dataset, Run.create(folder, "fit"), Stopwatch(), Stop(), console)


def test_of_one_or_two_images_nobody_learns_a_class(tmp_path):
    counts = {"train/a": 12, "train/b": 12, "train/rare": 3}
    others = {f"{s}/{n}": 1 for s in ("validation", "test") for n in ("a", "b", "rare")}
    source = make_images(tmp_path / "images", counts | others)
    for i in range(4):  # copies are no more images
        shutil.copy(source / "train/rare/000.png", source / f"train/rare/copy{i}.png")
    session = job_on(source, tmp_path / "run")
    assert search_training_images(session, Colours(session)).num_images == 24


def test_features_that_say_nothing_accuse_nobody(tmp_path, image_folder, monkeypatch):
    monkeypatch.setattr(suspects, "suspects", lambda *_: pytest.fail("asked"))
    session = job_on(image_folder, tmp_path / "run")
    colours = Colours(session)
    for maps in (np.zeros_like(colours.maps), RNG.normal(size=colours.maps.shape)):
        colours.maps = maps
        assert search_training_images(session, colours) == NO_SEARCH


def test_two_classes_are_the_least_to_judge(tmp_path):
    counts = {f"{s}/{n}": 2 for s in ("train", "validation", "test") for n in ("a", "b")}
    session = job_on(make_images(tmp_path / "images", counts), tmp_path / "run")
    assert search_training_images(session, Colours(session)) == NO_SEARCH


def test_of_many_images_some_of_every_class_are_judged(tmp_path, image_folder, monkeypatch):
    asked = []

    def watch(files, *_):
        asked.extend(files)
        return []

    monkeypatch.setattr(suspects, "_MOST_JUDGED", 15)
    monkeypatch.setattr(suspects, "suspects", watch)
    session = job_on(image_folder, tmp_path / "run")
    assert search_training_images(session, Colours(session, num_views=3)).num_images == 15
    assert {path.split("/")[1] for path in asked} == {"red", "green", "blue"}
    assert len(set(asked)) == 15

"""The worst mistakes: which they are, where the model looked, and that they never cost a run."""

import errno
import hashlib
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from cvtrain.config import load_config
from cvtrain.errors import ResourceError
from cvtrain.evaluation.metrics import worst_mistakes
from cvtrain.explain.cams import gradcam
from cvtrain.explain.flat_model import open_model
from cvtrain.explain.overlay import heatmap, overlay, upsample
from cvtrain.runs.run import Run
from cvtrain.steps import worst_mistakes as mistakes
from cvtrain.steps.dataset import open_dataset
from cvtrain.steps.session import RunSession
from cvtrain.steps.worst_mistakes import explain_mistakes
from cvtrain.system.console import Console
from cvtrain.system.signals import Stop
from cvtrain.system.stopwatch import Stopwatch


@pytest.fixture
def session(finished, config_path, tmp_path):
    """What is known when a run ends, over a copy of a finished one."""
    shutil.copytree(finished.path, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    shutil.rmtree(run.path / "mistakes", ignore_errors=True)
    config, console = load_config(config_path), Console(quiet=True)
    return RunSession(
        config, open_dataset(config, Stop(), console), run, Stopwatch(), Stop(), console
    )


@pytest.fixture
def model(finished):
    return keras.saving.load_model(finished.model_path, compile=False)


@pytest.fixture
def probabilities():
    """Of the 15 test images, of which five are taken for the next class."""
    labels = np.repeat(np.arange(3), 5)
    found = np.full((15, 3), 0.1)
    found[np.arange(15), labels] = 0.8
    for i, p in zip((2, 5, 6, 11, 14), (0.5, 0.6, 0.7, 0.9, 0.55), strict=True):
        found[i] = (0.95 - p) / 1
        found[i, (labels[i] + 1) % 3] = p
        found[i, labels[i]] = 0.05
    found[5, labels[5]] = 0.01
    return found


def test_the_worst_come_first():
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.4, 0.6], [0.6, 0.4], [0.9, 0.1], [0.51, 0.49]])
    assert worst_mistakes(labels, probabilities) == [2, 0, 3]


def test_there_are_not_more_than_one_looks_at():
    assert len(worst_mistakes(np.zeros(99, int), np.tile([0.2, 0.8], (99, 1)))) == 24


def test_each_mistake_has_its_photograph_and_two_maps(session, model, probabilities):
    digest = hashlib.sha256(session.run.model_path.read_bytes()).digest()
    record = explain_mistakes(session, model, probabilities)
    assert record == {"num": 5, "method": "gradcam", "layer": "conv2_relu"}
    entries = session.run.read_json("mistakes/mistakes.json")
    paths, names = session.dataset.index.splits["test"].paths, session.dataset.index.class_names
    assert entries[0]["file"] == paths[5]
    for entry in entries:
        i = paths.index(entry["file"])
        assert entry["true"] == names[i // 5]
        assert entry["predicted"] == names[(i // 5 + 1) % 3]
        assert entry["p_true"] == probabilities[i, i // 5]
        assert entry["p_predicted"] == probabilities[i].max()
        for key in ("picture", "map_true", "map_predicted"):
            with Image.open(session.run.path / "mistakes" / entry[key]) as picture:
                # 20 x 24 pixels, enlarged until they can be looked at.
                assert picture.size == (168, 140)
    assert hashlib.sha256(session.run.model_path.read_bytes()).digest() == digest
    assert "explain" in session.watch.seconds


def test_the_maps_are_grad_cams_of_both_classes(session, model, probabilities):
    explain_mistakes(session, model, probabilities)
    entry = session.run.read_json("mistakes/mistakes.json")[0]
    names = list(session.run.content["class_names"])
    opened = open_model(keras.saving.load_model(session.run.model_path, compile=False))
    pixels = session.dataset.pixels[entry["file"]][None].astype(np.float32)
    for role in ("true", "predicted"):
        found = gradcam(opened, "conv2_relu")(pixels, np.array([[names.index(entry[role])]]))
        heat = heatmap(upsample(found.maps, (16, 20), found.box, extend=True)[0, 0])
        with Image.open(session.dataset.index.root / entry["file"]) as image:
            photograph = np.asarray(image.convert("RGB")).repeat(7, axis=0).repeat(7, axis=1)
        expected = overlay(photograph, upsample(heat, photograph.shape[:2]))
        with Image.open(session.run.path / "mistakes" / entry[f"map_{role}"]) as written:
            difference = np.abs(np.asarray(written).astype(float) - expected)
        assert difference.mean() < 6  # what JPEG takes


def test_a_run_has_them(finished):
    entries = finished.read_json("mistakes/mistakes.json")
    wrong = round((1 - finished.content["metrics"]["test"]["accuracy"]) * 15)
    assert len(entries) == finished.content["mistakes"]["num"] == wrong


def test_without_mistakes_there_are_none(session, model):
    record = explain_mistakes(session, model, np.eye(3)[np.repeat(np.arange(3), 5)])
    assert record["num"] == 0
    assert session.run.read_json("mistakes/mistakes.json") == []


def test_a_model_without_maps_gets_photographs_alone(session, probabilities):
    layers = keras.layers
    images = keras.Input((16, 20, 3))
    outputs = layers.Dense(3, activation="softmax")(layers.Flatten()(images))
    model = keras.Model(images, outputs)
    record = explain_mistakes(session, model, probabilities)
    assert "no layer with a height and a width" in record["without_maps"]
    for entry in session.run.read_json("mistakes/mistakes.json"):
        assert (session.run.path / "mistakes" / entry["picture"]).is_file()
        assert entry["map_true"] is entry["map_predicted"] is None


def test_what_cannot_be_explained_costs_a_warning(
    session, model, probabilities, monkeypatch, capsys
):
    def fail(*_, **__):
        raise MemoryError("no memory left")

    monkeypatch.setattr(mistakes, "open_model", fail)
    record = explain_mistakes(session, model, probabilities)
    assert record["num"] == 5
    assert "no memory left" in record["without_maps"]
    assert "the worst mistakes are not explained" in capsys.readouterr().err


def test_a_full_disk_is_no_warning(session, model, probabilities, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with pytest.raises(ResourceError, match="the disk is full"):
            explain_mistakes(session, model, probabilities)
    assert explain_mistakes(session, model, probabilities)["num"] == 5


def test_too_little_memory_leaves_the_photographs(
    session, model, probabilities, monkeypatch, capsys
):
    def hungry(*_, **__):
        raise ResourceError("the memory does not suffice")

    monkeypatch.setattr(mistakes, "open_model", hungry)
    assert (
        explain_mistakes(session, model, probabilities)["without_maps"]
        == "the memory does not suffice"
    )
    assert (session.run.path / "mistakes" / "00.jpg").is_file()
    assert "no maps of the worst mistakes" in capsys.readouterr().err

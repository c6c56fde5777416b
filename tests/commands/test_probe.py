"""A probe measures every block once, says what plain Keras and scikit-learn say, and goes on."""

import copy
import csv
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cvtrain.cli.options import Project
from cvtrain.commands import probe as pipeline
from cvtrain.commands.probe import backbones_by_label, probe
from cvtrain.config import load_config
from cvtrain.errors import ConfigError, DataError, RunError, Stopped
from cvtrain.features import extract
from cvtrain.models.backbones import build_backbone
from cvtrain.models.blocks import blocks, find_cut
from cvtrain.runs.run import Run, newest_run
from cvtrain.sections import Backbone
from cvtrain.system.console import Console

CONFIG = """
seed: 3
precision: float32
data: {{source: {source}, image_size: 32}}
extract_features: {{backbone: {{name: mobilenet, alpha: 0.25, weights: none}}}}
probe: {{folds: 3}}
"""


@pytest.fixture(scope="module")
def start(starter):
    return starter(probe, CONFIG)


@pytest.fixture(scope="module")
def probed(start, tmp_path_factory):
    return start(tmp_path_factory.mktemp("runs") / "probe")


@pytest.fixture(scope="module")
def base():
    return build_backbone("mobilenet", image_size=(32, 32), weights=None, alpha=0.25, seed=3)


def test_the_run_folder_is_complete_and_has_no_model(probed):
    names = {str(p.relative_to(probed.path)) for p in probed.path.rglob("*") if p.is_file()}
    assert {"run.json", "config.yaml", "log.txt", "probe.csv", "figures/probe.png"} <= names
    record = Run.open(probed.path).content
    assert (record["command"], record["status"]) == ("probe", "finished")
    assert {"data", "import", "extract", "classify", "draw"} <= set(record["seconds"])
    with pytest.raises(RunError):
        newest_run(probed.path.parent, has_model=True)


def test_every_block_has_a_row_in_the_order_of_the_forward_pass(probed, base):
    rows = probed.content["blocks"]
    assert [(row["block"], row["layer"]) for row in rows] == [
        (block.name, block.layer) for block in blocks(base)
    ]
    for row in rows:
        shape = base.get_layer(row["layer"]).output.shape
        assert (*row["map_size"], row["channels"]) == shape[1:]
    costs = [row["multiply_adds"] for row in rows]
    assert costs == sorted(costs)


@pytest.mark.parametrize("number", [0, -1])
def test_the_accuracy_is_what_keras_and_scikit_learn_make_it(probed, base, image_folder, number):
    row = probed.content["blocks"][number]
    images, labels = [], []
    for label, name in enumerate(probed.content["class_names"]):
        for path in sorted((image_folder / "train" / name).iterdir()):
            images.append(np.asarray(Image.open(path).convert("RGB").resize((32, 32), 2)))
            labels.append(label)
    maps = keras.Model(base.input, base.get_layer(row["layer"]).output)
    features = maps.predict(np.stack(images).astype(np.float32), verbose=0).mean(axis=(1, 2))
    accuracies = [
        cross_val_score(
            make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000)),
            features,
            labels,
            cv=StratifiedKFold(3, shuffle=True, random_state=3),
        ).mean()
        for strength in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    ]
    assert row["accuracy"] == pytest.approx(max(accuracies), abs=2 / len(labels))


def test_the_table_on_disk_is_the_record(probed):
    with (probed.path / "probe.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    rows = probed.content["blocks"]
    assert [line["layer"] for line in lines] == [row["layer"] for row in rows]
    assert [float(line["accuracy"]) for line in lines] == pytest.approx(
        [row["accuracy"] for row in rows]
    )
    (chosen,) = [line for line in lines if line["recommended"] == "1"]
    assert chosen["layer"] == probed.content["recommended"]["layer"]


def test_images_that_differ_in_colour_need_no_deep_features(probed):
    assert probed.content["best"]["accuracy"] == 1.0
    assert probed.content["recommended"] == probed.content["blocks"][0]


def test_a_second_probe_computes_no_features_again(start, probed, tmp_path, monkeypatch):
    monkeypatch.setattr(extract.backend, "inference", lambda *_, **__: pytest.fail("computed"))
    again = start(tmp_path / "again")
    assert again.content["blocks"] == probed.content["blocks"]


def test_what_it_says_to_write_is_a_config(probed, base, tmp_path, image_folder, capsys):
    section = Backbone(name="mobilenet", alpha=0.25, weights="none")
    pipeline.show(probed, section, None, Console(quiet=True))
    text = capsys.readouterr().out.partition("Write into the config:\n")[2]
    values = yaml.safe_load(text.partition(str(probed.path))[0])
    values["data"]["source"] = str(image_folder)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    config = load_config(path)
    assert config.data.image_size == (32, 32)
    backbone = config.extract_features.backbone
    assert (backbone.name, backbone.alpha, backbone.weights) == ("mobilenet", 0.25, "none")
    assert find_cut(base, backbone.cut) == blocks(base)[0].layer


@pytest.mark.parametrize(("accuracy", "is_told"), [(0.34, True), (0.6, False)])
def test_where_no_block_knows_more_than_nothing_that_is_told(probed, capsys, accuracy, is_told):
    record = copy.deepcopy(probed.content)
    for row in (*record["blocks"], record["best"], record["recommended"]):
        row["accuracy"] = accuracy
    section = Backbone(name="mobilenet", alpha=0.25, weights="none")
    pipeline.show(Run(probed.path, record), section, None, Console(quiet=True))
    assert ("no block is better than guessing" in capsys.readouterr().err) is is_told


@pytest.mark.parametrize(
    ("config", "command"),
    [
        (Path("config.yaml"), "cvtrain extract-features"),
        (Path("my configs/pets.yaml"), "cvtrain extract-features 'my configs/pets.yaml'"),
        (None, "cvtrain extract-features YOUR_CONFIG"),
    ],
)
def test_what_comes_next_is_on_the_config_that_was_probed(probed, config, command, capsys):
    section = Backbone(name="mobilenet", alpha=0.25, weights="none")
    pipeline.show(probed, section, config, Console(quiet=True))
    assert capsys.readouterr().out.endswith(f"train on these features   {command}\n")


def test_the_config_is_known_unless_a_run_is_continued_by_its_folder(probed, tmp_path):
    given = tmp_path / "pets.yaml"
    shutil.copyfile(probed.path / "config.yaml", given)
    for path, resume, known in ((given, False, given), (probed.path, True, None)):
        project = Project(path, (), None if resume else tmp_path / "new", resume, False)
        assert project.open("probe")[1].config == known


def on_run(run):
    """Overrides by which a run of `fit` is the base."""
    return f"extract_features.backbone={{weights: {run.path}}}", "data.image_size=[16, 20]"


def test_a_run_is_a_base(start, finished, tmp_path):
    run = start(tmp_path / "run", *on_run(finished))
    assert [row["block"] for row in run.content["blocks"]] == ["conv1", "conv2"]
    assert run.content["blocks"][0]["backbone"] == "finished"


def test_a_stopped_probe_goes_on_after_its_last_block(start, finished, tmp_path, monkeypatch):
    whole = start(tmp_path / "whole", *on_run(finished)).content["blocks"]
    measured, calls = pipeline.linear_accuracy, []

    def stop_at_the_second(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == 2:
            raise Stopped("stopped", "Go on.")
        return measured(*arguments, **keywords)

    monkeypatch.setattr(pipeline, "linear_accuracy", stop_at_the_second)
    with pytest.raises(Stopped):
        start(tmp_path / "run", *on_run(finished))
    stopped = Run.open(tmp_path / "run").content
    assert (stopped["status"], stopped["blocks"]) == ("stopped", whole[:1])
    again = start(tmp_path / "run", *on_run(finished), resume=True)
    assert again.content["blocks"] == whole
    assert len(calls) == 3


def test_the_config_of_the_run_names_what_was_measured(probed):
    kept = load_config(probed.path / "config.yaml").probe
    assert [base.name for base in kept.backbones] == ["mobilenet"]
    assert kept.image_sizes == ((32, 32),)


def test_another_config_does_not_continue_a_run(start, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "measure", lambda *_: pytest.fail("went on"))
    with pytest.raises(pytest.fail.Exception):
        start(tmp_path / "run")
    with pytest.raises(RunError, match=r"probe\.folds: \d -> 4 \(cannot be accepted\)"):
        start(tmp_path / "run", "probe.folds=4", resume=True)


@pytest.mark.slow
def test_every_base_is_measured_at_every_size(start, tmp_path, monkeypatch):
    same = {"accuracy": 0.5, "standard_error": 0.1, "validation_accuracy": 0.5}
    monkeypatch.setattr(pipeline, "linear_accuracy", lambda *_, **__: same)
    bases = [f"{{name: mobilenet, alpha: {alpha}, weights: none}}" for alpha in (0.25, 0.5)]
    run = start(
        tmp_path / "run",
        f"probe.backbones=[{', '.join(bases)}]",
        "probe.image_sizes=[32, [40, 48]]",
    )
    measured = [(row["backbone"], *row["image_size"]) for row in run.content["blocks"]]
    assert measured == [
        *[("mobilenet 0.25 (none)", 32, 32)] * 14,
        *[("mobilenet 0.5 (none)", 32, 32)] * 14,
        *[("mobilenet 0.25 (none)", 40, 48)] * 14,
        *[("mobilenet 0.5 (none)", 40, 48)] * 14,
    ]


def test_every_fold_needs_an_image_of_each_class(start, tmp_path):
    with pytest.raises(DataError, match="too few training images: 12 without copies"):
        start(tmp_path / "run", "probe.folds=13")


def test_weights_are_named_where_they_tell_bases_apart():
    file = Backbone(name="vgg16", weights="/weights/mine.h5")
    random = Backbone(name="mobilenet", alpha=0.5, weights="none")
    assert list(backbones_by_label([file, random])) == ["vgg16", "mobilenet 0.5 (none)"]
    both = backbones_by_label([file, Backbone(name="vgg16")])
    assert list(both) == ["vgg16 (mine.h5)", "vgg16 (imagenet)"]


def test_a_base_named_twice_is_refused_before_anything_else(start, tmp_path):
    with pytest.raises(ConfigError, match="must have different names"):
        start(tmp_path / "run", "probe.backbones=[{name: vgg16}, {name: vgg16}]")
    assert not (tmp_path / "run").exists()

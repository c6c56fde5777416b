"""What is unfrozen is trained, what is frozen comes from the cache, and both are proven."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from cvtrain.commands.extract_features import extract_features
from cvtrain.commands.finetune import finetune
from cvtrain.commands.report import render_report
from cvtrain.config import load_config
from cvtrain.errors import ConfigError, RunError, Stopped, TrainingError
from cvtrain.runs.predictions import read_predictions
from cvtrain.runs.run import Run, RunRequest
from cvtrain.steps import stage as train
from cvtrain.system.console import Console
from cvtrain.system.signals import Stop

QUIET = Console(quiet=True)
pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture(scope="module")
def config(transfer_config, finished):
    """config(*overrides) -> Config"""
    path = transfer_config(finished)
    return lambda *overrides: load_config(path, overrides)


@pytest.fixture(scope="module")
def extracted(config, tmp_path_factory):
    """A folder with the run that all start from, and the cache that it left."""
    folder = tmp_path_factory.mktemp("extracted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVTRAIN_CACHE", str(folder / "cache"))
        extract_features(config(), RunRequest(folder / "source", "tiny"), QUIET)
    return folder


@pytest.fixture
def source(extracted, tmp_path, monkeypatch):
    """A copy of it, to be changed."""
    monkeypatch.setenv("CVTRAIN_CACHE", str(tmp_path / "cache"))
    shutil.copytree(extracted, tmp_path, dirs_exist_ok=True)
    return Run.open(tmp_path / "source")


@pytest.fixture(scope="module")
def tuned(config, extracted):
    """The run of fine-tuning without any overrides."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVTRAIN_CACHE", str(extracted / "cache"))
        source = Run.open(extracted / "source")
        return finetune(config(), RunRequest(extracted / "tuned", "tiny"), QUIET, source=source)


@pytest.fixture
def tune(config, source, tmp_path):
    """tune(folder, *overrides, resume=False) -> Run"""

    def run(folder, *overrides, resume=False):
        request = RunRequest(tmp_path / folder, "tiny", resume)
        return finetune(config(*overrides), request, QUIET, source=source)

    return run


def trained_layers(run):
    return {name for name, layer in run.content["freeze_proof"].items() if layer["trained"]}


def test_the_top_is_trained_and_the_rest_is_not(tuned, source):
    assert tuned.content["status"] == "finished"
    assert trained_layers(tuned) == {"conv2", "dense1", "logits"}
    assert tuned.content["source"]["weights"] == source.content["weights_sha256"]
    assert tuned.content["weights_sha256"] != source.content["weights_sha256"]
    assert tuned.content["metrics"]["test"]["num_images"] == 15


@pytest.mark.slow
@pytest.mark.parametrize("views", ["2", "unlimited"])
def test_with_an_average_the_freeze_is_still_proven(tune, views):
    """With unlimited views the frozen layers are in the model that is trained and averaged."""
    settings = (f"finetune.views={views}", "finetune.ema=0.9")
    run = tune("run", *settings)
    assert trained_layers(run) == {"conv2", "dense1", "logits"}
    assert run.content["weights_sha256"] != tune("plain", settings[0]).content["weights_sha256"]


def test_extraction_computed_what_finetuning_needs(tune, count_forward):
    """One forward pass of the frozen part serves both commands, for the same views."""
    tune("run")
    assert count_forward
    assert sum(count_forward) == 0


@pytest.mark.slow
def test_cached_and_uncached_training_are_the_same(tune):
    """Without augmentation the cached prefix changes nothing but the time."""
    plain = ("augment=null", "finetune.views=1", "extract_features.views=1")
    cached = tune("cached", *plain)
    whole = tune("whole", *plain, "finetune.views=unlimited", "augment={rotate: 0}")
    rows = [
        np.genfromtxt(run.path / "history.csv", delimiter=",", names=True)
        for run in (cached, whole)
    ]
    for column in ("loss", "val_loss"):
        np.testing.assert_allclose(rows[0][column], rows[1][column], rtol=2e-3)


@pytest.mark.slow
def test_steps_follow_one_another(tune):
    run = tune("run", "finetune.then=[{unfreeze_blocks: 2, epochs: 3, batch_size: 8}]")
    assert trained_layers(run) == {"conv1", "conv2", "dense1", "logits"}
    history = (run.path / "history.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in history[1:]] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("{unfreeze_from: nosuch}", r"then\.1\.unfreeze_from: convnet has no block .* nosuch"),
        ("{unfreeze_blocks: 3}", r"then\.1\.unfreeze_blocks: must be at most 2, .* received 3"),
    ],
)
def test_every_step_is_looked_at_before_the_first_is_trained(tune, tmp_path, step, message):
    with pytest.raises(ConfigError, match=rf"^finetune\.{message}"):
        tune("run", f"finetune.then=[{{unfreeze_blocks: 2}}, {step}]")
    assert not (tmp_path / "run" / "history.csv").exists()


def test_batch_normalization_is_trained_when_asked(tune):
    run = tune("run", "finetune.batch_normalization=train")
    assert "conv2_norm" in trained_layers(run)


def stop_after_an_epoch(monkeypatch, number):
    """Ask once for a stop, when so many epochs are done."""
    original, seen = train.write_history, []

    def write_and_stop(run, rows):
        original(run, rows)
        if len(rows) == number and not seen:
            seen.append("stopped")
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(train, "write_history", write_and_stop)


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_weights(tune, monkeypatch):
    steps = "finetune.then=[{unfreeze_blocks: 2, epochs: 2, batch_size: 8}]"
    whole = tune("whole", steps)
    stop_after_an_epoch(monkeypatch, 3)
    with pytest.raises(Stopped):
        tune("parts", steps)
    assert (
        json.loads(Path(whole.path.parent, "parts", "run.json").read_text())["status"] == "stopped"
    )
    resumed = tune("parts", steps, resume=True)
    assert resumed.content["weights_sha256"] == whole.content["weights_sha256"]
    assert resumed.content["metrics"]["test"] == whole.content["metrics"]["test"]


TOO_FAST = "finetune.optimizer.learning_rate=3"


@pytest.mark.slow
def test_what_it_started_from_is_kept_where_no_epoch_is_better(tune, source, monkeypatch):
    """Also through a stop and a resume; the model, its proof, its record and its report say so."""
    run = tune("run", TOO_FAST)
    assert (run.content["best_epoch"], run.content["epochs"]) == (0, 2)
    assert run.content["weights_sha256"] == source.content["weights_sha256"]
    assert run.content["metrics"]["test"] == source.content["metrics"]["test"]
    measured, start = source.content["metrics"], run.content["start"]
    assert start["val_loss"] == pytest.approx(measured["validation"]["loss"], rel=1e-4)
    assert start["val_accuracy"] == measured["validation"]["accuracy"]
    assert (start["test_accuracy"], start["p"]) == (measured["test"]["accuracy"], 1.0)
    assert trained_layers(run) == {"conv2", "dense1", "logits"}
    proof = run.content["freeze_proof"].values()
    assert all(layer["before"] == layer["after"] for layer in proof)
    (reading,) = run.content["reading"]
    assert reading["finding"] == "fine-tuning-lost"
    assert reading["proposal"] == "finetune:\n  optimizer: {learning_rate: 1.0e-05}\n"
    log = (run.path / "log.txt").read_text()
    assert "No epoch of fine-tuning was better on the validation images" in log
    assert "3 trained and kept as they were" in log
    page = render_report(run, Stop())
    assert page.count("kept: the initial weights") == 3  # the facts, and both curves
    assert "and 3 of them did not change" in page
    stop_after_an_epoch(monkeypatch, 1)
    with pytest.raises(Stopped):
        tune("parts", TOO_FAST)
    stopped = Run.open(run.path.with_name("parts"))
    assert stopped.content["best_epoch"] == 0
    assert stopped.content["weights_sha256"] == source.content["weights_sha256"]
    resumed = tune("parts", TOO_FAST, resume=True)
    assert resumed.content["start"] == run.content["start"]
    assert resumed.content["weights_sha256"] == source.content["weights_sha256"]


@pytest.mark.slow
def test_each_step_is_held_against_the_one_before(tune, source, tuned):
    """The first is better than its start, the second is not; its layers are as they were."""
    step = "{unfreeze_blocks: 2, epochs: 2, batch_size: 8, optimizer: {learning_rate: 3}}"
    run = tune("run", f"finetune.then=[{step}]")
    assert run.content["best_epoch"] in (1, 2)
    assert run.content["epochs"] == 4
    assert run.content["weights_sha256"] == tuned.content["weights_sha256"]
    assert run.content["best_epoch"] == tuned.content["best_epoch"]
    proof = run.content["freeze_proof"]
    changed = {name for name, layer in proof.items() if layer["before"] != layer["after"]}
    assert changed == {"conv2", "dense1", "logits"}
    assert trained_layers(run) == {"conv1", *changed}
    assert "step 2: no epoch was better" in (run.path / "log.txt").read_text()
    names = run.content["class_names"]
    before, now = (
        read_predictions(each.path / "predictions-test.csv", names) for each in (source, run)
    )
    right = [each.predicted == each.labels for each in (before, now)]
    lost, gained = np.sum(right[0] & ~right[1]), np.sum(right[1] & ~right[0])
    expected = binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
    assert run.content["start"]["p"] == pytest.approx(expected)
    assert run.content["start"]["test_accuracy"] == right[0].mean()


@pytest.mark.slow
def test_a_step_that_overflows_leaves_the_model_before_it(tune, tuned, tmp_path):
    step = "{unfreeze_blocks: 2, epochs: 2, batch_size: 8, optimizer: {learning_rate: 1e30}}"
    with pytest.raises(TrainingError, match=r"^step 2: epoch 1, step \d of 5: ") as caught:
        tune("run", f"finetune.then=[{step}]")
    assert "Lower finetune.then.0.optimizer.learning_rate from 1e+30 to 1e-05" in str(caught.value)
    run = Run.open(tmp_path / "run")
    assert run.content["best_epoch"] == tuned.content["best_epoch"]
    assert run.content["weights_sha256"] == tuned.content["weights_sha256"]


def test_other_classes_are_refused(tune, source):
    source.update(class_names=["cats", "dogs", "hats"])
    with pytest.raises(ConfigError, match="cats, dogs, hats"):
        tune("run")


def test_another_image_size_is_refused(tune):
    with pytest.raises(ConfigError, match="was trained at"):
        tune("run", "data.image_size=[32, 32]")


def test_too_many_blocks_are_refused(tune):
    with pytest.raises(ConfigError, match="at most 2"):
        tune("run", "finetune.unfreeze_blocks=3", "extract_features.views=unlimited")


def test_a_run_without_a_model_is_refused(tune, source):
    source.model_path.unlink()
    with pytest.raises(RunError, match="there is no model"):
        tune("run")

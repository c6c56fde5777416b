"""What is unfrozen is trained, what is frozen comes from the cache, and both are proven."""

import json
from pathlib import Path

import numpy as np
import pytest

from cvtrain.config import load_config
from cvtrain.console import Console
from cvtrain.errors import ConfigError, RunError, Stopped
from cvtrain.features import extract as extraction
from cvtrain.pipelines.extract_features import extract_features
from cvtrain.pipelines.finetune import finetune
from cvtrain.run import RunRequest

CONFIG = """
seed: 3
precision: float32
data: {{source: {source}, image_size: [16, 20]}}
augment: {{flip: horizontal, rotate: 10}}
extract_features:
  backbone: {{weights: {base}}}
  head: {{dense: [8], dropout: 0.2}}
  views: 2
  epochs: 2
  batch_size: 8
  optimizer: {{name: adam, learning_rate: 1e-2}}
finetune:
  unfreeze_blocks: 1
  epochs: 2
  batch_size: 8
  optimizer: {{name: adam, learning_rate: 1e-3}}
"""


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CVTRAIN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def config(tmp_path, image_folder, finished):
    """config(*overrides) -> Config"""
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG.format(source=image_folder, base=finished.path))
    return lambda *overrides: load_config(path, overrides)


@pytest.fixture
def source(config, tmp_path):
    return extract_features(config(), RunRequest(tmp_path / "source", "tiny"), Console(quiet=True))


@pytest.fixture
def tune(config, source, tmp_path):
    """tune(folder, *overrides, resume=False) -> Run"""

    def run(folder, *overrides, resume=False):
        request = RunRequest(tmp_path / folder, "tiny", resume)
        return finetune(config(*overrides), request, Console(quiet=True), source=source)

    return run


def trained_layers(run):
    return {name for name, layer in run.record["freeze_proof"].items() if layer["trained"]}


def test_the_top_is_trained_and_the_rest_is_not(tune, source):
    run = tune("run")
    assert run.record["status"] == "finished"
    assert trained_layers(run) == {"conv2", "dense1", "logits"}
    assert run.record["source"]["weights"] == source.record["weights_sha256"]
    assert run.record["weights_sha256"] != source.record["weights_sha256"]
    assert run.record["metrics"]["test"]["num_images"] == 15


@pytest.mark.parametrize("views", ["2", "unlimited"])
def test_with_an_average_the_freeze_is_still_proven(tune, views):
    """With unlimited views the frozen layers are in the model that is trained and averaged."""
    settings = (f"finetune.views={views}", "finetune.ema=0.9")
    run = tune("run", *settings)
    assert trained_layers(run) == {"conv2", "dense1", "logits"}
    assert run.record["weights_sha256"] != tune("plain", settings[0]).record["weights_sha256"]


def test_extraction_computed_what_finetuning_needs(tune, monkeypatch):
    """One forward pass of the frozen part serves both commands, for the same views."""
    computed = []
    original = extraction.extract
    monkeypatch.setattr(
        extraction, "extract", lambda *a, **k: computed.append(original(*a, **k)) or computed[-1]
    )
    tune("run")
    assert computed
    assert sum(computed) == 0


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


def test_a_stopped_run_goes_on_to_the_same_weights(tune, monkeypatch):
    steps = "finetune.then=[{unfreeze_blocks: 2, epochs: 2, batch_size: 8}]"
    whole = tune("whole", steps)
    from cvtrain.pipelines import train as module

    original = module.write_history

    def stop_after_three(run, rows):
        original(run, rows)
        if len(rows) == 3 and "stopped" not in seen:
            seen.append("stopped")
            raise_stop()

    import os
    import signal

    seen = []

    def raise_stop():
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(module, "write_history", stop_after_three)
    with pytest.raises(Stopped):
        tune("parts", steps)
    assert (
        json.loads(Path(whole.path.parent, "parts", "run.json").read_text())["status"] == "stopped"
    )
    resumed = tune("parts", steps, resume=True)
    assert resumed.record["weights_sha256"] == whole.record["weights_sha256"]
    assert resumed.record["metrics"]["test"] == whole.record["metrics"]["test"]


def test_other_classes_are_refused(tune, source):
    source.record["class_names"] = ["cats", "dogs", "hats"]
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

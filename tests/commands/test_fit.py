"""A run is complete, true, reproducible, and goes on where it stopped."""

import csv
import errno
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from interrupting import InterruptingConsole
from PIL import Image
from sklearn import metrics as sk

from cvtrain.commands.compare import open_runs, show
from cvtrain.commands.evaluate import evaluate
from cvtrain.commands.fit import fit
from cvtrain.commands.report import render_report
from cvtrain.config import load_config
from cvtrain.errors import (
    ConfigError,
    DataError,
    ResourceError,
    RunError,
    Stopped,
    TrainingError,
)
from cvtrain.models.saved_model import load_model, weights_digest
from cvtrain.runs.run import Run, RunRequest
from cvtrain.system.console import Console
from cvtrain.system.signals import Stop


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_model_file_knows_what_the_run_knows(finished):
    with zipfile.ZipFile(finished.model_path) as archive:
        about = json.loads(archive.read("metadata.json"))["cvtrain"]
    version = about.pop("version")
    assert version == finished.content["versions"]["cvtrain"]
    assert about == {key: finished.content[key] for key in ("class_names", "image_size", "decoder")}


def test_the_run_folder_is_complete(finished):
    names = {str(p.relative_to(finished.path)) for p in finished.path.rglob("*") if p.is_file()}
    assert {
        "config.yaml",
        "run.json",
        "split.json",
        "history.csv",
        "predictions-validation.csv",
        "predictions-test.csv",
        "confusion_matrix.csv",
        "model.keras",
        "log.txt",
        "figures/curves.png",
        "figures/confusion_matrix.png",
        "figures/augmented_samples.png",
        "figures/worst_mistakes.png",
    } <= names
    assert not finished.checkpoints.exists()


def test_the_record_keeps_its_contract(finished, image_folder):
    record = json.loads((finished.path / "run.json").read_text(encoding="utf-8"))
    assert record["format"] == 1
    assert record["command"] == "fit"
    assert record["status"] == "finished"
    assert record["class_names"] == ["blue", "green", "red"]
    assert record["image_size"] == [16, 20]
    assert record["seed"] == 3
    assert record["precision"] == "float32"
    assert record["device"].startswith(("cpu: ", "gpu: "))
    assert {"total", "import", "data", "train", "evaluate"} <= set(record["seconds"])
    assert record["seconds"]["total"] >= record["seconds"]["train"] > 0
    assert record["data"]["root"] == str(image_folder)
    assert record["data"]["counts"]["test"] == {"blue": 5, "green": 5, "red": 5}
    assert len(record["data"]["digest"]) == len(record["weights_sha256"]) == 64
    assert {"python", "cvtrain", "keras", "numpy"} <= set(record["versions"])
    for split in ("train", "validation", "test"):
        assert 0 <= record["metrics"][split]["accuracy"] <= 1
        assert record["metrics"][split]["loss"] >= 0
    low, high = record["metrics"]["test"]["accuracy_interval"]
    assert 0 <= low <= record["metrics"]["test"]["accuracy"] <= high <= 1


def test_the_config_of_the_run_reads_back(finished, config_path):
    assert load_config(finished.path / "config.yaml") == load_config(config_path)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_reported_numbers_follow_from_the_predictions(finished, split):
    rows = read_csv(finished.path / f"predictions-{split}.csv")
    names = finished.content["class_names"]
    labels = [names.index(row["label"]) for row in rows]
    probabilities = np.array([[float(row[f"p({name})"]) for name in names] for row in rows])
    metrics = finished.content["metrics"][split]
    assert sk.accuracy_score(labels, probabilities.argmax(axis=1)) == metrics["accuracy"]
    exact = probabilities / probabilities.sum(axis=1, keepdims=True)
    assert sk.log_loss(labels, exact, labels=[0, 1, 2]) == pytest.approx(metrics["loss"], rel=1e-5)
    for row in rows:
        assert row["file"].startswith(f"{split}/{row['label']}/")
        assert (row["prediction"] == row["label"]) == (row["correct"] == "1")


def test_the_history_has_a_line_an_epoch(finished):
    rows = read_csv(finished.path / "history.csv")
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [*rows[0]] == [
        *("epoch", "step", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy"),
        *("images_per_second", "seconds", "val_seconds"),
    ]
    losses = [float(row["val_loss"]) for row in rows]
    assert finished.content["best_epoch"] == 1 + int(np.argmin(losses))


PLAIN_KERAS = """
import json, sys
import keras, numpy as np
from PIL import Image
assert "cvtrain" not in sys.modules
model = keras.saving.load_model(sys.argv[1])
images = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sys.argv[2:]])
as_float = model.predict(images.astype("float32"), verbose=0)
as_bytes = model.predict(images, verbose=0)
print(json.dumps([as_float.tolist(), as_bytes.tolist()]))
"""


@pytest.mark.slow
def test_plain_keras_opens_the_model_and_agrees(finished, tmp_path):
    """Images of the model's own size, so that decoding is no part of the comparison."""
    from cvtrain.commands.predict import predict

    generator = np.random.default_rng(0)
    paths = []
    for i in range(5):
        pixels = generator.integers(0, 256, (16, 20, 3), dtype=np.uint8)
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(pixels).save(paths[-1])
    output = tmp_path / "out.csv"
    predict(finished, paths, top=1, output=output, batch_size=2, console=Console(quiet=True))
    names = finished.content["class_names"]
    ours = [[float(row[f"p({name})"]) for name in names] for row in read_csv(output)]
    plain = subprocess.run(
        [sys.executable, "-c", PLAIN_KERAS, finished.model_path, *paths],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert plain.returncode == 0, plain.stderr
    for theirs in json.loads(plain.stdout.splitlines()[-1]):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.slow
def test_one_seed_gives_one_model_and_another_gives_another(train, finished, tmp_path):
    again = train(tmp_path / "again")
    assert again.content["weights_sha256"] == finished.content["weights_sha256"]
    assert again.content["metrics"] == finished.content["metrics"]
    other = train(tmp_path / "other", "seed=4", "fit.epochs=1")
    assert other.content["weights_sha256"] != finished.content["weights_sha256"]


@pytest.mark.slow
def test_lines_to_copy_name_the_folder_whatever_it_is_called(train, tmp_path, capsys):
    folder = tmp_path / "my runs" / "a;b"
    train(folder, "fit.epochs=1", console=Console())
    lines = [line for line in capsys.readouterr().out.splitlines() if "   cvtrain " in line]
    assert len(lines) == 4
    for line in lines:
        assert shlex.split(line.partition("cvtrain ")[2])[1] == str(folder)


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_learnt_and_resume_ends_the_same(train, finished, tmp_path):
    folder = tmp_path / "st op"
    with pytest.raises(Stopped, match="what was learnt is in") as caught:
        train(folder, console=InterruptingConsole("epoch 2/4"))
    assert caught.value.advice == f"Go on: cvtrain fit '{folder}' --resume"
    stopped = Run.open(folder)
    assert stopped.content["status"] == "stopped"
    assert stopped.model_path.exists()
    assert list(stopped.checkpoints.iterdir())
    assert len(read_csv(folder / "history.csv")) == 2
    with pytest.raises(RunError, match=r"fit\.batch_size: 8 -> 4"):
        train(folder, "fit.batch_size=4", resume=True)
    resumed = train(folder, resume=True)
    assert resumed.content["status"] == "finished"
    assert "error" not in resumed.content
    assert resumed.content["exact"] is True
    assert resumed.content["weights_sha256"] == finished.content["weights_sha256"]
    assert resumed.content["metrics"] == finished.content["metrics"]
    unlike = {"seconds", "val_seconds", "images_per_second"}
    ours, theirs = (read_csv(run.path / "history.csv") for run in (resumed, finished))
    for a, b in zip(ours, theirs, strict=True):
        assert {k: a[k] for k in a if k not in unlike} == {k: b[k] for k in b if k not in unlike}


MIXED = (
    "augment.rand_augment={num_ops: 2, magnitude: 9}",
    "augment.erase=0.5",
    "augment.mixup=0.2",
    "augment.cutmix=1.0",
    "fit.label_smoothing=0.1",
)


@pytest.mark.slow
def test_a_full_disk_ends_a_training_that_goes_on_when_it_is_freed(
    train, finished, tmp_path, monkeypatch
):
    folder, fsync = tmp_path / "full", os.fsync

    def full_after_an_epoch(handle):
        if (folder / "history.csv").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setenv("CVTRAIN_COMMIT_SECONDS", "0")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_after_an_epoch)
        with pytest.raises(ResourceError, match="the disk is full"):
            train(folder)
    assert len(read_csv(folder / "history.csv")) == 1
    resumed = train(folder, resume=True)
    assert resumed.content["weights_sha256"] == finished.content["weights_sha256"]
    assert resumed.content["metrics"] == finished.content["metrics"]
    assert not list(folder.rglob(".cvtrain-tmp-*"))


@pytest.mark.slow
def test_with_mixed_images_too_resume_ends_the_same(train, tmp_path):
    straight = train(tmp_path / "straight", *MIXED)
    folder = tmp_path / "stopped"
    with pytest.raises(Stopped):
        train(folder, *MIXED, console=InterruptingConsole("epoch 2/4"))
    resumed = train(folder, *MIXED, resume=True)
    assert resumed.content["weights_sha256"] == straight.content["weights_sha256"]
    assert resumed.content["metrics"] == straight.content["metrics"]
    assert (resumed.figures / "augmented_samples.png").exists()


@pytest.mark.slow
def test_mixing_alone_is_drawn_and_trained(train, tmp_path):
    run = train(tmp_path / "run", "augment={mixup: 0.2}", "fit.epochs=1")
    assert run.content["status"] == "finished"
    assert (run.figures / "augmented_samples.png").exists()


@pytest.mark.slow
def test_an_average_and_a_log_leave_their_traces_and_are_resumed(train, tmp_path):
    settings = ("fit.ema=0.9", "log=[tensorboard]")
    straight = train(tmp_path / "straight", *settings)
    folder = tmp_path / "stopped"
    with pytest.raises(Stopped):
        train(folder, *settings, console=InterruptingConsole("epoch 2/4"))
    resumed = train(folder, *settings, resume=True)
    assert resumed.content["weights_sha256"] == straight.content["weights_sha256"]
    assert resumed.content["metrics"] == straight.content["metrics"]
    assert len(list((straight.path / "tensorboard").iterdir())) == 1
    assert len(list((resumed.path / "tensorboard").iterdir())) == 2


def test_mlflow_that_is_missing_is_told_before_there_is_a_run(train, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="mlflow is not installed"):
        train(tmp_path / "run", "log=[mlflow]")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_separable_net_trains_to_a_model_like_any_other(train, tmp_path):
    run = train(tmp_path / "run", "fit.model={name: separable, filters: [4, 8]}", "fit.epochs=1")
    assert run.content["status"] == "finished"
    assert run.content["metrics"]["test"]["num_images"] == 15
    with pytest.raises(ConfigError, match=r"data\.image_size: \[4, 9\] is smaller"):
        train(tmp_path / "small", "fit.model={name: separable}", "data.image_size=[4, 9]")
    assert not (tmp_path / "small").exists()


@pytest.mark.slow
def test_an_accepted_change_trains_longer_and_is_no_longer_exact(train, tmp_path):
    folder = tmp_path / "stopped"
    with pytest.raises(Stopped):
        train(folder, "fit.epochs=2", console=InterruptingConsole("epoch 1/2"))
    config = load_config(folder / "config.yaml", ["fit.epochs=3", "fit.batch_size=4"])
    request = RunRequest(folder, "tiny", resume=True, accept_changes=True)
    run = fit(config, request, Console(quiet=True))
    assert run.content["exact"] is False
    (accepted,) = run.content["accepted_changes"]
    assert accepted["changes"] == ["fit.epochs: 2 -> 3", "fit.batch_size: 8 -> 4"]
    assert len(read_csv(folder / "history.csv")) == 3
    assert "fit.epochs: 2 -&gt; 3" in render_report(run, Stop())


def test_what_a_kill_left_behind_in_a_finished_run_is_removed(train, finished, tmp_path):
    folder = shutil.copytree(finished.path, tmp_path / "run")
    (folder / "checkpoints" / "1").mkdir(parents=True)
    train(folder, resume=True)
    assert not (folder / "checkpoints").exists()


def test_resuming_a_finished_run_changes_nothing(train, finished):
    before = hashlib.sha256((finished.path / "run.json").read_bytes()).digest()
    train(finished.path, resume=True)
    assert hashlib.sha256((finished.path / "run.json").read_bytes()).digest() == before


@pytest.mark.parametrize(
    ("normalised", "what"),
    [
        ("false", "the loss is (nan|inf)"),
        ("true", r"(weights are not finite \(\w+|the loss is (nan|inf))"),
    ],
)
def test_what_is_not_finite_stops_the_run_and_leaves_no_model(train, tmp_path, normalised, what):
    settings = ("fit.optimizer.name=sgd", f"fit.model.batch_normalization={normalised}")
    with pytest.raises(TrainingError, match=rf"epoch 1, step \d of 5: {what}") as caught:
        train(tmp_path / "run", *settings, "fit.optimizer.learning_rate=1e30")
    run = Run.open(tmp_path / "run")
    assert (run.content["status"], run.content["outcome"]) == ("failed", "diverged")
    assert (run.content["error"], run.content["best_epoch"]) == (caught.value.message, None)
    assert not run.model_path.exists()
    assert caught.value.exit_code == 6
    advice = re.match(r"Lower (\S+) from 1e\+30 to (\S+)\. No epoch", caught.value.advice)
    assert load_config(run.path / "config.yaml", ["=".join(advice.groups())])
    assert advice[2] == "0.01"


@pytest.mark.slow
def test_what_was_good_before_is_kept_and_named(train, tmp_path, monkeypatch):
    """Two epochs at a rate that trains, then one that does not; resumed it ends the same."""

    def build_schedule(*_, **__):
        return lambda step: 1e-2 if step < 10 else 1e30

    monkeypatch.setattr("cvtrain.training.loop.build_schedule", build_schedule)
    monkeypatch.setenv("CVTRAIN_COMMIT_SECONDS", "0")
    endings = []
    for resume in (False, True):
        with pytest.raises(TrainingError, match=r"epoch 3, step \d of 5: ") as caught:
            train(tmp_path / "run", resume=resume)
        run = Run.open(tmp_path / "run")
        best = run.content["best_epoch"]
        assert f"{run.model_path} has the weights of epoch {best}, " in caught.value.advice
        assert "fit.optimizer.clip_norm: 1.0" in caught.value.advice
        assert len(read_csv(run.path / "history.csv")) == run.content["epochs"] == 2
        model = load_model(run.require_model(), image_size=(16, 20), num_classes=3)
        assert weights_digest(model) == run.content["weights_sha256"]
        endings.append((best, run.content["weights_sha256"]))
    assert endings[0] == endings[1]


def test_probabilities_that_are_not_finite_leave_no_model(train, tmp_path, monkeypatch):
    def overflowing(*_):
        return lambda name: np.full((12 if name == "validation" else 15, 3), np.nan)

    monkeypatch.setattr("cvtrain.commands.fit.image_predictor", overflowing)
    with pytest.raises(TrainingError, match="not finite for 15 of 15 train images"):
        train(tmp_path / "run", "fit.epochs=1")
    assert not (tmp_path / "run" / "model.keras").exists()


def test_a_rate_that_learns_nothing_is_told_and_its_mistakes_are_not(train, tmp_path, capsys):
    rate = "fit.optimizer.learning_rate=100"
    run = train(tmp_path / "run", rate, "fit.epochs=2", console=Console())
    record = run.content
    assert record["learnt"] is False
    (reading,) = record["reading"]
    assert reading["finding"] == "never-learnt"
    assert reading["proposal"] == "fit:\n  optimizer: {learning_rate: 0.001}\n"
    assert (record["mislabels"]["num"], record["mislabels"]["judged"]) == (0, {})
    assert record["mistakes"]["num"] == 0
    assert len(read_csv(run.path / "mislabels.csv")) == 0
    assert not (run.path / "mistakes").exists()
    assert not (run.figures / "worst_mistakes.png").exists()
    said = capsys.readouterr().out
    assert "The model has not learnt: on the 27 validation and test images" in said
    assert "No validation or test images are listed as likely mislabels or worst mist" in said
    assert "worst_mistakes.png" not in said
    page = render_report(run, Stop())
    assert "The model has not learnt" in page
    assert "They are left out" in page
    assert "Validation and test images are left out" in page
    contenders = open_runs([run])
    show(contenders, {}, Console())
    assert "run: the model has not learnt" in capsys.readouterr().err


def test_an_existing_folder_is_not_overwritten(train, finished):
    with pytest.raises(RunError, match="is there already"):
        train(finished.path)


def test_a_net_too_deep_for_the_images_is_told_first(train, tmp_path):
    with pytest.raises(ConfigError, match="nothing is left of the image at stage 3"):
        train(tmp_path / "run", "fit.model.filters=[4, 4, 4, 4]")
    assert not (tmp_path / "run").exists()


def test_bad_images_are_told_first_or_skipped(train, tmp_path, image_folder):
    source = shutil.copytree(image_folder, tmp_path / "messy")
    (source / "train" / "red" / "broken.jpg").write_bytes(b"<html>")
    shutil.copy(source / "test" / "blue" / "000.png", source / "train" / "blue" / "leak.png")
    with pytest.raises(DataError) as caught:
        train(tmp_path / "run", f"data.source={source}")
    assert "train/red/broken.jpg" in caught.value.message
    assert "train/blue/leak.png" in caught.value.message
    assert not (tmp_path / "run").exists()
    skipping = ("data.on_bad=skip", "fit.epochs=1")
    run = train(tmp_path / "run", f"data.source={source}", *skipping)
    assert run.content["data"]["counts"]["train"] == {"blue": 12, "green": 12, "red": 12}


def test_metrics_that_a_config_asks_for_stand_wherever_loss_and_accuracy_do(
    train, finished, tmp_path, capsys
):
    run = train(
        tmp_path / "run", "fit.metrics=[macro_f1, top_5]", "log=[tensorboard]", console=Console()
    )
    assert run.record.weights_sha256 == finished.record.weights_sha256
    rows = read_csv(run.path / "history.csv")
    both = ["val_macro_f1", "val_top_5"]
    assert [*rows[0]][5:9] == ["val_loss", "val_accuracy", *both]
    shown = "  ".join(f"{name} {float(rows[0][name]):.3f}" for name in both)
    assert shown in capsys.readouterr().err
    test = run.content["metrics"]["test"]
    mean = np.mean([row["f1"] for row in test["per_class"].values()])
    assert test["macro_f1"] == pytest.approx(mean)
    assert run.record.metrics.validation.chosen["top_5"] == 1.0
    assert (
        evaluate(run, source=None, split="test", output=None, console=Console(quiet=True)) == test
    )
    page = render_report(run, Stop())
    for text in ("Macro_f1 by epoch: validation", '<th scope="col">validation macro_f1</th>'):
        assert text in page
    (events,) = (run.path / "tensorboard").iterdir()
    for tag in (b"macro_f1/validation", b"final/test_macro_f1"):
        assert tag in events.read_bytes()


def test_class_weights_and_epochs_of_any_length(train, tmp_path):
    run = train(
        tmp_path / "run", "fit.class_weights=balanced", "fit.steps_per_epoch=7", "fit.epochs=2"
    )
    rows = read_csv(run.path / "history.csv")
    assert [row["step"] for row in rows] == ["7", "14"]


def test_a_finished_run_that_was_edited_keeps_its_checkpoints(train, tmp_path):
    folder = tmp_path / "stopped"
    with pytest.raises(Stopped):
        train(folder, console=InterruptingConsole("epoch 2/4"))
    path = folder / "run.json"
    path.write_text(path.read_text().replace('"status": "stopped"', '"status": "finished"'))
    with pytest.raises(RunError, match="damaged or edited"):
        train(folder, resume=True)
    assert list((folder / "checkpoints").iterdir())

"""A run done again is the same to the last bit, and whatever differs is named."""

import contextlib
import csv
import json
import os
import shutil

import numpy as np
import pytest
from interrupting import InterruptingConsole
from PIL import Image

from cvtrain.commands.extract_features import extract_features
from cvtrain.commands.finetune import finetune
from cvtrain.commands.reproduce import reproduce, reproduction_path
from cvtrain.config import load_config
from cvtrain.errors import ConfigError, DataError, NotReproduced, RunError, Stopped
from cvtrain.models.saved_model import open_keras_file, save_model
from cvtrain.runs.run import Run, RunRequest
from cvtrain.system.console import Console
from cvtrain.system.files import cache_dir

QUIET = Console(quiet=True)


pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture(scope="module")
def averaged(train, tmp_path_factory):
    """A run with augmentation, dropout, batch normalisation, a plateau and a moving average."""
    return train(tmp_path_factory.mktemp("runs") / "averaged", "fit.ema=0.9", "fit.epochs=2")


@pytest.fixture
def copy(averaged, tmp_path):
    """A copy of it, to be changed."""
    return Run.open(shutil.copytree(averaged.path, tmp_path / "copy"))


@pytest.fixture
def again(tmp_path):
    """again(first, ...) -> Run: its reproduction in a folder of its own."""

    def run(first, folder="again", *, source=None, resume=False, accept=False, console=QUIET):
        return reproduce(
            first,
            tmp_path / folder,
            console,
            source=source,
            resume=resume,
            accept_changes=accept,
        )

    return run


def found(folder):
    return json.loads((folder / "reproduction.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_run_is_reproduced_bit_for_bit_also_when_stopped(averaged, again, tmp_path, capsys):
    folder, cache = tmp_path / "again", os.environ["CVTRAIN_CACHE"]
    with pytest.raises(Stopped) as caught:
        again(averaged, console=InterruptingConsole("epoch 1/2"))
    assert caught.value.advice == (
        f"Go on: cvtrain reproduce {averaged.path} --run-dir {folder} --resume"
    )
    assert not (folder / "reproduction.json").exists()
    with pytest.raises(RunError, match="is there already"):
        again(averaged)
    run = again(averaged, resume=True)
    assert run.content["weights_sha256"] == averaged.content["weights_sha256"]
    assert run.content["exact"] is True
    comparison = found(run.path)
    assert comparison["identical"] is True
    assert comparison["changed"] == []
    assert comparison["run"] == str(averaged.path)
    assert comparison["weights"] == {"identical": True, "layers": {}}
    assert comparison["history"] == {"identical": True, "epochs": [2, 2], "columns": {}}
    assert comparison["metrics"] == {"identical": True, "values": {}}
    assert comparison["predictions"]["test"] == {
        "identical": True,
        "num_images": 15,
        "num_others": 0,
        "num_changed": 0,
        "largest_difference": 0.0,
    }
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["what", "reproduced", "largest difference"]
    assert rows[1] == ["weights", "yes", ""]
    assert f"{averaged.path} is reproduced bit for bit by {run.path}" in rows[-1][0]
    assert os.environ["CVTRAIN_CACHE"] == cache
    assert not list(cache_dir().glob("reproductions/*"))
    (run.path / "reproduction.json").unlink()  # killed before it was written
    assert found(again(averaged, resume=True).path)["identical"] is True


@pytest.fixture(scope="module")
def tuned(averaged, transfer_config, tmp_path_factory):
    """A fine-tuned run and the run that it started from; bfloat16 was measured to be faster."""
    folder = tmp_path_factory.mktemp("transfer")
    overrides = ("precision=auto", "extract_features.epochs=2")
    config = load_config(transfer_config(averaged), overrides)
    with pytest.MonkeyPatch.context() as patch:
        speeds = {"float32": 1.0, "bfloat16": 2.0}
        patch.setattr("cvtrain.training.precision._measure", lambda *_, **__: speeds)
        source = extract_features(config, RunRequest(folder / "features", "transfer"), QUIET)
        return finetune(config, RunRequest(folder / "tuned", "transfer"), QUIET, source=source)


@pytest.fixture
def computed(monkeypatch):
    """The folders of the caches that features were committed to."""
    from cvtrain.features.store import FeatureStore

    original, folders = FeatureStore.commit, []

    def commit(store, keys, parts):
        folders.append(store.folder)
        original(store, keys, parts)

    monkeypatch.setattr(FeatureStore, "commit", commit)
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("which", ["features", "tuned"])
def test_features_are_computed_anew_and_the_run_is_the_same(
    which, tuned, again, computed, monkeypatch
):
    monkeypatch.setattr(
        "cvtrain.training.precision._measure", lambda *_, **__: pytest.fail("measured again")
    )
    first = Run.open(tuned.path.parent / which)
    run = again(first)
    assert run.content["weights_sha256"] == first.content["weights_sha256"]
    assert found(run.path)["identical"] is True
    for key in ("precision", "source"):
        assert run.content.get(key) == first.content.get(key)
    assert first.content["features"]
    for layer, features in first.content["features"].items():
        assert features["precision"] == "bfloat16"
        assert run.content["features"][layer]["precision"] == features["precision"]
    assert computed
    assert all("reproductions" in str(folder) for folder in computed)
    assert not any(folder.exists() for folder in computed)


def test_a_changed_weight_is_named_by_its_layer(averaged, copy):
    from cvtrain.commands.reproduce.run_diff import compare_runs, rows_of

    model = open_keras_file(copy.model_path)
    kernel, *others = model.get_layer("conv2").get_weights()
    kernel.flat[7] += 0.25
    model.get_layer("conv2").set_weights([kernel, *others])
    save_model(model, copy.model_path)
    comparison = compare_runs(averaged, copy)
    assert comparison["identical"] is False
    assert comparison["weights"]["layers"].keys() == {"conv2"}
    assert comparison["weights"]["layers"]["conv2"] == pytest.approx(0.25, rel=1e-6)
    assert comparison["metrics"]["identical"]
    rows = rows_of(comparison)
    assert rows[:2] == [("weights", "layers that differ: 1", ""), ("  conv2", "differs", "0.25")]


def test_changed_numbers_are_found_where_they_are(averaged, copy):
    from cvtrain.commands.reproduce.run_diff import compare_runs

    with (copy.path / "history.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    rows[1][header.index("val_loss")] = "9.5"
    rows[1][header.index("seconds")] = "1000"
    (copy.path / "history.csv").write_text("\n".join(map(",".join, [header, *rows])))
    metrics = copy.content["metrics"]
    metrics["test"]["loss"] += 1
    path = copy.path / "predictions-test.csv"
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    told = rows[0][header.index("prediction")]
    other = next(name for name in averaged.content["class_names"] if name != told)
    first, second = (header.index(f"p({name})") for name in (told, other))
    before = [float(rows[0][first]), float(rows[0][second])]
    rows[0][first], rows[0][second] = rows[0][second], rows[0][first]
    path.write_text("\n".join(map(",".join, [header, *rows])))
    comparison = compare_runs(averaged, copy)
    assert comparison["weights"]["identical"]
    assert comparison["history"]["columns"].keys() == {"val_loss"}
    assert comparison["metrics"]["values"].keys() == {"test.loss"}
    assert comparison["predictions"]["train"]["identical"]
    test = comparison["predictions"]["test"]
    assert test["largest_difference"] == pytest.approx(abs(before[0] - before[1]), rel=1e-6)
    assert test["num_changed"] == 1
    assert comparison["identical"] is False


def test_one_changed_pixel_is_an_error_unless_asked_for(averaged, again, image_folder, tmp_path):
    source = shutil.copytree(image_folder, tmp_path / "images")
    path = source / "train" / "red" / "000.png"
    pixels = np.array(Image.open(path))
    pixels[0, 0, 0] ^= 128
    Image.fromarray(pixels).save(path)
    with pytest.raises(DataError, match="images: the content of files changed"):
        again(averaged, source=str(source))
    assert not (tmp_path / "again").exists()
    with pytest.raises(NotReproduced, match="the content of files changed") as caught:
        again(averaged, source=str(source), accept=True)
    assert caught.value.exit_code == 7
    comparison = found(tmp_path / "again")
    assert comparison["identical"] is False
    assert comparison["changed"] == ["images: the content of files changed"]
    model = open_keras_file(averaged.model_path)
    layers = {layer.name for layer in model.layers if layer.trainable_weights}
    assert comparison["weights"]["layers"].keys() == layers
    assert all(0 < difference < 10 for difference in comparison["weights"]["layers"].values())
    assert comparison["predictions"]["test"]["largest_difference"] > 0


@pytest.fixture
def configs(monkeypatch):
    """Runs of fit are done again by copying them; their configs are kept."""
    kept = []

    def fit(config, request, _):
        kept.append(config)
        first = Run.open(request.path).content["reproduces"]["run"]
        return Run.open(shutil.copytree(first, request.path, dirs_exist_ok=True))

    monkeypatch.setattr("cvtrain.commands.reproduce.fit", fit)
    return kept


class Listening(Console):
    """Keeps what it warns of."""

    def __init__(self):
        super().__init__(quiet=True)
        self.warnings = []

    def warning(self, text):
        self.warnings.append(text)


def test_another_seed_in_the_config_is_told(copy, again, configs):
    path, console = copy.path / "config.yaml", Listening()
    path.write_text(path.read_text().replace("seed: 3", "seed: 4"))
    run = again(copy, console=console)
    assert [config.seed for config in configs] == [4]
    changed = ["config.yaml: edited in the run folder since the run was started"]
    assert console.warnings == found(run.path)["changed"] == changed


def test_other_weights_to_start_from_are_told(copy, again, tmp_path):
    weights = tmp_path / "weights.h5"
    weights.write_bytes(b"other by now")
    settings = f"extract_features: {{backbone: {{name: vgg16, weights: {weights}}}}}\n"
    path, console = copy.path / "config.yaml", Listening()
    path.write_text(path.read_text() + settings)
    identity = {"config": "", "weights": {"extract_features.backbone.weights": "0" * 64}}
    copy.update(command="extract-features", identity=copy.content["identity"] | identity)
    with contextlib.suppress(RunError, ConfigError):  # the engine would find no weights in it
        again(copy, console=console)
    assert "extract_features.backbone.weights: other weights than at the start" in console.warnings


def test_a_run_that_is_not_exact_is_told(copy, again, configs):
    entry = {
        "when": "2026-11-22T09:00:00+00:00",
        "changes": ["fit.epochs: 1 -> 2", "threads: 2 -> 1"],
    }
    copy.update(exact=False, accepted_changes=[entry])
    console = Listening()
    again(copy, console=console)
    assert len(configs) == 1
    assert console.warnings == [
        "the run is not exact, because it was continued with: fit.epochs: 1 -> 2; threads: 2 -> 1"
    ]


def test_images_may_lie_elsewhere(copy, again, configs, image_folder, tmp_path):
    source = shutil.copytree(image_folder, tmp_path / "images")
    console = Listening()
    again(copy, source=str(source), console=console)
    assert [config.data.source for config in configs] == [str(source)]
    assert console.warnings == []


def test_another_environment_is_told_and_it_goes_on(copy, again, configs):
    environment, console = copy.content["environment"], Listening()
    threads = environment["threads"]
    other = {"threads": threads | {"available": 64}, "variables": {"XLA_FLAGS": "--fast"}}
    copy.update(environment=environment | other)
    again(copy, console=console)
    assert len(configs) == 1
    assert console.warnings == [
        f"threads: 64 -> {threads['available']}",
        "XLA_FLAGS: --fast -> not set",
    ]


def test_only_a_reproduction_of_the_same_run_is_resumed(averaged, again, tmp_path):
    Run.create(tmp_path / "again", "fit", name="tiny")
    with pytest.raises(RunError, match="is not a reproduction of"):
        again(averaged, resume=True)
    runs = tmp_path / "runs"
    first = Run.open(shutil.copytree(averaged.path, runs / "first"))
    with pytest.raises(RunError, match="there is no run to continue"):
        reproduction_path(first, resume=True)
    mark = {"run": str(first.path), "weights": first.content["weights_sha256"]}
    Run.create(runs / "other", "fit", name="tiny", reproduces=mark | {"run": "elsewhere"})
    Run.create(runs / "right", "fit", name="tiny", reproduces=mark)
    assert reproduction_path(first, resume=True) == runs / "right"
    new = reproduction_path(first, resume=False)
    assert (new.parent, new.name[15:]) == (runs, "-reproduce-tiny")


def test_another_model_to_start_from_is_refused(tuned, averaged, again, tmp_path):
    runs = shutil.copytree(tuned.path.parent, tmp_path / "runs")
    first = Run.open(runs / "tuned")
    first.update(source=first.content["source"] | {"run": str(runs / "features")})
    shutil.copy(averaged.model_path, runs / "features" / "model.keras")
    with pytest.raises(RunError, match="not the weights that fine-tuning started from"):
        again(first)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("command", ["probe", "learning-curve", "ladder", "find-lr"])
def test_runs_of_other_kinds_are_refused(command, again, tmp_path):
    run = Run.create(tmp_path / "run", command, name="tiny")
    with pytest.raises(RunError, match=f"is a run of {command}, which cannot"):
        again(run)


def test_an_unfinished_run_is_refused(again, tmp_path):
    run = Run.create(tmp_path / "run", "fit", name="tiny")
    with pytest.raises(RunError, match="there is no model in this run"):
        again(run)

"""Features are computed once, the head is trained on them, and the run is a normal one."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from cvtrain.commands import extract_features as module
from cvtrain.commands.extract_features import extract_features
from cvtrain.commands.finetune import finetune
from cvtrain.commands.learning_curve import learning_curve
from cvtrain.commands.probe import probe
from cvtrain.config import load_config
from cvtrain.errors import ConfigError, DataError, RunError, Stopped, TrainingError
from cvtrain.runs.run import RunRequest
from cvtrain.system.console import Console

CONFIG = """
seed: 3
precision: float32
data: {{source: {source}, image_size: [16, 20]}}
augment: {{flip: horizontal, rotate: 10}}
extract_features:
  backbone: {{weights: {base}, cut: pool1}}
  head: {{dense: [8], dropout: 0.2}}
  epochs: 3
  batch_size: 8
  optimizer: {{name: adam, learning_rate: 1e-2}}
"""


@pytest.fixture(scope="module")
def transfer_config(tmp_path_factory, image_folder, finished):
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(CONFIG.format(source=image_folder, base=finished.path))
    return path


@pytest.fixture
def extract(tmp_path, transfer_config, extracted, monkeypatch):
    """extract(folder, *overrides, **options) -> Run; the cache has what `extracted` left."""
    shutil.copytree(extracted.path.parent / "cache", tmp_path / "cache")
    monkeypatch.setenv("CVTRAIN_CACHE", str(tmp_path / "cache"))

    def run(folder, *overrides, features_only=False, resume=False):
        return extract_features(
            load_config(transfer_config, overrides),
            RunRequest(tmp_path / folder, "tiny", resume),
            Console(quiet=True),
            features_only=features_only,
        )

    return run


@pytest.fixture(scope="module")
def extracted(tmp_path_factory, transfer_config):
    """A finished run that had to compute all features."""
    folder = tmp_path_factory.mktemp("extracted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVTRAIN_CACHE", str(folder / "cache"))
        return extract_features(
            load_config(transfer_config), RunRequest(folder / "run", "tiny"), Console(quiet=True)
        )


def test_the_run_is_a_normal_one(extracted):
    run = extracted
    names = {str(p.relative_to(run.path)) for p in run.path.rglob("*") if p.is_file()}
    assert {
        "config.yaml",
        "run.json",
        "split.json",
        "history.csv",
        "model.keras",
        "predictions-train.csv",
        "predictions-test.csv",
        "figures/curves.png",
    } <= names
    record = json.loads((run.path / "run.json").read_text())
    assert record["command"] == "extract-features"
    assert record["status"] == "finished"
    assert record["metrics"]["test"]["num_images"] == 15
    assert record["base"]["cut"] == "pool1"


def test_the_base_is_frozen_and_the_head_is_not(extracted):
    proof = extracted.content["freeze_proof"]
    assert {name for name, layer in proof.items() if layer["trained"]} == {"dense1", "logits"}
    assert {"conv1", "conv1_norm"} <= {n for n, each in proof.items() if not each["trained"]}
    for layer in proof.values():
        assert (layer["before"] != layer["after"]) == layer["trained"]


def test_the_numbers_are_those_of_the_saved_model(extracted, tmp_path):
    """Plain Keras on the saved model, against the predictions that came from the cache."""
    run = extracted
    rows = [line.split(",") for line in (run.path / "predictions-test.csv").read_text().split()]
    files, probabilities = [], []
    for row in rows[1:]:
        files.append(row[0])
        probabilities.append([float(p) for p in row[-3:]])
    code = """
import json, sys
import keras, numpy as np
model = keras.saving.load_model(sys.argv[1])
print(json.dumps(model.predict(np.load(sys.argv[2]), verbose=0).tolist()))
"""
    from cvtrain.steps.inference import decoder_of_run

    root, decoder = run.content["data"]["root"], decoder_of_run(run)
    pixels = [decoder((Path(root) / f).read_bytes()).pixels for f in files]
    np.save(tmp_path / "pixels.npy", np.stack(pixels))
    done = subprocess.run(
        [sys.executable, "-c", code, run.model_path, tmp_path / "pixels.npy"],
        capture_output=True,
        text=True,
        check=True,
    )
    np.testing.assert_allclose(json.loads(done.stdout), probabilities, atol=1e-6)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(extract, extracted):
    assert extract("a").content["weights_sha256"] == extracted.content["weights_sha256"]


def test_each_image_is_computed_once(extracted):
    assert extracted.content["features"]["pool1"]["num_computed"] == 36


@pytest.mark.slow
@pytest.mark.parametrize(
    "head",
    ["{pooling: flatten, dense: []}", "{name: logistic}"],
)
def test_another_head_computes_no_features_and_learns(extract, count_forward, head):
    epochs = "extract_features.epochs=15"
    run = extract("b", f"extract_features.head={head}", epochs)
    assert sum(count_forward) == 0
    assert run.content["metrics"]["test"]["accuracy"] >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "num_computed"),
    [
        (["extract_features.backbone.cut=conv1_relu"], 63),
        (["data.image_size=[16,20]"], 0),
        (["extract_features.epochs=2"], 0),
        (["extract_features.views=2"], 72),
    ],
)
def test_what_changes_the_features_computes_them_anew(
    extract, count_forward, changes, num_computed
):
    extract("b", *changes)
    assert sum(count_forward) == num_computed


@pytest.mark.slow
def test_a_changed_image_is_computed_alone(extract, count_forward, image_folder, tmp_path):
    copy = tmp_path / "images"
    shutil.copytree(image_folder, copy)
    victim = sorted((copy / "train" / "red").iterdir())[0]
    pixels = np.asarray(Image.open(victim)).copy()
    pixels[0, 0] ^= 64
    Image.fromarray(pixels).save(victim)
    extract("b", f"data.source={copy}")
    assert sum(count_forward) == 1


@pytest.mark.slow
def test_views_are_computed_once_each(extract):
    run = extract("a", "extract_features.views=3", "extract_features.epochs=6")
    assert run.content["features"]["pool1"]["num_computed"] == 3 * 36
    assert (run.path / "figures" / "augmented_samples.png").exists()


def test_views_without_augmentation_are_refused(extract):
    with pytest.raises(ConfigError, match="no augment section"):
        extract("a", "extract_features.views=3", "augment=null")


def test_unlimited_views_run_the_base_in_every_step(extract, count_forward):
    run = extract("a", "extract_features.views=unlimited")
    assert count_forward == []
    trained = {n for n, layer in run.content["freeze_proof"].items() if layer["trained"]}
    assert trained == {"dense1", "logits"}


@pytest.mark.slow
def test_images_are_mixed_where_views_are_unlimited(extract):
    mixed = "augment={flip: horizontal, rotate: 10, mixup: 1}"
    runs = [
        extract(name, "extract_features.views=unlimited", *settings)
        for name, settings in {"a": [], "b": [mixed]}.items()
    ]
    assert runs[0].content["weights_sha256"] != runs[1].content["weights_sha256"]


def test_arrays_for_use_elsewhere(extract):
    run = extract("a", features_only=True)
    assert run.content["status"] == "finished"
    with pytest.raises(RunError, match="no model in this run of extract-features"):
        run.require_model()
    features = np.load(run.path / "features" / "test.npy")
    table = parquet.read_table(run.path / "features" / "test.parquet").to_pydict()
    assert features.shape == (15, 4)
    np.testing.assert_array_equal(np.array(table["features"], np.float32), features)
    assert sorted(set(table["class"])) == ["blue", "green", "red"]
    assert all(
        f"test/{name}/" in path for name, path in zip(table["class"], table["file"], strict=True)
    )


def test_tables_without_pyarrow_are_csv(extract, monkeypatch):
    with_it = extract("a", features_only=True)
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    without_it = extract("b", features_only=True)
    for name in ("train", "validation", "test"):
        table = parquet.read_table(with_it.path / "features" / f"{name}.parquet").to_pylist()
        lines = csv.DictReader(
            (without_it.path / "features" / f"{name}.csv").read_text().splitlines()
        )
        columns = ("file", "view", "label", "class")
        assert list(lines) == [{column: str(row[column]) for column in columns} for row in table]
    assert not list(without_it.path.glob("features/*.parquet"))


def test_arrays_are_all_that_a_run_begun_for_them_goes_on_to(extract, monkeypatch):
    def stop(*_):
        raise Stopped("stopped", "go on")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_features", stop)
        with pytest.raises(Stopped):
            extract("a", features_only=True)
    run = extract("a", resume=True)
    assert run.content["status"] == "finished"
    assert not run.model_path.exists()
    whole = extract("b", features_only=True)
    for name in ("train", "validation", "test"):
        array = f"features/{name}.npy"
        assert (run.path / array).read_bytes() == (whole.path / array).read_bytes()


def test_arrays_of_unlimited_views_are_refused(extract):
    with pytest.raises(ConfigError, match="unlimited"):
        extract("a", "extract_features.views=unlimited", features_only=True)


@pytest.mark.slow
def test_a_network_of_keras_by_name(extract):
    run = extract(
        "a",
        "extract_features.backbone={name: mobilenet, alpha: 0.25, weights: none, cut: conv_pw_2}",
        "data.image_size=32",
        "extract_features.epochs=1",
    )
    assert run.content["base"]["cut"] == "conv_pw_2_relu"


def test_a_run_knows_its_network(extract):
    with pytest.raises(ConfigError, match="Leave out name"):
        extract("a", "extract_features.backbone.name=vgg16")


@pytest.mark.parametrize("place", ["beside", "above", "through a link"])
def test_images_that_the_base_was_trained_on_do_not_test_it(extract, image_folder, place):
    """The same images under another split."""
    if place == "through a link":
        link = image_folder.with_name("link")
        link.symlink_to(image_folder)
        image_folder = link
    manifest = (image_folder.parent if place == "above" else image_folder) / "other.csv"
    lines = ["path,label,split"]
    for split, other in {"train": "test", "validation": "validation", "test": "train"}.items():
        for path in sorted((image_folder / split).rglob("*.png")):
            lines.append(f"{path.relative_to(manifest.parent)},{path.parent.name},{other}")
    manifest.write_text("\n".join(lines))
    try:
        with pytest.raises(DataError, match="was trained on 36 of the test images"):
            extract("a", f"data.source={manifest}")
    finally:
        manifest.unlink()
        image_folder.with_name("link").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def broken_base(tmp_path_factory, finished):
    """broken_base(layer, **values) -> a copy of the finished run with these weights."""

    def make(layer, **values):
        folder = tmp_path_factory.mktemp("base") / "run"
        shutil.copytree(finished.path, folder)
        model = keras.saving.load_model(folder / "model.keras", compile=False)
        for weight, value in values.items():
            variable = getattr(model.get_layer(layer), weight)
            variable.assign(np.full(variable.shape, value))
        model.save(folder / "model.keras")
        return f"extract_features.backbone={{weights: {folder}, cut: pool2}}"

    return make


@pytest.fixture(scope="module")
def dead_base(broken_base):
    """One whose last map is zero for all images."""
    return broken_base("conv2_norm", beta=-1e3)


@pytest.mark.slow
def test_features_that_are_all_zero_are_no_freeze_failure(extract, dead_base, tmp_path):
    run = extract("a", dead_base)
    assert run.content["status"] == "finished"
    assert run.content["constant_features"] == ["pool2"]
    assert run.content["without_gradient"] == ["dense1"]
    proof = run.content["freeze_proof"]
    assert proof["dense1"]["trained"]
    assert proof["dense1"]["before"] == proof["dense1"]["after"]
    assert proof["logits"]["before"] != proof["logits"]["after"]
    assert run.content["learnt"] is False
    (reading,) = run.content["reading"]
    assert (
        "The output of the frozen backbone at pool2 is the same for all images" in reading["detail"]
    )
    log = (run.path / "log.txt").read_text()
    assert "warning: the output of the frozen backbone at pool2 is the same for all images" in log
    assert "warning: training did not change dense1" in log
    # Nobody says of such features which labels are wrong, in fine-tuning either.
    config = load_config(run.path / "config.yaml", ["finetune.unfreeze_blocks=1"])
    request = RunRequest(tmp_path / "tuned", "tiny")
    tuned = finetune(config, request, Console(quiet=True), source=run)
    assert tuned.content["mislabels"]["judged"] == run.content["mislabels"]["judged"] == {}
    assert tuned.content["without_gradient"] == ["conv2", "dense1"]
    (reading,) = tuned.content["reading"]
    assert "The inputs or outputs of conv2, dense1 are zero for all images" in reading["detail"]
    config = load_config(run.path / "config.yaml", ["learning_curve={shares: [1.0], seeds: 1}"])
    curve = learning_curve(config, RunRequest(tmp_path / "curve", "tiny"), Console(quiet=True))
    assert "no better than guessing (0.3333)" in (curve.path / "log.txt").read_text()


def test_a_head_in_closed_form_learns_nothing_of_zeros(extract, dead_base):
    run = extract("a", dead_base, "extract_features.head={name: logistic}")
    assert run.content["constant_features"] == ["pool2"]
    assert run.content["learnt"] is False
    assert [reading["finding"] for reading in run.content["reading"]] == ["never-learnt"]
    assert np.isfinite(run.content["metrics"]["test"]["loss"])


def test_features_that_are_too_large_are_no_matter_of_the_rate(extract, broken_base):
    with pytest.raises(TrainingError, match=r"step 1 of 5: the loss is nan") as caught:
        extract("a", broken_base("conv2_norm", beta=3e38))
    assert "The weights that it starts from are too large, whatever the rate" in str(caught.value)
    assert "learning_rate" not in str(caught.value)


def test_features_that_are_not_finite_are_told_before_anything_learns_from_them(
    extract, broken_base, tmp_path
):
    base = broken_base("conv2_norm", gamma=3e38, moving_variance=0.0)
    with pytest.raises(TrainingError, match="values at pool2 that are not finite"):
        extract("a", base)
    config = load_config(tmp_path / "a" / "config.yaml")
    for measure in (probe, learning_curve):
        with pytest.raises(TrainingError, match="that are not finite"):
            measure(config, RunRequest(tmp_path / measure.__name__, "tiny"), Console(quiet=True))

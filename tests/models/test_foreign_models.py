"""What a stranger's model is, and that every line of Python that is advised does what it says."""

import io
import json
import shlex
import shutil
import sys
import types
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from plain_keras import network, write_h5, write_keras3

from cvtrain.backend import keras
from cvtrain.errors import RunError
from cvtrain.models.saved_model import open_keras_file
from cvtrain.models.weights import load_weights

NAME = "mobilenet with alpha 0.25"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*HDF5")]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The network; a classifier with it as a layer; the same inside a third: in all formats."""
    folder = tmp_path_factory.mktemp("models")
    base = network("mobilenet", alpha=0.25)
    images = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(base(images))
    nested = keras.Model(images, keras.layers.Dense(3)(pooled))
    deep = keras.Sequential([keras.Input((32, 32, 3)), nested, keras.layers.Dense(2)])
    for name, model in {"base": base, "nested": nested, "deep": deep}.items():
        model.save(folder / f"{name}.keras")
        keras.src.legacy.saving.legacy_h5_format.save_model_to_hdf5(model, folder / f"{name}.h5")
        with h5py.File(folder / f"{name}.h5", "r+") as file:  # an argument of Keras 2
            config = file.attrs["model_config"]
            old = '"class_name": "DepthwiseConv2D", "config": {'
            file.attrs["model_config"] = config.replace(old, f'{old}"groups": 1, ')
            assert old in config
    write_keras3(nested, folder / "nested.weights.h5")
    write_h5(nested, folder / "only-weights.h5")
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def empty():
    return network("mobilenet", alpha=0.25)


def assert_gives_backbone(path, model, models):
    for weight in model.weights:
        weight.assign(np.zeros(weight.shape))
    load_weights(model, Path(path), name=NAME)
    expected = keras.saving.load_model(models / "base.keras", compile=False)
    for got, wanted in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(got, wanted)


def refused(call, *args, **options):
    with pytest.raises(RunError) as caught:
        call(*args, **options)
    assert "\n" not in f"{caught.value.message}{caught.value.advice}"
    return caught.value


def follow(advice):
    """Run the lines of Python in an advice, as a shell would give them to Python."""
    commands = advice.split("python -c ")[1:]
    assert commands
    for command in commands:
        lexer = shlex.shlex(command, posix=True, punctuation_chars=";,")
        lexer.whitespace_split = True
        exec(next(lexer), {})


@pytest.fixture
def keras2(monkeypatch):
    """keras2(name): a `.keras` file as Keras 2 writes it; `tf_keras` opens what it is made of."""

    def make(source, target):
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
            config = old.read("config.json").replace(
                b"keras.src.models.functional", b"keras.src.engine.functional"
            )
            new.writestr("metadata.json", json.dumps({"keras_version": "2.15.0"}))
            new.writestr("config.json", config)
            new.writestr("model.weights.h5", old.read("model.weights.h5"))

        def load_model(name, compile):
            assert Path(name) == target
            assert not compile
            return keras.saving.load_model(source, compile=False)

        module = types.ModuleType("tf_keras")
        module.models = types.SimpleNamespace(load_model=load_model)
        monkeypatch.setitem(sys.modules, "tf_keras", module)
        return target

    return make


# Weights


@pytest.mark.parametrize("name", ["base.keras", "nested.keras", "nested.h5", "deep.keras"])
def test_weights_are_taken_out_of_a_model_as_is_advised(name, models, empty):
    shutil.copy(models / name, name)
    error = refused(load_weights, empty, Path(name), name=NAME)
    assert ("is a Keras model" in error.message) == name.endswith(".keras")
    assert ("mobilenet_0.25_32" in error.advice) == (name != "base.keras")
    follow(error.advice)
    assert_gives_backbone(error.advice.rpartition("backbone.weights: ")[2], empty, models)


def test_an_archive_that_is_called_h5_is_renamed_first(models, empty):
    shutil.copy(models / "nested.keras", "a.h5")
    error = refused(load_weights, empty, Path("a.h5"), name=NAME)
    assert "rename it to a.keras" in error.advice
    Path("a.h5").rename("a.keras")
    follow(error.advice)
    assert_gives_backbone("a-backbone.weights.h5", empty, models)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("nested.weights.h5", "model.get_layer(NAME).save_weights('NAME.weights.h5')"),
        ("only-weights.h5", "model.get_layer('mobilenet_0.25_32').save_weights('NAME.weights.h5')"),
    ],
)
def test_a_base_in_a_file_of_weights_is_saved_where_it_was_made(name, line, models, empty):
    error = refused(load_weights, empty, models / name, name=NAME)
    assert error.advice.endswith(line)
    model = keras.saving.load_model(models / "nested.keras", compile=False)
    exec(line, {"model": model, "NAME": "mobilenet_0.25_32"})
    assert_gives_backbone("NAME.weights.h5", empty, models)


def test_the_model_of_a_run_is_named_by_its_run(models, here, empty):
    shutil.copy(models / "nested.keras", "model.keras")
    Path("run.json").write_text("{}")
    error = refused(load_weights, empty, Path("model.keras").absolute(), name=NAME)
    assert f"backbone.weights: {here}" in error.advice


@pytest.mark.parametrize(
    ("name", "content", "what", "advice"),
    [
        ("a.h5", b"", "is an empty file", "Fetch or copy it again"),
        ("a.h5", b"\0" * 99, "is a file of zero bytes", "Fetch or copy it again"),
        ("a.h5", b"\n<!DOCTYPE html>", "is an HTML or XML page", "Fetch or copy it again"),
        ("a.h5", b"version https://git-lfs", "is a Git LFS pointer", "git lfs pull"),
        ("a.onnx", b"x", "is an ONNX model", "a file of Keras' weights"),
        ("a.bin", b"\x1c\0\0\0TFL3", "is a TensorFlow Lite model", "a file of Keras' weights"),
        ("a.pth", b"x", "is a PyTorch model", "a file of Keras' weights"),
        ("a.safetensors", b"x", "is a file of weights", "a file of Keras' weights"),
        ("saved_model.pb", b"x", "is a TensorFlow SavedModel", "model.save_weights("),
        ("a.keras", b"PK\3\4" + bytes(26) + b"metadata.json", "whose end is missing", "again"),
    ],
)
def test_what_is_none_of_keras_weights_is_named(name, content, what, advice, here, empty):
    Path(name).write_bytes(content)
    error = refused(load_weights, empty, Path(name), name=NAME)
    assert what in error.message
    assert f"expected the weights of {NAME} in HDF5" in error.message
    assert advice in error.advice
    if name == "saved_model.pb":
        assert (
            "SavedModel, which is a folder" in refused(load_weights, empty, here, name=NAME).message
        )


# Models


def assert_same_answer(path, other):
    images = np.random.default_rng(0).uniform(0, 1, (2, 32, 32, 3)).astype("float32")
    opened, expected = open_keras_file(Path(path)), keras.saving.load_model(other, compile=False)
    np.testing.assert_array_equal(opened(images), expected(images))


def test_hdf5_that_is_called_keras_is_converted_as_is_advised(models):
    shutil.copy(models / "nested.h5", "a.keras")
    error = refused(open_keras_file, Path("a.keras"))
    assert "a Keras model in HDF5" in error.message
    assert "rename it to a.h5" in error.advice
    assert "If you trust" in error.advice
    Path("a.keras").rename("a.h5")
    follow(error.advice)
    assert_same_answer("a.keras", models / "nested.keras")


def test_a_model_of_keras_2_is_converted_as_is_advised(models, keras2):
    path = keras2(models / "base.keras", Path("a b.keras"))
    error = refused(open_keras_file, path)
    assert "Keras 2.15.0 wrote it" in error.message
    assert "pip install tf-keras" in error.advice
    follow(error.advice)
    assert_same_answer("a b-keras3.keras", models / "base.keras")


def test_a_model_in_one_of_keras_2_is_said_to_be_built_anew(models, keras2):
    path = keras2(models / "nested.keras", Path("a.keras"))
    assert "Build it in Keras 3" in refused(open_keras_file, path).advice


def test_weights_are_taken_out_of_a_model_of_keras_2_as_is_advised(models, keras2, empty):
    path = keras2(models / "nested.keras", Path("a.keras"))
    error = refused(load_weights, empty, path, name=NAME)
    assert "pip install tf-keras" in error.advice
    # Keras 3 wants that name.
    follow(error.advice.replace("a-backbone.h5", "a-backbone.weights.h5"))
    assert_gives_backbone("a-backbone.weights.h5", empty, models)


def test_a_file_that_no_keras_wrote_is_named():
    Path("a.keras").write_bytes(b"<html>")
    error = refused(open_keras_file, Path("a.keras"))
    assert "an HTML or XML page; expected a .keras archive" in error.message
    assert error.advice == "Fetch or copy it again."


def test_a_compressed_archive_is_saved_again_as_is_advised(models):
    with (
        zipfile.ZipFile(models / "base.keras") as stored,
        zipfile.ZipFile("a.keras", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    error = refused(open_keras_file, Path("a.keras"))
    assert "compressed" in error.message
    assert "If you trust" in error.advice
    follow(error.advice)
    assert_same_answer("a-unpacked.keras", models / "base.keras")


@pytest.fixture
def scaling(models):
    """HDF5 of Keras 3 with operators in the graph, and a backbone inside; Keras cannot open it."""
    images = keras.Input((32, 32, 3))
    base = keras.saving.load_model(models / "base.keras", compile=False)
    pooled = keras.layers.GlobalAveragePooling2D()(base(images / 127.5 - 1.0))
    model = keras.Model(images, keras.layers.Dense(3)(pooled))
    model.save("a.h5")
    with pytest.raises(ValueError, match="Unknown layer"):
        keras.saving.load_model("a.h5", compile=False)
    return model


def test_operators_in_hdf5_are_no_reason_for_a_line_that_fails(scaling, models, empty):
    advice = refused(open_keras_file, Path("a.h5")).advice
    assert "operators in its graph: Subtract, TrueDivide. Build it in Keras 3" in advice
    advice = refused(load_weights, empty, Path("a.h5"), name=NAME).advice
    line = advice.partition("where it was made: ")[2].partition(", then")[0]
    exec(line, {"model": scaling})
    assert_gives_backbone("a-backbone.weights.h5", empty, models)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_operators_of_keras_2_are_named(suffix):
    layer = {"name": "tf.math.truediv", "trainable": True, "function": "math.truediv"}
    operator = {"class_name": "TFOpLambda", "config": layer}
    config = json.dumps({"class_name": "Functional", "config": {"layers": [operator]}})
    path = Path(f"a{suffix}")
    if suffix == ".keras":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", json.dumps({"keras_version": "2.15.0"}))
            archive.writestr("config.json", config)
            archive.writestr("model.weights.h5", b"")
    else:
        with h5py.File(path, "w") as file:
            file.attrs["keras_version"] = "2.15.0"
            file.attrs["model_config"] = config
    assert "operators in its graph: TFOpLambda" in refused(open_keras_file, path).advice


def zip_of(*names):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "what", "advice"),
    [
        ("a.npz", zip_of("a.npy"), "a file of NumPy arrays", "model.save('NAME.keras')"),
        ("a.pkl", b"\x80\4.", "a pickled Python object", "model.save('NAME.keras')"),
        ("a.index", b"\0\0x", "a part of a TensorFlow checkpoint", "model.save('NAME.keras')"),
        ("a.tar.gz", b"\x1f\x8b", "an archive", "Unpack it, and name the model that is in it."),
        (
            "converted_keras.zip",  # as Teachable Machine exports it
            zip_of("labels.txt", "keras_model.h5"),
            "a ZIP archive with keras_model.h5 in it",
            "Unpack it, and name keras_model.h5.",
        ),
    ],
)
def test_what_others_keep_models_in_is_named_with_the_way_on(name, content, what, advice, empty):
    path = Path(name)
    path.write_bytes(content)
    error = refused(open_keras_file, path)
    assert what in error.message
    assert advice in error.advice
    error = refused(load_weights, empty, path, name=NAME)
    assert what in error.message
    assert "Fetch or copy" not in error.advice

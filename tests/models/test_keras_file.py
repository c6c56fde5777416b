"""What Keras saves of models of images passes; what does not is in tests/robustness/hostile."""

import io
import zipfile
from pathlib import PurePosixPath

import h5py
import numpy as np
import pytest
from tiny_models import VARIANTS, flat, images

from cvtrain.backend import keras
from cvtrain.errors import RunError
from cvtrain.models.keras_file import check_keras_file, layer_names
from cvtrain.models.saved_model import open_keras_file, weights_digest


@pytest.mark.parametrize("name", VARIANTS)
def test_models_of_all_kinds_are_opened(name, tmp_path):
    model = VARIANTS[name]()
    model.save(tmp_path / "x.keras")
    stored = check_keras_file(tmp_path / "x.keras").num_values
    # Without the states of random generators, which Keras does not save.
    assert stored == sum(int(np.prod(weight.shape)) for weight in model.weights)
    opened = open_keras_file(tmp_path / "x.keras")
    # Not their paths: Keras builds what is nested elsewhere when it opens it.
    assert [w.numpy().tobytes() for w in opened.weights] == [
        w.numpy().tobytes() for w in model.weights
    ]
    np.testing.assert_array_equal(opened(images(), training=False), model(images(), training=False))


def test_a_trained_model_is_opened_without_its_optimizer(tmp_path):
    model = flat()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images(4), np.array([0, 1, 2, 0]), verbose=0)
    model.save(tmp_path / "x.keras")
    opened = open_keras_file(tmp_path / "x.keras")
    assert weights_digest(opened) == weights_digest(model)
    assert not opened.compiled


@pytest.mark.parametrize("name", ["doubly nested", "augmenting"])
def test_a_model_that_lacks_any_of_its_weights_is_refused(name, tmp_path):
    model = VARIANTS[name]()
    model.save(tmp_path / "x.keras")
    members = members_of(tmp_path / "x.keras")
    arrays = arrays_in(members["model.weights.h5"])
    assert len(arrays) == len(model.weights)
    groups = {str(parent) for path in arrays for parent in PurePosixPath(path).parents[:-1]}
    for lost in (*arrays, *groups):
        content = io.BytesIO(members["model.weights.h5"])
        with h5py.File(content, "r+") as file:
            del file[lost]
        with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
            for member, data in (members | {"model.weights.h5": content.getvalue()}).items():
                archive.writestr(member, data)
        with pytest.raises(RunError, match="weights of its layers are missing"):
            open_keras_file(tmp_path / "x.keras")


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def arrays_in(content):
    """Paths of the arrays in an HDF5 file."""
    paths = []
    with h5py.File(io.BytesIO(content)) as file:
        file.visit(paths.append)
        return [path for path in paths if isinstance(file[path], h5py.Dataset)]


def test_a_model_and_a_layer_in_it_may_be_called_twice(tmp_path):
    inside = keras.Input((3,))
    inner = keras.Model(inside, keras.layers.Dense(3)(inside))
    photographs = keras.Input((6, 6, 3))
    again, layer = inner(inner(pooled(photographs))), keras.layers.Dense(3)
    assert_opens(keras.Model(photographs, layer(layer(again))), tmp_path, num_weights=4)


def test_a_layer_may_be_in_use_and_be_wrapped_besides(tmp_path):
    # Its config stands in the file twice, and its weights once.
    layer = keras.layers.Dense(3)
    photographs = keras.Input((6, 6, 3))
    wrapped = keras.layers.SpectralNormalization(layer)(layer(pooled(photographs)))
    assert_opens(keras.Model(photographs, wrapped), tmp_path, num_weights=3)


def pooled(photographs):
    return keras.layers.GlobalAveragePooling2D()(photographs)


def assert_opens(model, folder, *, num_weights):
    model.save(folder / "x.keras")
    opened = open_keras_file(folder / "x.keras")
    assert len(opened.weights) == len(model.weights) == num_weights
    photographs = images(shape=(6, 6, 3))
    np.testing.assert_array_equal(opened(photographs), model(photographs))


def test_two_models_that_share_a_layer_are_refused_as_keras_does(tmp_path):
    # Of the two it saves the weights once, and reads them for each.
    shared = keras.layers.Dense(8)
    inside = [keras.Input((3,)), keras.Input((3,))]
    one, other = (keras.Model(each, shared(each)) for each in inside)
    photographs = keras.Input((6, 6, 3))
    added = keras.layers.Add()([one(pooled(photographs)), other(pooled(photographs))])
    keras.Model(photographs, added).save(tmp_path / "x.keras")
    with pytest.raises(RunError, match="a layer that two models in it share, Keras loses"):
        open_keras_file(tmp_path / "x.keras")
    with (
        pytest.warns(UserWarning, match="Skipping nested container"),
        pytest.raises(ValueError, match="could not be loaded"),
    ):
        keras.saving.load_model(tmp_path / "x.keras")


def test_layers_are_named_at_any_depth(tmp_path):
    VARIANTS["nested functional"]().save(tmp_path / "x.keras")
    assert {"base", "early", "late", "top"} <= set(layer_names(tmp_path / "x.keras"))
    with pytest.raises(RunError, match="no such file"):
        layer_names(tmp_path / "none.keras")

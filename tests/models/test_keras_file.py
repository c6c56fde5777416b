"""What Keras saves of models of images passes; what does not is in tests/hostile."""

import numpy as np
import pytest
from tiny_models import VARIANTS, flat, images

from cvtrain.backend import keras
from cvtrain.errors import RunError
from cvtrain.models.invariant import open_keras_file, weights_digest
from cvtrain.models.keras_file import check_keras_file, layer_names


@pytest.mark.parametrize("name", VARIANTS)
def test_models_of_all_kinds_are_opened(name, tmp_path):
    model = VARIANTS[name]()
    model.save(tmp_path / "x.keras")
    stored = check_keras_file(tmp_path / "x.keras").num_values
    assert stored == sum(int(np.prod(variable.shape)) for variable in model.variables)
    opened = open_keras_file(tmp_path / "x.keras")
    assert weights_digest(opened) == weights_digest(model)
    np.testing.assert_array_equal(opened(images(), training=False), model(images(), training=False))


def test_a_trained_model_is_opened_without_its_optimizer(tmp_path):
    model = flat()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images(4), np.array([0, 1, 2, 0]), verbose=0)
    model.save(tmp_path / "x.keras")
    opened = open_keras_file(tmp_path / "x.keras")
    assert weights_digest(opened) == weights_digest(model)
    assert not opened.compiled


def test_two_models_may_share_a_layer(tmp_path):
    shared = keras.layers.Dense(8)
    inside = [keras.Input((3,)), keras.Input((3,))]
    one, other = (keras.Model(each, shared(each)) for each in inside)
    photographs = keras.Input((6, 6, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(photographs)
    model = keras.Model(photographs, keras.layers.Add()([one(pooled), other(pooled)]))
    model.save(tmp_path / "x.keras")
    opened = open_keras_file(tmp_path / "x.keras")
    assert len(opened.weights) == len(model.weights) == 2


def test_layers_are_named_at_any_depth(tmp_path):
    VARIANTS["nested functional"]().save(tmp_path / "x.keras")
    assert {"base", "early", "late", "top"} <= set(layer_names(tmp_path / "x.keras"))
    with pytest.raises(RunError, match="no such file"):
        layer_names(tmp_path / "none.keras")

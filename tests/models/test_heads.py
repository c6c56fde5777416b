"""Each head is what it says, by scikit-learn, and a stock model that plain Keras reopens."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from cvtrain.backend import keras
from cvtrain.errors import ConfigError
from cvtrain.models.convnet import build_convnet
from cvtrain.models.heads import attach_dense, attach_logistic, pool
from cvtrain.models.transfer import layers_above
from cvtrain.sections import Convnet, Head
from cvtrain.training.linear_probe import fit_logistic

RNG = np.random.default_rng(0)


def images(count):
    return RNG.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def base():
    net = Convnet(filters=(4, 5), padding="same", dense=())
    return build_convnet(net, image_size=(16, 16), num_classes=2)


@pytest.mark.parametrize("pooling", ["average", "max", "flatten"])
def test_pooling_by_hand_is_the_layers(base, pooling):
    head = Head(pooling=pooling, dense=(), dropout=0.0)
    model = attach_dense(base, "pool2", head, num_classes=3)
    batch = images(6)
    maps = keras.Model(model.input, model.get_layer("pool2").output).predict(batch, verbose=0)
    vectors = keras.Model(model.input, model.get_layer("features").output).predict(batch, verbose=0)
    np.testing.assert_allclose(pool(maps, pooling), vectors, rtol=1e-5, atol=1e-6)


def test_a_dense_head_has_what_was_asked_for(base):
    head = Head(pooling="flatten", dense=(7, 6), dropout=0.5)
    model = attach_dense(base, "pool2", head, num_classes=3, seed=1)
    names = ["features", "dense1", "dropout1", "dense2", "dropout2", "logits", "probabilities"]
    assert layers_above(model, "pool2") == names
    assert model.get_layer("dense1").kernel.shape == (4 * 4 * 5, 7)
    head = Head(pooling="flatten", dense=(7,), dropout=0.0)
    other = attach_dense(base, "pool2", head, num_classes=3, seed=1)
    np.testing.assert_array_equal(
        np.array(model.get_layer("dense1").kernel), np.array(other.get_layer("dense1").kernel)
    )


def test_a_cut_that_is_no_map_is_refused(base):
    with pytest.raises(ConfigError, match="not a map"):
        attach_dense(base, "features", Head(), num_classes=3)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_logistic_regression_is_scikit_learns(base, num_classes, tmp_path):
    train, validation, batch = images(60), images(30), images(9)
    body = keras.Model(base.input, base.get_layer("pool2").output)
    labels = RNG.integers(0, num_classes, 60)
    features = pool(body.predict(train, verbose=0), "average")
    held_out = pool(body.predict(validation, verbose=0), "average")
    coefficients, intercepts, strength = fit_logistic(
        (features, labels), (held_out, RNG.integers(0, num_classes, 30))
    )
    model = attach_logistic(base, "pool2", Head(), coefficients=coefficients, intercepts=intercepts)
    scaler = StandardScaler().fit(features)
    oracle = LogisticRegression(C=strength, max_iter=10000, tol=1e-8).fit(
        scaler.transform(features), labels
    )
    asked = scaler.transform(pool(body.predict(batch, verbose=0), "average"))
    np.testing.assert_allclose(
        model.predict(batch, verbose=0), oracle.predict_proba(asked), atol=2e-3
    )
    assert_reopens(model, batch, tmp_path)


def assert_reopens(model, batch, folder):
    model.save(folder / "model.keras")
    reopened = keras.saving.load_model(folder / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(
        reopened.predict(batch, verbose=0), model.predict(batch, verbose=0)
    )

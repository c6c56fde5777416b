"""The depth story against scikit-learn and NumPy."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity
from test_activations import residual
from tiny_models import SHAPE, images, layers, seeded, top

from cvtrain.backend import keras
from cvtrain.errors import DataError
from cvtrain.explain.flat_model import open_model
from cvtrain.explain.layer_statistics import class_similarity, depth_layers, depth_story
from cvtrain.models.convnet import build_convnet
from cvtrain.sections import Convnet

LABELS = np.array([0, 2, 1, 0, 2, 1, 0])


pytestmark = pytest.mark.usefixtures("seeded_engine")


def test_similarity_is_the_centred_cosine():
    rng = np.random.default_rng(0)
    features = rng.normal(3, 1, (6, 5))
    labels = np.array([0, 1, 0, 1, 0, 1])
    cosines = cosine_similarity(features - features.mean(axis=0))
    within, across = class_similarity(features, labels)
    assert within[0] == pytest.approx((cosines[0, 2] + cosines[0, 4]) / 2, abs=1e-6)
    assert across[0] == pytest.approx(cosines[0, 1::2].mean(), abs=1e-6)


def test_a_larger_class_does_not_move_the_centre():
    a, b = np.array([[1.0, 0.2]]), np.array([[0.1, 1.0]])
    few = class_similarity(np.concatenate([a, a, b, b]), np.array([0, 0, 1, 1]))
    many = class_similarity(np.concatenate([a] * 9 + [b, b]), np.array([0] * 9 + [1, 1]))
    for one, other in zip(few, many, strict=True):
        np.testing.assert_allclose(one[-1], other[-1], atol=1e-6)


def test_opposite_classes_and_equal_images():
    features = np.repeat([[2.0, 5.0], [4.0, 1.0]], 3, axis=0)
    within, across = class_similarity(features, np.repeat([0, 1], 3))
    np.testing.assert_allclose(within, 1, atol=1e-6)
    np.testing.assert_allclose(across, -1, atol=1e-6)
    for constant in (0, 0.1, 7e30):
        for values in class_similarity(np.full((6, 3), constant), np.repeat([0, 1], 3)):
            np.testing.assert_array_equal(values, 0)


def test_what_is_not_finite_counts_as_zero():
    features = np.array([[np.nan, 1], [np.inf, 2], [1, -np.inf], [3, 4]])
    for values in class_similarity(features, np.array([0, 0, 1, 1])):
        assert np.isfinite(values).all()


def test_layers_through_which_all_passes():
    net = Convnet(filters=(2, 3), dense=(4,))
    convnet = build_convnet(net, image_size=(20, 20), num_classes=3)
    names = ["conv1_relu", "pool1", "conv2_relu", "pool2", "dense1", "logits"]
    assert depth_layers(open_model(convnet)) == names
    # Not the branch before the sum.
    assert depth_layers(open_model(residual())) == [
        "relu1",
        "relu2",
        "pool",
        "conv3",
        "average",
        "top",
    ]


def test_a_story_is_what_the_layers_compute():
    model = residual()
    batch = images(len(LABELS))
    shares = []
    story = depth_story(open_model(model), batch, LABELS, batch_size=3, on_batch=shares.append)
    assert shares == pytest.approx([3 / 7, 6 / 7, 1])
    place = story.layers.index("relu2")
    part = keras.Model(model.input, model.get_layer("relu2").output)
    activations = np.asarray(part(batch, training=False))
    expected = (activations == 0).mean(axis=(1, 2, 3))
    assert 0 < expected.mean() < 1
    np.testing.assert_allclose(story.sparsity[place], expected, atol=1e-6)
    within, across = class_similarity(activations.mean(axis=(1, 2)), LABELS)
    np.testing.assert_allclose(story.within[place], within, atol=1e-4)
    np.testing.assert_allclose(story.across[place], across, atol=1e-4)


def test_a_dead_network_has_a_finite_story():
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(3, 3, name="conv", **seeded(1))(inputs)
    x = layers.ReLU(max_value=0, name="dead")(x)
    model = keras.Model(inputs, top()(layers.Flatten()(x)))
    story = depth_story(open_model(model), images(len(LABELS)), LABELS)
    np.testing.assert_array_equal(story.sparsity[story.layers.index("dead")], 1)
    for values in (story.sparsity, story.within, story.across):
        assert np.isfinite(values).all()


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 1], [0, 1, 2]])
def test_too_few_to_compare(labels):
    with pytest.raises(DataError, match="two classes"):
        depth_story(open_model(residual()), images(3), np.array(labels))

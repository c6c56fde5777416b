"""The network that a config describes is the one that is built."""

import numpy as np
import pytest

from cvtrain.config import load_config
from cvtrain.errors import ConfigError
from cvtrain.steps.network import build_network, check_image_size

MODELS = {
    "convnet": "{filters: [4, 8], padding: same, dense: [5]}",
    "separable": "{name: separable, filters: [4, 8]}",
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_it_takes_the_pixels_of_the_config_and_answers_for_every_class(config_path, model):
    config = load_config(config_path, [f"fit.model={model}", "data.image_size=[40, 33]"])
    network = build_network(config, 4, "float32")
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 33, 3), dtype=np.uint8)
    probabilities = np.asarray(network(images))
    assert probabilities.shape == (2, 4)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_the_seed_of_the_config_is_that_of_the_weights(config_path):
    def weights(*overrides):
        network = build_network(load_config(config_path, overrides), 3, "float32")
        return [weight.tobytes() for weight in network.get_weights()]

    assert weights() == weights()
    assert weights() != weights("seed=4")


def test_images_that_are_too_small_are_refused(config_path):
    settings = ["fit.model={filters: [4, 4, 4, 4, 4]}", "data.image_size=16"]
    with pytest.raises(ConfigError, match="image_size"):
        check_image_size(load_config(config_path, settings))
    check_image_size(load_config(config_path, [settings[0], "data.image_size=128"]))

"""The network that a config describes is the one that is built."""

import pytest

from cvtrain.config import load_config
from cvtrain.errors import ConfigError
from cvtrain.steps.network import builder, output_sizes

MODELS = {
    "convnet": "{filters: [4, 8], padding: same, dense: [5]}",
    "valid": "{filters: [4, 8], kernel_size: 5, pooling: [2, 1]}",
    "separable": "{name: separable, filters: [4, 8]}",
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_sizes_known_before_the_engine_are_those_of_the_net(config_path, model):
    config = load_config(config_path, [f"fit.model={model}", "data.image_size=[40, 33]"])
    network = builder(config, 3)("float32")
    assert network.input.shape == (None, 40, 33, 3)
    assert network.output.shape == (None, 3)
    maps = [layer.output.shape[1:3] for layer in network.layers if len(layer.output.shape) == 4]
    # Each size is that of some layer, in the order in which the pixels pass them.
    found = iter(maps)
    assert all(any(size == each for each in found) for size in output_sizes(config))


def test_the_seed_of_the_config_is_that_of_the_weights(config_path):
    def weights(*overrides):
        model = builder(load_config(config_path, overrides), 3)("float32")
        return [weight.tobytes() for weight in model.get_weights()]

    assert weights() == weights()
    assert weights() != weights("seed=4")


def test_images_that_are_too_small_are_refused(config_path):
    settings = ["fit.model={filters: [4, 4, 4, 4, 4]}", "data.image_size=16"]
    with pytest.raises(ConfigError, match="image_size"):
        output_sizes(load_config(config_path, settings))

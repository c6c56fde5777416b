"""The network of section `fit`, which is trained from scratch."""

from __future__ import annotations

from collections.abc import Callable

from cvtrain.backend import keras
from cvtrain.config import Config
from cvtrain.models import convnet, separable

_Sizes = list[tuple[int, int]]

NETWORKS: dict[str, tuple[Callable[..., keras.Model], Callable[..., _Sizes]]] = {
    "convnet": (convnet.build_convnet, convnet.output_sizes),
    "separable": (separable.build_separable, separable.output_sizes),
}
"""`fit.model.name` -> the functions that build it and return its output sizes."""


def check_image_size(config: Config) -> None:
    """Raise ConfigError where the images are too small for the network, without TensorFlow."""
    net = config.fit.model
    _, output_sizes = NETWORKS[net.name]
    output_sizes(net, config.data.image_size)


def build_network(
    config: Config, num_classes: int, precision: str, *, for_training: bool = False
) -> keras.Model:
    """Build the network of a config; arguments as of `models.convnet.build_convnet`."""
    net = config.fit.model
    build, _ = NETWORKS[net.name]
    return build(
        net,
        image_size=config.data.image_size,
        num_classes=num_classes,
        precision=precision,
        for_training=for_training,
        seed=config.seed,
    )

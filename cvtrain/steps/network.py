"""The network of section `fit`, which is trained from scratch."""

from __future__ import annotations

from collections.abc import Callable

from cvtrain.backend import keras
from cvtrain.config import Config
from cvtrain.models import convnet, separable
from cvtrain.sections import Separable


def output_sizes(config: Config) -> list[tuple[int, int]]:
    """Height and width of the map after each stage of the net; TensorFlow is not needed.

    Raises:
        ConfigError: the images are too small for the net.
    """
    model, image_size = config.fit.model, config.data.image_size
    if isinstance(model, Separable):
        return separable.output_sizes(image_size, filters=model.filters)
    sizing = {"filters", "kernel_size", "padding", "strides", "pooling"}
    return convnet.output_sizes(image_size, **model.model_dump(include=sizing))


def builder(config: Config, num_classes: int) -> Callable[..., keras.Model]:
    """The net of a config as a function: `build(precision, for_training=False)`."""
    settings = config.fit.model.model_dump(exclude={"name"}) | {
        "image_size": config.data.image_size,
        "num_classes": num_classes,
        "seed": config.seed,
    }

    def build(precision: str, *, for_training: bool = False) -> keras.Model:
        if isinstance(config.fit.model, Separable):
            return separable.build_separable(precision=precision, **settings)
        return convnet.build_convnet(precision=precision, for_training=for_training, **settings)

    return build

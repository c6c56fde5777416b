"""The book's small residual net of separable convolutions: Xception in little.

F. Chollet, *Deep Learning with Python*, second edition 9.3.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cvtrain.backend import keras
from cvtrain.errors import ConfigError
from cvtrain.models.convnet import initializer_of, seed_of
from cvtrain.sections import Separable

_STEM_FILTERS = 32
_STEM_KERNEL = 5


def output_sizes(net: Separable, image_size: Sequence[int]) -> list[tuple[int, int]]:
    """Height and width of the feature map after each block; it never vanishes on the way.

    Args:
        net: the section `fit.model`.
        image_size: height, width in pixels.

    Raises:
        ConfigError: the image is smaller than the first window.
    """
    if min(image_size) < _STEM_KERNEL:
        raise ConfigError(
            f"data.image_size: {list(image_size)} is smaller than the first window of the "
            f"separable net, {_STEM_KERNEL}x{_STEM_KERNEL}",
            "Use larger images (data.image_size).",
        )
    height, width = (side - _STEM_KERNEL + 1 for side in image_size)
    sizes = []
    for _ in net.filters:
        height, width = -(-height // 2), -(-width // 2)
        sizes.append((height, width))
    return sizes


def build_separable(
    net: Separable,
    *,
    image_size: Sequence[int],
    num_classes: int,
    precision: str = "float32",
    for_training: bool = False,  # noqa: ARG001
    seed: int = 0,
) -> keras.Model:
    """Build the net so that it keeps the invariant: RGB pixels 0..255 in, probabilities out.

    A convolution of 5x5 with 32 channels, then one block for each of `net.filters`, which halves
    the map: two separable convolutions of 3x3, each after batch normalisation and relu, and
    max-pooling of 3x3, added to a convolution of 1x1 of the input. Then each channel is averaged.

    Args:
        net: the section `fit.model`.
        image_size: height, width in pixels.
        num_classes: length of the output.
        precision: `float32`, `bfloat16` or `float16`, of the computation; weights are float32.
        for_training: as in `build_convnet`; there is no difference here.
        seed: the initial weights and the dropout depend on it alone.

    Raises:
        ConfigError: as `output_sizes` does.
    """
    output_sizes(net, image_size)
    layers = keras.layers
    policy = precision if precision == "float32" else f"mixed_{precision}"

    def convolution(channels: int, kernel: int, name: str, **options: Any) -> keras.Layer:
        initializer = initializer_of(seed, name)
        options = {"use_bias": False, "kernel_initializer": initializer, "dtype": policy} | options
        return layers.Conv2D(channels, kernel, name=name, **options)

    def separable(
        x: keras.KerasTensor, channels: int, block: str, number: int
    ) -> keras.KerasTensor:
        name = f"{block}_sepconv{number}"
        x = layers.BatchNormalization(dtype=policy, name=f"{name}_norm")(x)
        x = layers.Activation("relu", dtype=policy, name=f"{name}_relu")(x)
        return layers.SeparableConv2D(
            channels,
            3,
            padding="same",
            use_bias=False,
            depthwise_initializer=initializer_of(seed, f"{name}_depthwise"),
            pointwise_initializer=initializer_of(seed, f"{name}_pointwise"),
            dtype=policy,
            name=name,
        )(x)

    images = keras.Input((*image_size, 3), name="images")
    x = layers.Rescaling(1 / 255, dtype=policy, name="preprocess")(images)
    x = convolution(_STEM_FILTERS, _STEM_KERNEL, "stem_conv")(x)
    for i, channels in enumerate(net.filters, 1):
        block, before = f"block{i}", x
        x = separable(x, channels, block, 1)
        x = separable(x, channels, block, 2)
        x = layers.MaxPooling2D(3, strides=2, padding="same", dtype=policy, name=f"{block}_pool")(x)
        shortcut = convolution(channels, 1, f"{block}_shortcut", strides=2, padding="same")(before)
        x = layers.Add(dtype=policy, name=f"{block}_add")([x, shortcut])
    x = layers.GlobalAveragePooling2D(dtype=policy, name="features")(x)
    if net.dropout:
        x = layers.Dropout(
            net.dropout, seed=seed_of(seed, "dropout"), dtype=policy, name="dropout"
        )(x)
    logits = layers.Dense(
        num_classes, kernel_initializer=initializer_of(seed, "logits"), dtype=policy, name="logits"
    )(x)
    # In float32 always: a softmax in bfloat16 has two digits.
    probabilities = layers.Softmax(dtype="float32", name="probabilities")(logits)
    return keras.Model(images, probabilities, name="separable")

"""The book's convnet: stages of convolution and pooling, then a classifier on top.

F. Chollet, *Deep Learning with Python*, first edition 5.1-5.2, second edition 8.1-8.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from cvtrain.backend import keras
from cvtrain.errors import ConfigError
from cvtrain.sections import Convnet

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow and OpenCV convert to grey


def output_sizes(net: Convnet, image_size: Sequence[int]) -> list[tuple[int, int]]:
    """Height and width of the feature map after each stage.

    Args:
        net: the section `fit.model`.
        image_size: height, width in pixels.

    Raises:
        ConfigError: the map vanishes on the way.
    """
    height, width = image_size
    sizes = [(height, width)]
    for stage, (_, kernel, step, pool) in enumerate(_stages(net), 1):
        border = kernel - 1 if net.padding == "valid" else 0
        # Windows that fit, one every `step`: (size - border) / step, rounded up.
        height, width = (max(0, -(-(side - border) // step)) // pool for side in sizes[-1])
        if min(height, width) < 1:
            way = " -> ".join(f"{high}x{wide}" for high, wide in sizes)
            raise ConfigError(
                f"model.filters: nothing is left of the image at stage {stage} of "
                f"{len(net.filters)}: {way} -> {height}x{width}",
                "Use larger images (data.image_size), fewer stages, smaller windows or strides, "
                "pooling 1 in late stages, or padding: same.",
            )
        sizes.append((height, width))
    return sizes[1:]


def build_convnet(
    net: Convnet,
    *,
    image_size: Sequence[int],
    num_classes: int,
    precision: str = "float32",
    for_training: bool = False,
    seed: int = 0,
) -> keras.Model:
    """Build a convnet that keeps the invariant: RGB pixels 0..255 in, probabilities out.

    Args:
        net: the section `fit.model`.
        image_size: height, width in pixels.
        num_classes: length of the output.
        precision: `float32`, `bfloat16` or `float16`, of the computation; weights are float32.
        for_training: pool before each relu instead of after it. The two commute, so the model is
            the same function with the same weights, and most relus see a quarter of the values.
        seed: the initial weights and the dropout depend on it alone.

    Raises:
        ConfigError: as `output_sizes` does.
    """
    output_sizes(net, image_size)
    layers = keras.layers
    policy = precision if precision == "float32" else f"mixed_{precision}"

    initializer = partial(initializer_of, seed)
    images = keras.Input((*image_size, 3), name="images")
    if net.grayscale:
        x = _to_gray(images)
    else:
        x = layers.Rescaling(1 / 255, dtype=policy, name="preprocess")(images)
    for i, (channels, kernel, step, pool) in enumerate(_stages(net), 1):
        x = layers.Conv2D(
            channels,
            kernel,
            strides=step,
            padding=net.padding,
            use_bias=not net.batch_normalization,
            kernel_initializer=initializer(f"conv{i}"),
            dtype=policy,
            name=f"conv{i}",
        )(x)
        if net.batch_normalization:
            x = layers.BatchNormalization(dtype=policy, name=f"conv{i}_norm")(x)
        then = [layers.Activation("relu", dtype=policy, name=f"conv{i}_relu")]
        if pool > 1:
            then.append(layers.MaxPooling2D(pool, dtype=policy, name=f"pool{i}"))
        for layer in reversed(then) if for_training else then:
            x = layer(x)
    gather = layers.GlobalAveragePooling2D if net.global_average_pooling else layers.Flatten
    x = gather(dtype=policy, name="features")(x)
    if net.dropout:
        x = layers.Dropout(
            net.dropout, seed=seed_of(seed, "dropout"), dtype=policy, name="dropout"
        )(x)
    for i, units in enumerate(net.dense, 1):
        x = layers.Dense(
            units,
            activation="relu",
            kernel_initializer=initializer(f"dense{i}"),
            dtype=policy,
            name=f"dense{i}",
        )(x)
    logits = layers.Dense(
        num_classes, kernel_initializer=initializer("logits"), dtype=policy, name="logits"
    )(x)
    # In float32 always: a softmax in bfloat16 has two digits.
    probabilities = layers.Softmax(dtype="float32", name="probabilities")(logits)
    return keras.Model(images, probabilities, name="convnet")


def initializer_of(seed: int, name: str) -> keras.Initializer:
    """Glorot's uniform initial weights of the layer `name`: Keras' default, a function of both."""
    return keras.initializers.GlorotUniform(seed_of(seed, name))


def seed_of(seed: int, name: str) -> int:
    """The seed of one layer: adding a layer leaves what the others draw as it was."""
    return int(np.random.SeedSequence([seed, *name.encode()]).generate_state(1)[0] >> 1)


def _to_gray(images: keras.KerasTensor) -> keras.KerasTensor:
    luma = np.reshape(np.array(_LUMA, np.float32) / 255, (1, 1, 3, 1))
    return keras.layers.Conv2D(
        1,
        1,
        use_bias=False,
        kernel_initializer=keras.initializers.Constant(luma.tolist()),
        trainable=False,
        dtype="float32",
        name="preprocess",
    )(images)


def _stages(net: Convnet) -> list[tuple[int, int, int, int]]:
    """Filters, kernel size, strides and pool size of each stage."""
    options = (net.kernel_size, net.strides, net.pooling)
    columns = ([n] * len(net.filters) if isinstance(n, int) else n for n in options)
    return list(zip(net.filters, *columns, strict=True))

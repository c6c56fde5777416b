"""The book's convnet: stages of convolution and pooling, then a classifier on top.

F. Chollet, *Deep Learning with Python*, first edition 5.1-5.2, second edition 8.1-8.2. Keras is
imported where a model is built, so that sizes can be checked without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from cvtrain.backend import keras
from cvtrain.errors import ConfigError

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow and OpenCV convert to grey


def output_sizes(
    image_size: Sequence[int],
    *,
    filters: Sequence[int],
    kernel_size: int | Sequence[int] = 3,
    padding: str = "valid",
    strides: int | Sequence[int] = 1,
    pooling: int | Sequence[int] = 2,
) -> list[tuple[int, int]]:
    """Height and width of the feature map after each stage.

    Args:
        image_size: height, width in pixels.
        filters: channels of each stage.
        kernel_size, strides, pooling: one for all stages or one per stage; pooling 1 is none.
        padding: `valid` (the map loses a border of the window) or `same`.

    Raises:
        ConfigError: a list has another length than `filters`, or the map vanishes on the way.
    """
    kernels, steps, pools = _per_stage(
        filters, kernel_size=kernel_size, strides=strides, pooling=pooling
    )
    height, width = image_size
    sizes = [(height, width)]
    for stage, (kernel, step, pool) in enumerate(zip(kernels, steps, pools, strict=True), 1):
        border = kernel - 1 if padding == "valid" else 0
        # Windows that fit, one every `step`: (size - border) / step, rounded up.
        height, width = (max(0, -(-(side - border) // step)) // pool for side in sizes[-1])
        if min(height, width) < 1:
            way = " -> ".join(f"{high}x{wide}" for high, wide in sizes)
            raise ConfigError(
                f"model.filters: nothing is left of the image at stage {stage} of {len(filters)}: "
                f"{way} -> {height}x{width}",
                "Use larger images (data.image_size), fewer stages, smaller windows or strides, "
                "pooling 1 in late stages, or padding: same.",
            )
        sizes.append((height, width))
    return sizes[1:]


def build_convnet(
    *,
    image_size: Sequence[int],
    num_classes: int,
    filters: Sequence[int],
    kernel_size: int | Sequence[int] = 3,
    padding: str = "valid",
    strides: int | Sequence[int] = 1,
    pooling: int | Sequence[int] = 2,
    batch_normalization: bool = False,
    global_average_pooling: bool = False,
    dense: Sequence[int] = (),
    dropout: float = 0.0,
    grayscale: bool = False,
    precision: str = "float32",
    for_training: bool = False,
    seed: int = 0,
) -> keras.Model:
    """Build a convnet that keeps the invariant: RGB pixels 0..255 in, probabilities out.

    Args:
        image_size: height, width in pixels.
        num_classes: length of the output.
        filters: channels of each stage: convolution, relu, max-pooling.
        kernel_size, strides, pooling: one for all stages or one per stage; pooling 1 is none.
        padding: `valid` or `same`, of the convolutions.
        batch_normalization: normalise between each convolution and its relu.
        global_average_pooling: average each channel over the map, instead of flattening it.
        dense: units of the relu layers before the last.
        dropout: share of the features dropped on their way to the dense layers.
        grayscale: see the luma of the pixels only.
        precision: `float32`, `bfloat16` or `float16`, of the computation; weights are float32.
        for_training: pool before each relu instead of after it. The two commute, so the model is
            the same function with the same weights, and most relus see a quarter of the values.
        seed: the initial weights and the dropout depend on it alone.

    Raises:
        ConfigError: as `output_sizes` does.
    """
    kernels, steps, pools = _per_stage(
        filters, kernel_size=kernel_size, strides=strides, pooling=pooling
    )
    output_sizes(
        image_size,
        filters=filters,
        kernel_size=kernels,
        padding=padding,
        strides=steps,
        pooling=pools,
    )

    layers = keras.layers
    policy = precision if precision == "float32" else f"mixed_{precision}"

    initializer = partial(initializer_of, seed)
    images = keras.Input((*image_size, 3), name="images")
    if grayscale:
        x = _to_gray(images)
    else:
        x = layers.Rescaling(1 / 255, dtype=policy, name="preprocess")(images)
    for i, (channels, kernel, step, pool) in enumerate(
        zip(filters, kernels, steps, pools, strict=True), 1
    ):
        x = layers.Conv2D(
            channels,
            kernel,
            strides=step,
            padding=padding,
            use_bias=not batch_normalization,
            kernel_initializer=initializer(f"conv{i}"),
            dtype=policy,
            name=f"conv{i}",
        )(x)
        if batch_normalization:
            x = layers.BatchNormalization(dtype=policy, name=f"conv{i}_norm")(x)
        then = [layers.Activation("relu", dtype=policy, name=f"conv{i}_relu")]
        if pool > 1:
            then.append(layers.MaxPooling2D(pool, dtype=policy, name=f"pool{i}"))
        for layer in reversed(then) if for_training else then:
            x = layer(x)
    gather = layers.GlobalAveragePooling2D if global_average_pooling else layers.Flatten
    x = gather(dtype=policy, name="features")(x)
    if dropout:
        x = layers.Dropout(dropout, seed=seed_of(seed, "dropout"), dtype=policy, name="dropout")(x)
    for i, units in enumerate(dense, 1):
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


def _per_stage(filters: Sequence[int], **options: int | Sequence[int]) -> list[list[int]]:
    columns = []
    for name, value in options.items():
        column = [value] * len(filters) if isinstance(value, int) else list(value)
        if len(column) != len(filters):
            raise ConfigError(
                f"model.{name} has {len(column)} values for {len(filters)} stages: {column}",
                "Give one number for all stages, or one for each entry of model.filters.",
            )
        columns.append(column)
    return columns

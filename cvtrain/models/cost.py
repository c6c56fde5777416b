"""What a model costs: multiply-adds, in closed form from the shapes of its layers."""

from __future__ import annotations

import math

from cvtrain.backend import keras


def multiply_adds(model: keras.Model) -> dict[str, int]:
    """Multiply-adds per image of each layer of a flat model of known sizes.

    Convolutions and dense layers are counted, by their kernels; a multiply-add is one operation,
    half of the floating-point operations that some papers count. Other layers count as 0, among
    them additions of biases.
    """
    return {layer.name: _of(layer) for layer in model.layers}


def cost_up_to(model: keras.Model, layer: str) -> int:
    """Multiply-adds per image of everything that the output of `layer` needs, itself included."""
    needed = keras.Model(model.input, model.get_layer(layer).output)
    return sum(multiply_adds(needed).values())


def _of(layer: keras.Layer) -> int:
    layers = keras.layers
    match layer:
        case layers.SeparableConv2D():
            kernels = math.prod(layer.depthwise_kernel.shape) + math.prod(
                layer.pointwise_kernel.shape
            )
            return _places(layer.output) * kernels
        case layers.Conv2DTranspose():
            return _places(layer.input) * math.prod(layer.kernel.shape)
        case layers.Conv2D() | layers.DepthwiseConv2D() | layers.Dense():
            return _places(layer.output) * math.prod(layer.kernel.shape)
    return 0


def _places(tensor: keras.KerasTensor) -> int:
    """At how many places of an image, channels last, a kernel is applied."""
    return math.prod(tensor.shape[1:-1])

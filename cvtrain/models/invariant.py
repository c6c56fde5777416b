"""What every model of a run keeps, whatever it is made of.

It ends in a layer `logits` followed by a softmax named `probabilities`, is made of stock Keras
layers alone in one flat graph, and is saved computing in float32.
"""

import hashlib

import numpy as np

from cvtrain.backend import keras


def logits_model(model: keras.Model) -> keras.Model:
    """The model without its softmax; layers and weights are shared."""
    return keras.Model(model.inputs, model.get_layer("probabilities").input, name=model.name)


def in_float32(model: keras.Model) -> keras.Model:
    """A copy of `model` that computes in float32, with exactly the same weights."""

    def clone(layer: keras.Layer) -> keras.Layer:
        return layer.__class__.from_config(layer.get_config() | {"dtype": "float32"})

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def weights_digest(model: keras.Model) -> str:
    """Identity of a model: SHA-256 over path, dtype, shape and bytes of every weight.

    The states of random generators (dropout) are no weights: they take no part.
    """
    digest = hashlib.sha256()
    for weight in model.weights:
        values = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        digest.update(f"{weight.path} {values.dtype.str} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()

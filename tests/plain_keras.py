"""Networks of plain `keras.applications` in which every weight counts, and their files."""

import h5py
import numpy as np
from keras.src.legacy.saving import legacy_h5_format

from cvtrain.backend import keras
from cvtrain.models.backbones import ARCHITECTURES


def network(name, image_size=(32, 32), *, include_top=False, **options):
    """Plain Keras, random weights: also scales and statistics, which begin as ones and zeros."""
    shape = None if include_top else (*image_size, 3)
    constructor = getattr(keras.applications, ARCHITECTURES[name].constructor)
    model = constructor(include_top=include_top, weights=None, input_shape=shape, **options)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization) or "layer_scale" in layer.name:
            for weight in layer.weights:
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model


def write_h5(model, path):
    """The layout of the files that `keras.applications` downloads."""
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return path


def write_keras3(model, path):
    model.save_weights(path)
    return path

"""Grad-CAM of many images as users of other libraries write it, from pixels to maps as large.

Three ways: tf-keras-vis and xplique as their documentation shows them, in batches, and the loop of
the book's second edition (9.4.3), one image after the other. FOLDER has model.keras, images.npy
(float32) and classes.npy, one for each image; all explain logits. Prints one JSON line: the seconds
from the loaded model to the last map, what is compiled on the way included; the maps go into
FOLDER/LIBRARY.npy.

    python gradcam.py tf-keras-vis FOLDER LAYER
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf


def tf_keras_vis(model, images, classes, layer, batch_size):
    """Batches with a list of scores; the library upsamples."""
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.scores import CategoricalScore

    gradcam = Gradcam(model)
    maps = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        scores = CategoricalScore(classes[start : start + batch_size].tolist())
        maps.append(gradcam(scores, batch, layer, seek_penultimate_conv_layer=False))
    return np.concatenate(maps)


def xplique(model, images, classes, layer, batch_size):
    """The library makes the batches and upsamples."""
    from xplique.attributions import GradCAM

    targets = tf.one_hot(classes, model.output_shape[-1])
    explainer = GradCAM(model, batch_size=batch_size, conv_layer=layer)
    return np.asarray(explainer.explain(images, targets))[..., 0]


def book(model, images, classes, layer, batch_size):  # noqa: ARG001
    """Two models, and a gradient tape around the second, for one image after the other."""
    body = keras.Model(model.input, model.get_layer(layer).output)
    head = keras.Model(model.get_layer(layer).output, model.output)
    maps = []
    for image, c in zip(images, classes, strict=True):
        with tf.GradientTape() as tape:
            activation = body(image[np.newaxis], training=False)
            tape.watch(activation)
            score = head(activation, training=False)[:, c]
        weights = tf.reduce_mean(tape.gradient(score, activation), axis=(0, 1, 2)).numpy()
        heatmap = np.maximum(np.mean(activation.numpy()[0] * weights, axis=-1), 0)
        heatmap /= max(heatmap.max(), 1e-12)
        maps.append(np.asarray(tf.image.resize(heatmap[..., np.newaxis], image.shape[:2]))[..., 0])
    return np.stack(maps)


def without_softmax(model):
    """The model up to its logits, which is what all three ask for."""
    if isinstance(model.layers[-1], keras.layers.Softmax):
        return keras.Model(model.input, model.layers[-1].input)
    model.layers[-1].activation = keras.activations.linear
    return model


LIBRARIES = {"tf-keras-vis": tf_keras_vis, "xplique": xplique, "book": book}

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("library", choices=LIBRARIES)
parser.add_argument("folder", type=Path)
parser.add_argument("layer")
parser.add_argument("--batch", type=int, default=32)
options = parser.parse_args()

model = without_softmax(keras.models.load_model(options.folder / "model.keras"))
images = np.load(options.folder / "images.npy")
classes = np.load(options.folder / "classes.npy")
start = time.perf_counter()
maps = LIBRARIES[options.library](model, images, classes, options.layer, options.batch)
seconds = time.perf_counter() - start
np.save(options.folder / f"{options.library}.npy", np.asarray(maps, np.float32))
print(json.dumps({"seconds": seconds}))

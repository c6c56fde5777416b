"""The filters of a layer as the book draws them (second edition, 9.4.2): one after the other.

Thirty steps of gradient ascent for each filter, each step compiled by `tf.function`. The number of
the filter is a plain argument of the step, as in the book, so it is compiled once for each filter.
Prints one JSON line per filter (filter, seconds), the deprocessed image included.

    python keras_filters_loop.py --filters 64
"""

import argparse
import json
import time

import keras
import numpy as np
import tensorflow as tf

ITERATIONS = 30
LEARNING_RATE = 10.0

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--layer", default="block3_conv1")
parser.add_argument("--filters", type=int, default=64, help="how many, from the first")
parser.add_argument("--size", type=int, default=200, help="height and width in pixels")
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()

keras.utils.set_random_seed(options.seed)
model = keras.applications.VGG16(weights=None, include_top=False)
feature_extractor = keras.Model(model.input, model.get_layer(options.layer).output)


@tf.function
def gradient_ascent_step(image, filter_index, learning_rate):
    """One step along the gradient of unit length."""
    with tf.GradientTape() as tape:
        tape.watch(image)
        activation = feature_extractor(image)
        loss = tf.reduce_mean(activation[:, 2:-2, 2:-2, filter_index])
    gradient = tf.math.l2_normalize(tape.gradient(loss, image))
    return image + learning_rate * gradient


def generate_filter_pattern(filter_index):
    """All steps for one filter, from noise to an image."""
    image = tf.random.uniform((1, options.size, options.size, 3), minval=0.4, maxval=0.6)
    for _ in range(ITERATIONS):
        image = gradient_ascent_step(image, filter_index, LEARNING_RATE)
    return image[0].numpy()


def deprocess_image(image):
    """Around 128 with a deviation of 64, without the border."""
    image = (image - image.mean()) / image.std() * 64 + 128
    return np.clip(image, 0, 255).astype("uint8")[25:-25, 25:-25]


for number in range(options.filters):
    start = time.perf_counter()
    deprocess_image(generate_filter_pattern(number))
    seconds = time.perf_counter() - start
    print(json.dumps({"filter": number, "seconds": seconds}), flush=True)

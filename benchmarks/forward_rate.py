"""How many images a second can a base of keras.applications compute on this machine, at best?

Plain Keras, no cvtrain: the base is compiled without XLA, gets batches that lie in memory, and runs
in each precision at each batch size. A rate is that of the fastest of several passes. Prints one
JSON line per precision and batch size.

    python benchmarks/forward_rate.py vgg16 --size 180
    python benchmarks/forward_rate.py mobilenet --alpha 0.25 --size 224 --batches 32 64 128
"""

import argparse
import json
import time

import keras
import numpy as np
import tensorflow as tf

BASES = {"vgg16": keras.applications.VGG16, "mobilenet": keras.applications.MobileNet}


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", choices=BASES)
    parser.add_argument("--alpha", type=float, help="width of mobilenet")
    parser.add_argument("--size", type=int, default=180, help="height and width in pixels")
    parser.add_argument("--cut", help="the last layer; default: all of them")
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--images", type=int, default=64, help="images in a pass, at least")
    parser.add_argument("--passes", type=int, default=3)
    options = parser.parse_args()

    for precision in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(precision)
        base = BASES[options.base](
            include_top=False,
            weights=None,
            input_shape=(options.size, options.size, 3),
            **({"alpha": options.alpha} if options.alpha else {}),
        )
        if options.cut:
            base = keras.Model(base.input, base.get_layer(options.cut).output)
        for batch in options.batches:
            images_per_second = rate(base, batch, options)
            row = {"precision": precision, "batch": batch, "images_per_second": images_per_second}
            print(json.dumps(row), flush=True)


def rate(base: keras.Model, batch: int, options: argparse.Namespace) -> float:
    """Images per second of the fastest pass."""
    shape = (batch, options.size, options.size, 3)
    images = tf.constant(np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32))
    forward = tf.function(lambda x: base(x, training=False))
    forward(images)
    steps = max(1, -(-options.images // batch))
    seconds = []
    for _ in range(options.passes):
        start = time.perf_counter()
        for _ in range(steps):
            forward(images).numpy()
        seconds.append(time.perf_counter() - start)
    return steps * batch / min(seconds)


if __name__ == "__main__":
    main()

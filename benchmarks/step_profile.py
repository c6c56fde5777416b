"""The share of the best convolution rate that a training step reaches, and where the rest goes.

The step is that of `cvtrain fit` on the book's convnet. The best rate is that of a large 3x3
convolution, forward, in the same precision, at its fastest. Operations are timed by TensorFlow's
profiler in further steps; some run side by side, so shares are of the sum of their times.

    python benchmarks/step_profile.py --precision bfloat16
"""

import argparse
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.models.convnet import build_convnet
from cvtrain.models.saved_model import logits_model
from cvtrain.sections import Convnet, Optimizer
from cvtrain.training.optimizers import build_optimizer

import tensorflow as tf  # isort: skip - after `cvtrain.backend`, which silences its start

LEARNING_RATE = 1e-4

# (batch, height and width, channels in and out) of convolutions as large nets have them
LARGE = [(32, 34, 128), (16, 36, 256), (8, 36, 512)]

# What an operation of the profile belongs to: the first pattern found in `name:type`. XLA runs the
# optimizer alone, so its operations are known by their type.
PARTS = {
    "convolution, forward": r":\w*(Conv2D|FusedConv2D)$",
    "convolution, gradient of the input": r":\w*Conv2DBackpropInput$",
    "convolution, gradient of the weights": r":\w*Conv2DBackpropFilter\w*$",
    "max-pooling, forward": r":\w*MaxPool$",
    "max-pooling, gradient": r":\w*MaxPoolGrad$",
    "relu and its gradient": r":Relu(Grad)?$",
    "dense layers": r":\w*MatMul$",
    "optimizer": r"^(rmsprop|rm_sprop)\w*/|^CpuExecutable::Execute",
    "casts and rescaling": r":Cast$|preprocess",
    "dropout": r"dropout",
    "everything else": r"^[\w/]+:\w+$",
}


def main() -> None:
    """Parse the arguments, measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--steps", type=int, default=30, help="steps timed, and steps profiled")
    parser.add_argument("--size", type=int, default=150, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=32, help="images in a batch")
    options = parser.parse_args()

    device = backend.set_up(seed=0, device="cpu")
    model = build_convnet(
        Convnet(dropout=0.5),
        image_size=(options.size, options.size),
        num_classes=10,
        precision=options.precision,
        for_training=True,
    )
    optimizer = build_optimizer(Optimizer(learning_rate=LEARNING_RATE))
    train_step = backend.train_step(logits_model(model), optimizer)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (options.batch, options.size, options.size, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, options.batch)

    def step() -> None:
        train_step.run(images, labels, LEARNING_RATE)
        train_step.totals  # noqa: B018 - reading waits for the device

    best_rate = best_convolution_rate(options.precision)
    times = durations(step, options.steps)
    best_rate = max(best_rate, best_convolution_rate(options.precision))
    work = options.batch * operations_per_image(model)
    print(f"{device}, {options.precision}, batches of {options.batch}")
    print(f"best convolution: {best_rate / 1e9:.0f} GFLOP/s; step: {work / 1e9:.1f} GFLOP\n")
    print("| step | ms | images/s | GFLOP/s | of the best convolution |\n|---|---|---|---|---|")
    for name, seconds in (("median", statistics.median(times)), ("fastest", min(times))):
        rate = work / seconds
        print(
            f"| {name} | {1000 * seconds:.0f} | {options.batch / seconds:.0f} "
            f"| {rate / 1e9:.0f} | {rate / best_rate:.0%} |"
        )
    print(
        f"| at the best rate | {1000 * work / best_rate:.0f} | "
        f"{options.batch * best_rate / work:.0f} | {best_rate / 1e9:.0f} | 100% |\n"
    )

    parts = profile(step, options.steps)
    total = sum(parts.values())
    print("| where the time goes | ms | share |\n|---|---|---|")
    for name, seconds in parts.most_common():
        print(f"| {name} | {1000 * seconds:.1f} | {seconds / total:.0%} |")


def best_convolution_rate(precision: str) -> float:
    """The highest of the rates of `LARGE`, in operations per second."""
    return max(convolution_rate(*shape, precision) for shape in LARGE)


def convolution_rate(batch: int, side: int, channels: int, precision: str) -> float:
    """Operations per second, at its fastest, of a 3x3 convolution that keeps its channels."""
    images = tf.cast(tf.random.uniform((batch, side, side, channels)), precision)
    kernel = tf.cast(tf.random.uniform((3, 3, channels, channels)), precision)

    @tf.function(jit_compile=False)
    def convolve(images, kernel):
        return tf.nn.conv2d(images, kernel, 1, "VALID")[0, 0, 0, 0]

    work = 2 * batch * (side - 2) ** 2 * 9 * channels**2
    return work / min(durations(lambda: convolve(images, kernel).numpy(), 40))


def operations_per_image(model: keras.Model) -> int:
    """Additions and multiplications of a training step on one image.

    The gradients of the input and of the weights cost as much as going forward, each; the first
    convolution needs no gradient of its input.
    """
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    work = 0
    for i, layer in enumerate(layers):
        positions = int(np.prod(layer.output.shape[1:3]))
        work += (3 if i else 2) * 2 * positions * int(np.prod(layer.kernel.shape))
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    return work + sum(3 * 2 * int(np.prod(layer.kernel.shape)) for layer in dense)


def durations(call: Callable[[], object], count: int) -> list[float]:
    """Seconds of each of `count` calls, after three that warm up."""
    seconds = []
    for _ in range(count + 3):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds[3:]


def profile(step: Callable[[], None], steps: int) -> Counter[str]:
    """Seconds of one step in each of `PARTS`: of each operation its median time."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            durations(step, steps)
        (file,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    events: dict[str, list[float]] = {}
    for plane in space.planes:
        if plane.name != "/host:CPU":
            continue
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name.partition("#")[0]
                events.setdefault(name, []).append(event.duration_ps / 1e12)
    parts: Counter[str] = Counter()
    for name, seconds in events.items():
        if part := next((part for part, mark in PARTS.items() if re.search(mark, name)), None):
            parts[part] += statistics.median(seconds) * len(seconds) / (steps + 3)
    return parts


if __name__ == "__main__":
    main()

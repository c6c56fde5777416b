"""What a moving average of the weights (`ema`) costs of a training step.

The step is that of `cvtrain fit`; steps with the average and without take turns.

    python benchmarks/ema_cost.py --net convnet
    python benchmarks/ema_cost.py --net separable --size 180
"""

import argparse
import statistics
import time

import numpy as np

from cvtrain import backend
from cvtrain.models.convnet import build_convnet
from cvtrain.models.saved_model import logits_model
from cvtrain.models.separable import build_separable
from cvtrain.sections import Convnet, Optimizer, Separable
from cvtrain.training.ema import WeightAverage
from cvtrain.training.optimizers import build_optimizer

LEARNING_RATE = 1e-4


def main() -> None:
    """Parse the arguments, measure and print one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=["convnet", "separable"], default="convnet")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--turns", type=int, default=40, help="steps of each kind")
    parser.add_argument("--size", type=int, default=150, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=32, help="images in a batch")
    options = parser.parse_args()

    backend.set_up(seed=0, device="cpu")
    settings = {"image_size": (options.size, options.size), "num_classes": 10}
    settings |= {"precision": options.precision}
    if options.net == "convnet":  # the book's, first edition 5.2
        model = build_convnet(Convnet(dropout=0.5), for_training=True, **settings)
    else:
        model = build_separable(Separable(name="separable"), **settings)
    optimizer = build_optimizer(Optimizer(learning_rate=LEARNING_RATE))
    step = backend.train_step(logits_model(model), optimizer)
    average = WeightAverage(model, 0.999)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (options.batch, options.size, options.size, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, options.batch)

    def seconds(number: int, *, averaged: bool) -> float:
        started = time.perf_counter()
        step.run(images, labels, LEARNING_RATE)
        if averaged:
            average.update(number)
            average.variables[-1].numpy()  # waits for the device, as `totals` does
        step.totals  # noqa: B018
        return time.perf_counter() - started

    times: dict[bool, list[float]] = {False: [], True: []}
    for number in range(1, options.turns + 4):
        for averaged in (False, True):
            times[averaged].append(seconds(number, averaged=averaged))
    plain, averaged = (statistics.median(times[kind][3:]) for kind in (False, True))
    print(
        f"{options.net}, {model.count_params():,} parameters, {options.precision}: a step takes "
        f"{1000 * plain:.1f} ms, {100 * (averaged / plain - 1):+.1f} % with the average"
    )


if __name__ == "__main__":
    main()

"""The filters of a VGG16 layer by `explain.filters` against the book's loop, one filter at a time.

Both ascend 30 steps on images of the same size through the same network with random weights: the
arithmetic is that of trained ones. Counted is what comes after the network is built: opening it,
compiling, all steps, the images. The loop costs the same for each filter, so it runs only
--measured of them; all of them are reckoned at the median of those after the first.

    python benchmarks/filters_vs_keras_loop.py --pairs 3

They take turns, each turn is a new process; printed are medians over the turns, and medians of each
turn's ratio.
"""

import argparse
import json
import os
import statistics
import sys
import time

from fit_vs_scripts import RIVALS, timed

PRECISIONS = ("float32", "bfloat16")


def main() -> None:
    """Parse the arguments, let the contenders take turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layer", default="block3_conv1", help="a convolution of VGG16")
    parser.add_argument("--filters", type=int, default=64, help="how many, from the first")
    parser.add_argument("--size", type=int, default=200, help="height and width in pixels")
    parser.add_argument("--measured", type=int, default=16, help="filters that the loop runs")
    parser.add_argument("--pairs", type=int, default=3, help="turns of each contender")
    parser.add_argument("--own", choices=PRECISIONS, help="be one turn of cvtrain")
    options = parser.parse_args()
    if options.own:
        print(json.dumps({"seconds": own_turn(options)}))
        return

    seconds: dict[str, list[float]] = {name: [] for name in (*PRECISIONS, "loop")}
    for number in range(options.pairs):
        for precision in PRECISIONS:
            (row,) = run([sys.executable, __file__, "--own", precision], options)
            seconds[precision].append(row["seconds"])
        rows = run([sys.executable, RIVALS / "keras_filters_loop.py"], options, options.measured)
        first, *others = (row["seconds"] for row in rows)
        seconds["loop"].append(first + (options.filters - 1) * statistics.median(others))
        turn = ", ".join(f"{name} {values[-1]:.1f} s" for name, values in seconds.items())
        print(f"turn {number + 1}: {turn}", file=sys.stderr)

    print("| | seconds | as fast as the loop |")
    print("|---|---|---|")
    for name, values in seconds.items():
        ratios = [loop / value for loop, value in zip(seconds["loop"], values, strict=True)]
        shown = "the book's loop" if name == "loop" else f"cvtrain, {name}"
        print(f"| {shown} | {statistics.median(values):.1f} | {statistics.median(ratios):.1f}x |")


def run(command: list, options: argparse.Namespace, filters: int | None = None) -> list[dict]:
    """The JSON lines of a contender."""
    command += ["--layer", options.layer, "--size", str(options.size)]
    command += ["--filters", str(filters or options.filters)]
    output, _ = timed(command, dict(os.environ))
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def own_turn(options: argparse.Namespace) -> float:
    """Seconds of all filters by cvtrain, in this process."""
    from cvtrain import backend
    from cvtrain.backend import keras
    from cvtrain.explain.filters import filter_images
    from cvtrain.explain.flat_model import open_model

    backend.set_up(seed=0)
    shape = (options.size, options.size, 3)
    model = keras.applications.VGG16(
        weights=None, include_top=False, pooling="avg", input_shape=shape
    )
    start = time.perf_counter()
    filter_images(
        open_model(model),
        options.layer,
        filters=range(options.filters),
        pixel_range=(0.0, 1.0),  # as in the book, which prepares nothing
        precision=options.own,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

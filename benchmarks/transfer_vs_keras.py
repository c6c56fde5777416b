"""`cvtrain extract-features` and `finetune` against a hand-written Keras script, from JPEGs.

Both train the second edition's recipes (8.3) on the same images: a frozen backbone behind
augmentation for --frozen epochs, then its top for --finetune epochs. The script runs all images
through the whole backbone in every epoch, so it runs only --measured epochs of each stage; the
others are reckoned at the median of its epochs after the first. It does not validate; cvtrain does,
and runs whole commands with nothing remembered from earlier turns, to the last epoch and figure. It
runs the backbone once for each of --views augmented views of an image. "another head" is a second
`extract-features` that finds the features of the first; that it computed none is checked.

    python benchmarks/transfer_vs_keras.py --data DIR --pairs 3

They take turns, each turn is new processes; printed are medians over the turns, and medians of each
turn's ratio. DIR has the folders train, validation and test.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from fit_vs_scripts import EVALUATION_IMAGES, RIVALS, copy_images, timed

Turn = dict[str, float]


def main() -> None:
    """Parse the arguments, let the contenders take turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/clothing"))
    parser.add_argument("--images", type=int, default=256, help="training images")
    parser.add_argument("--base", choices=["vgg16", "mobilenet"], default="vgg16")
    parser.add_argument("--alpha", type=float, help="width of mobilenet")
    parser.add_argument("--weights", type=Path, help="weights of the backbone; default: random")
    parser.add_argument("--unfreeze-from", default="block5_conv1", help="first layer of the top")
    parser.add_argument("--size", type=int, default=180, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=32, help="images in a batch")
    parser.add_argument("--frozen", type=int, default=50, help="epochs with the backbone frozen")
    parser.add_argument("--finetune", type=int, default=30, help="epochs with its top trained")
    parser.add_argument("--views", type=int, default=4, help="augmented views that cvtrain caches")
    parser.add_argument("--measured", type=int, default=3, help="epochs that the script runs")
    parser.add_argument("--jit", choices=["auto", "off"], default="auto", help="of the script")
    parser.add_argument("--precision", default="float32", help="of the script")
    parser.add_argument("--pairs", type=int, default=3, help="turns of each contender")
    options = parser.parse_args()

    own, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        copy_images(options.data / "train", data / "train", options.images)
        for split in ("validation", "test"):
            copy_images(options.data / split, data / split, EVALUATION_IMAGES)
        for number in range(options.pairs):
            own.append(cvtrain(data, options))
            print(f"turn {number + 1}: cvtrain: {own[-1]}", file=sys.stderr)
            theirs.append(keras_script(data, options))
            print(f"turn {number + 1}: Keras script: {theirs[-1]}", file=sys.stderr)
    print_table(own, theirs, options)


def cvtrain(data: Path, options: argparse.Namespace) -> Turn:
    """Seconds of each command, with nothing remembered from earlier turns."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"CVTRAIN_CACHE": str(Path(folder, "cache"))}

        def run(command: str, name: str, *arguments: Any) -> tuple[dict[str, Any], float]:
            path = Path(folder, name)
            command = [sys.executable, "-m", "cvtrain", command, *arguments, "--run-dir", path]
            _, seconds = timed(command, environment)
            return json.loads((path / "run.json").read_text()), seconds

        config = Path(folder, "config.yaml")
        config.write_text(yaml.safe_dump(recipe(data, options)))
        _, features = run("extract-features", "features", config)
        other_head = ["--set", "extract_features.head.dense=[128]"]
        record, again = run("extract-features", "again", config, *other_head)
        assert all(not part["num_computed"] for part in record["features"].values())
        _, finetune = run("finetune", "finetune", config, "--from", Path(folder, "features"))
        return {
            "features": features,
            "another head": again,
            "finetune": finetune,
        }


def recipe(data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The config of both stages."""
    backbone = {"name": options.base, "weights": str(options.weights or "none")}
    if options.alpha:
        backbone["alpha"] = options.alpha
    return {
        "data": {"source": str(data), "image_size": [options.size, options.size]},
        "augment": {"flip": "horizontal", "rotate": 36, "zoom": 0.2, "fill": "reflect"},
        "extract_features": {
            "backbone": backbone,
            "views": options.views,
            "head": {"pooling": "flatten", "dense": [256], "dropout": 0.5},
            "epochs": options.frozen,
            "batch_size": options.batch,
            "optimizer": {"name": "rmsprop", "learning_rate": 1e-3},
        },
        "finetune": {
            "unfreeze_from": options.unfreeze_from,
            "epochs": options.finetune,
            "batch_size": options.batch,
            "optimizer": {"name": "rmsprop", "learning_rate": 1e-5},
        },
    }


def keras_script(data: Path, options: argparse.Namespace) -> Turn:
    """Seconds of each stage of the script, had it run all epochs."""
    command = [sys.executable, RIVALS / "keras_transfer.py", data]
    command += ["--frozen", str(options.measured), "--finetune", str(options.measured)]
    for key in ("base", "unfreeze-from", "size", "batch", "jit", "precision", "weights", "alpha"):
        if value := getattr(options, key.replace("-", "_")):
            command += [f"--{key}", str(value)]
    output, seconds = timed(command, dict(os.environ))
    rows = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    totals = {row["stage"]: row["total"] for row in rows if "total" in row}
    turn = {}
    for stage, epochs in (("frozen", options.frozen), ("finetune", options.finetune)):
        times = [row["seconds"] for row in rows if row["stage"] == stage and "epoch" in row]
        turn[f"{stage} epoch"] = statistics.median(times[1:])
        turn[stage] = totals[stage] + (epochs - len(times)) * turn[f"{stage} epoch"]
    turn["frozen"] += seconds - sum(totals.values())  # starting up
    return turn


def print_table(own: list[Turn], theirs: list[Turn], options: argparse.Namespace) -> None:
    """Medians, and how many times as fast cvtrain was."""

    def median(turns: list[Turn], key: str) -> float:
        return statistics.median(turn[key] for turn in turns)

    def ratio(numerators: list[Turn], over: str, denominators: list[Turn], under: str) -> float:
        pairs = zip(numerators, denominators, strict=True)
        return statistics.median(top[over] / bottom[under] for top, bottom in pairs)

    print("| | cvtrain, s | Keras script, s | of which measured | cvtrain is |")
    print("|---|---|---|---|---|")
    for key, stage, epochs in (
        ("features", "frozen", options.frozen),
        ("finetune", "finetune", options.finetune),
    ):
        measured = (
            f"{options.measured} of {epochs} epochs, {median(theirs, f'{stage} epoch'):.1f} s"
        )
        print(
            f"| {key}, {epochs} epochs | {median(own, key):.0f} | {median(theirs, stage):.0f} | "
            f"{measured} | {ratio(theirs, stage, own, key):.1f}x |"
        )
    print(
        f"| another head | {median(own, 'another head'):.0f} | {median(theirs, 'frozen'):.0f} | "
        f"as above | {ratio(theirs, 'frozen', own, 'another head'):.1f}x |"
    )


if __name__ == "__main__":
    main()

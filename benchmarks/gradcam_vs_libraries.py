"""Grad-CAM of many images against other libraries and the book's loop: same model, same images.

From a loaded model, pixels in memory and one class an image to maps of the images' size, what is
compiled on the way included. The contenders take turns, each turn is a new process; printed are
medians of the seconds and of each turn's ratio, and how well the maps agree (correlation with ours,
of the worst image).

    python benchmarks/gradcam_vs_libraries.py --base mobilenet --weights FILE --libraries DIR
    python benchmarks/gradcam_vs_libraries.py --base vgg16 --images 64 --libraries DIR

The libraries are no dependencies of cvtrain: DIR is where `pip install --target DIR` has put
tf-keras-vis, xplique and what they need. What does not run is left out, and the reason printed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RIVALS = ("tf-keras-vis", "xplique", "book")
SIZE = (224, 224)


def main() -> None:
    """Parse the arguments, let the contenders take turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/clothing/test"))
    parser.add_argument("--base", choices=["mobilenet", "vgg16", "convnet"], default="mobilenet")
    parser.add_argument("--weights", type=Path, help="of the backbone; default: random")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=3, help="turns of each contender")
    parser.add_argument("--rivals", nargs="+", choices=RIVALS, default=RIVALS)
    parser.add_argument("--libraries", type=Path, default=Path(), help="where the others are")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        layer = prepare(folder, options)
        own = [sys.executable, __file__, "--measure", str(folder)]
        turns: dict[str, list[float]] = {"cvtrain": [], **{rival: [] for rival in options.rivals}}
        for _ in range(options.pairs):
            for contender in list(turns):
                script = [sys.executable, str(Path(__file__).parent / "rivals" / "gradcam.py")]
                script += [contender, str(folder), layer]
                seconds = timed(own if contender == "cvtrain" else script, options.libraries)
                if seconds is None:
                    del turns[contender]
                    continue
                turns[contender].append(seconds)
        print_table(turns, folder)


def prepare(folder: Path, options: argparse.Namespace) -> str:
    """Save a model and images; return the layer of the maps."""
    from cvtrain.backend import keras
    from cvtrain.explain.flat_model import last_spatial_layer, open_model
    from cvtrain.images.decode import Decoder, read_image
    from cvtrain.models.backbones import build_backbone
    from cvtrain.models.convnet import build_convnet
    from cvtrain.models.heads import attach_dense
    from cvtrain.sections import Convnet, Head

    keras.utils.set_random_seed(0)
    if options.base == "convnet":
        model = build_convnet(Convnet(), image_size=SIZE, num_classes=10)
    else:
        alpha = 0.25 if options.base == "mobilenet" else None
        base = build_backbone(
            options.base, image_size=SIZE, weights=options.weights, alpha=alpha, seed=0
        )
        head = Head(dense=(), dropout=0.0)
        model = attach_dense(base, base.layers[-1].name, head, num_classes=10)
    model.save(folder / "model.keras")
    paths = sorted(options.data.rglob("*.jpg"))
    paths = paths[:: max(1, len(paths) // options.images)][: options.images]
    decoder = Decoder(SIZE)
    images = np.stack([decoder(read_image(path)).pixels for path in paths]).astype(np.float32)
    np.save(folder / "images.npy", images)
    np.save(folder / "classes.npy", np.arange(len(images)) % 10)
    return last_spatial_layer(open_model(model))


def measure(folder: Path) -> None:
    """Our own turn."""
    from cvtrain.backend import keras
    from cvtrain.explain.explain import explainer
    from cvtrain.explain.flat_model import open_model
    from cvtrain.explain.overlay import heatmap, upsample

    model = keras.models.load_model(folder / "model.keras")
    images = np.load(folder / "images.npy")
    classes = np.load(folder / "classes.npy")
    start = time.perf_counter()
    explain = explainer(open_model(model), "gradcam")
    found = explain(images, classes[:, np.newaxis])
    maps = [upsample(heatmap(raw), SIZE) for raw in found.maps[:, 0]]
    seconds = time.perf_counter() - start
    np.save(folder / "cvtrain.npy", np.stack(maps))
    print(json.dumps({"seconds": seconds}))


def timed(command: list[str], libraries: Path) -> float | None:
    """Seconds that a library reports; None and the reason if it failed."""
    environment = os.environ | {"PYTHONPATH": str(libraries)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        print(f"{command[2]} is left out: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])["seconds"]


def print_table(turns: dict[str, list[float]], folder: Path) -> None:
    """Medians, and how many times as fast cvtrain was."""
    ours = np.load(folder / "cvtrain.npy")
    print("| | seconds | cvtrain is | maps agree |")
    print("|---|--:|--:|--:|")
    for name, seconds in turns.items():
        pairs = zip(seconds, turns["cvtrain"], strict=True)
        ratio = statistics.median(theirs / own for theirs, own in pairs)
        maps = np.load(folder / f"{name}.npy")
        agreement = min(correlation(a, b) for a, b in zip(ours, maps, strict=True))
        print(f"| {name} | {statistics.median(seconds):.2f} | {ratio:.1f}x | {agreement:.3f} |")


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of two maps; 1 where both are constant."""
    if not (np.ptp(a) and np.ptp(b)):
        return float(np.ptp(a) == np.ptp(b))
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


if __name__ == "__main__":
    main()

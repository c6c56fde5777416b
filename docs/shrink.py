"""Copies pictures of a run into the documentation: small, the long ones their upper part only."""

import sys
from pathlib import Path

from PIL import Image

PICTURES = {
    "report": "report.png",
    "curves": "figures/curves.png",
    "calibration": "figures/calibration.png",
    "gradcam": "visualize/gradcam/sheet.png",
    "activations": "visualize/activations-conv2/00-00-conv2.png",
    "filters": "visualize/filters-distill-conv2/conv2.png",
    "depth": "visualize/depth/depth.png",
}
WIDTH, MOST_HEIGHT = 900, 1100

run, folder = map(Path, sys.argv[1:])
folder.mkdir(exist_ok=True)
for name, path in PICTURES.items():
    image = Image.open(run / path).convert("RGB")
    width = min(WIDTH, image.width)
    image = image.resize(
        (width, round(image.height * width / image.width)), Image.Resampling.LANCZOS
    )
    image = image.crop((0, 0, width, min(image.height, MOST_HEIGHT)))
    image.quantize(64).save(folder / f"{name}.png", optimize=True)

"""Run folders as training leaves them, without training: generated images, predictions, curves."""

import json

import numpy as np
from PIL import Image
from scipy.special import softmax

from cvtrain.data.index import Split
from cvtrain.evaluation.metrics import classification_report, summarize
from cvtrain.runs.predictions import predictions_csv
from cvtrain.runs.run import Run
from cvtrain.system.text import csv_text

CONFIG = """
seed: 0
precision: auto
data: {{source: {root}}}
augment: {{flip: horizontal}}
{stage}: {{epochs: {epochs}, optimizer: {{name: adam, learning_rate: {rate}}}}}
"""


def make_run(
    path,
    *,
    class_names=("cat", "dog", "owl"),
    files=None,
    num_test=60,
    images=True,
    image_size=(18, 24),
    sharpness=3.0,
    epochs=6,
    rate=1e-3,
    command="fit",
    seed=0,
    **fields,
):
    """A finished run at `path`; its images lie beside it, whose grey tells which image it is.

    Args:
        files: names of the test images; by default `test/CLASS/000.png` and so on.
        sharpness: how often the generated model is right.
        fields: more of run.json.
    """
    generator = np.random.default_rng(seed)
    labels = (np.arange(num_test) % len(class_names)).astype(np.int32)
    if files is None:
        files = [
            f"test/{_folder(class_names[label])}/{i:03d}.png" for i, label in enumerate(labels)
        ]
    parts = {
        "test": Split(tuple(files), labels),
        "validation": _of_split("validation", class_names),
    }
    parts["train"] = _of_split("train", class_names)
    root = path.parent / "images"
    path.mkdir(parents=True)
    metrics = {}
    for name, split in parts.items():
        logits = generator.normal(size=(len(split.paths), len(class_names)))
        logits[np.arange(len(split.paths)), split.labels] += sharpness * generator.random(
            len(split.paths)
        )
        probabilities = softmax(logits, axis=1).astype(np.float32)
        text = predictions_csv(split, probabilities, class_names)
        (path / f"predictions-{name}.csv").write_text(text, "utf-8")
        metrics[name] = summarize(split.labels, probabilities)
        if name == "test":
            metrics[name] = classification_report(split.labels, probabilities, class_names)
    if images:
        for i, file in enumerate(files):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((*image_size, 3), 20 + i % 200, np.uint8)
            Image.fromarray(pixels).save(root / file, format="PNG")
    by_class = {
        name: {
            class_name: [
                file for file, label in zip(split.paths, split.labels, strict=True) if label == i
            ]
            for i, class_name in enumerate(class_names)
        }
        for name, split in parts.items()
    }
    (path / "split.json").write_text(json.dumps(by_class))
    section = command.replace("-", "_")
    (path / "config.yaml").write_text(
        CONFIG.format(root=root, stage=section, epochs=epochs, rate=rate)
    )
    if epochs:
        (path / "history.csv").write_text(csv_text(history(epochs)))
    run = Run(
        path,
        {
            "format": 1,
            "command": command,
            "status": "finished",
            "started": "2026-11-22T08:14:02+00:00",
            "name": "tiny",
            "seed": seed,
            "class_names": list(class_names),
            "image_size": [16, 20],
            "decoder": {"resize": "stretch", "background": [255, 255, 255]},
            "data": {
                "root": str(root),
                "digest": "d" * 64,
                "counts": {
                    split: {name: len(some) for name, some in classes.items()}
                    for split, classes in by_class.items()
                },
            },
            "device": "cpu: generated",
            "precision": "float32",
            "num_parameters": 1234,
            "weights_sha256": "w" * 64,
            "outcome": "finished",
            "metrics": metrics,
            "seconds": {"total": 100.0, "train": 80.0, "data": 5.0, "evaluate": 3.0},
            "versions": {"python": "3.11.7", "keras": "3.15.1"},
        }
        | ({"epochs": epochs, "best_epoch": epochs - 1} if epochs else {})
        | fields,
    )
    run.update()
    return run


def history(epochs):
    """Rows of a history.csv: loss falls, accuracy rises, validation keeps a distance."""
    rows = [["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]]
    for epoch in range(1, epochs + 1):
        rows.append([epoch, 2 / epoch, 1 - 0.5 / epoch, 2.1 / epoch, 0.9 - 0.5 / epoch])
    return rows


def _of_split(name, class_names):
    files = [
        f"{name}/{_folder(class_name)}/{i}.png" for class_name in class_names for i in range(4)
    ]
    return Split(tuple(files), np.repeat(np.arange(len(class_names)), 4).astype(np.int32))


def _folder(class_name):
    # No file system has a name with it, and split.json with such a path is refused.
    return class_name.replace("\0", "")

"""Finished runs made by hand: records and predictions, and no model that could be opened."""

import numpy as np
from scipy.special import softmax

from cvtrain.data.index import Split
from cvtrain.runs.predictions import predictions_csv
from cvtrain.runs.run import Run

SCORES = {
    "num_images": 4,
    "accuracy": 0.75,
    "accuracy_interval": [0.3, 0.95],
    "loss": 0.5,
    "calibration_error": 0.1,
    "per_class": {},
    "confusion_matrix": [],
}
"""Of the test images, as `run.json` has them."""


def make_run(path, class_names=("cat", "dog", "owl"), num_images=200, over_confidence=2.0):
    """A run that knows the classes well, and is surer of itself than it should be.

    Each label is drawn from the softmax of the logits; its probabilities are the softmax of
    `over_confidence` times those. So that is the right temperature.
    """
    run = Run.create(path, "fit")
    run.update(status="finished", name="tiny", class_names=list(class_names))
    run.model_path.write_bytes(b"")
    generator = np.random.default_rng(5)
    for split in ("validation", "test"):
        logits = generator.normal(0, 3, (num_images, len(class_names)))
        shares = softmax(logits, axis=1).cumsum(axis=1)
        labels = (generator.random((num_images, 1)) > shares).sum(axis=1)
        probabilities = softmax(over_confidence * logits, axis=1).astype(np.float32)
        files = tuple(f"{split}/{class_names[labels[i]]}/{i}.png" for i in range(num_images))
        text = predictions_csv(Split(files, labels.astype(np.int32)), probabilities, class_names)
        (path / f"predictions-{split}.csv").write_text(text, encoding="utf-8")
    return run

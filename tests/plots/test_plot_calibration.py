"""The figure of confidences is made for every kind of predictions."""

import numpy as np
import pytest
from PIL import Image

from cvtrain.plots import figures
from cvtrain.plots.calibration import calibration_panels


@pytest.mark.parametrize(
    ("num_images", "share_right", "threshold"),
    [
        (500, 0.8, None),
        (500, 0.8, 0.6),
        (500, 0.8, 1.0),
        (500, 0.0, 0.0),
        (2, 1.0, 0.6),
        (1, 0.0, 1.0),
    ],
)
def test_calibration(tmp_path, num_images, share_right, threshold):
    generator = np.random.default_rng(0)
    before = generator.dirichlet([0.3, 0.3, 0.3], num_images)
    right = generator.random(num_images) < share_right
    labels = np.where(right, before.argmax(axis=1), before.argmin(axis=1))
    panels = calibration_panels(labels, before, before, threshold=threshold)
    figures.save(figures.draw_panels(panels), tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as image:
        assert np.asarray(image.convert("L")).std() > 1

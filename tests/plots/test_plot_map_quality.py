"""Figures are made for every number of images, stages and methods."""

import numpy as np
import pytest
from test_figures import drawn

from cvtrain.explain import faithfulness
from cvtrain.explain.sanity import Cascade
from cvtrain.plots import map_quality


def forward(images):
    chance = images[:, 3:6, 3:6].mean(axis=(1, 2, 3)) / 255
    return np.stack([chance, 1 - chance], axis=1)


@pytest.mark.parametrize("num", [1, 5])
def test_faithfulness(tmp_path, num):
    images = np.random.default_rng(0).uniform(0, 255, (num, 8, 8, 3)).astype(np.float32)
    classes = np.zeros(num, int)
    measures, control = (
        faithfulness.evaluate(forward, images, classes, faithfulness.random_maps(num, seed=seed))
        for seed in (0, 1)
    )
    drawn(map_quality.draw_faithfulness(measures, control, "gradcam"), tmp_path)


@pytest.mark.parametrize("num_stages", [1, 10])
def test_cascades(tmp_path, num_stages):
    stages = tuple(f"layer_with_a_very_long_name_{i}$" for i in range(num_stages))
    falling = np.linspace(0.8, -0.1, num_stages)[:, None].repeat(3, axis=1)
    cascades = {
        "gradcam": Cascade(stages, falling),
        "control": Cascade(stages, np.ones((num_stages, 3))),
        "flat": Cascade(stages, np.full((num_stages, 3), np.nan)),
    }
    drawn(map_quality.draw_cascades(cascades), tmp_path)

"""Every image of a split is predicted once, in its order."""

import numpy as np
import pytest
from PIL import Image

from cvtrain.config import load_config
from cvtrain.errors import Stopped
from cvtrain.steps.dataset import open_dataset
from cvtrain.steps.inference import predict_split
from cvtrain.system.console import Console
from cvtrain.system.signals import Stop

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def dataset(config_path):
    # At the size of the files, so that nothing is resized.
    return open_dataset(load_config(config_path, ["data.image_size=[20, 24]"]), Stop(), QUIET)


def mean_colours(images):
    return images.mean(axis=(1, 2)).astype(np.float32)


@pytest.mark.parametrize("batch_size", [4, 64])
def test_answers_are_in_the_order_of_the_files(dataset, image_folder, monkeypatch, batch_size):
    monkeypatch.setattr("cvtrain.steps.inference.BATCH_SIZE", batch_size)
    split, sizes = dataset.index.splits["test"], []

    def predict(images):
        sizes.append(len(images))
        return mean_colours(images)

    found = predict_split(predict, dataset.pixels, split, Stop(), QUIET)
    expected = []
    for path in split.paths:
        with Image.open(image_folder / path) as image:
            expected.append(np.asarray(image.convert("RGB"), np.float64).mean(axis=(0, 1)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert sum(sizes) == 15
    assert max(sizes) == min(batch_size, 15)


def test_a_request_to_stop_is_heard_between_batches(dataset):
    stop = Stop()
    stop.requested = True
    with pytest.raises(Stopped, match="evaluating"):
        predict_split(mean_colours, dataset.pixels, dataset.index.splits["test"], stop, QUIET)

"""A network that is trained on one object an image has to point at each of two."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from cvtrain import backend
from cvtrain.explain.explain import explainer
from cvtrain.explain.explanation import explanation
from cvtrain.explain.flat_model import open_model

PATH = Path(__file__).parents[2] / "benchmarks" / "pointing_game.py"
SPEC = importlib.util.spec_from_file_location("pointing_game", PATH)
game = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(game)

NUM_IMAGES = 20


@pytest.fixture(scope="module")
def opened():
    backend.set_up(seed=0, device="cpu")
    return open_model(game.trained(2000, 8, seed=0))


@pytest.fixture(scope="module")
def scenes():
    return game.scenes(NUM_IMAGES, 2, seed=2)


def test_objects_are_of_two_kinds_and_apart(scenes):
    images, kinds, areas = scenes
    assert images.shape == (NUM_IMAGES, game.SIZE, game.SIZE, 3)
    assert (kinds[:, 0] != kinds[:, 1]).all()
    assert not (areas[:, 0] & areas[:, 1]).any()
    assert 0.03 < areas.mean() < 0.12


def test_a_hit_is_a_maximum_inside_the_outline(scenes):
    images, kinds, areas = scenes

    def shown(maps):
        return game.hits(
            lambda x, c: explanation(maps[: len(x)], c, np.zeros((len(x), 0))),
            images[:5],
            kinds[:5],
            areas,
        )

    assert shown(areas[:5].astype(float)).all()
    assert not shown(areas[:5, ::-1].astype(float)).any()
    assert not shown(-areas[:5].astype(float)).any()


def test_random_maps_hit_by_chance():
    images, kinds, areas = game.scenes(300, 2, seed=3)
    rate = game.hits(game.anywhere(0), images, kinds, areas).mean()
    assert rate == pytest.approx(areas.mean(), abs=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gradcam", "hirescam", "layercam", "integrated-gradients"])
def test_maps_point_at_the_object_asked_for(method, opened, scenes):
    images, kinds, areas = scenes
    assert game.hits(explainer(opened, method), images, kinds, areas).mean() >= 0.9


@pytest.mark.slow
def test_a_method_that_ignores_the_class_hits_one_object_at_best(opened, scenes):
    hits = game.hits(explainer(opened, "eigencam"), *scenes)
    assert (hits.sum(axis=1) <= 1).all()

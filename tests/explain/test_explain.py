import numpy as np
import pytest
from engines import found_on
from tiny_models import VARIANTS, borrowing, flat, images, state

from cvtrain.errors import ConfigError
from cvtrain.explain import METHOD_NAMES, attributions
from cvtrain.explain.explain import METHODS, explainer
from cvtrain.explain.explanation import explanation, padded_batches
from cvtrain.explain.flat_model import open_model

CLASSES = np.array([[0, 2], [1, 0], [2, 1]])


pytestmark = pytest.mark.usefixtures("seeded_engine")


def test_the_command_line_knows_the_methods_by_name():
    assert tuple(METHODS) == METHOD_NAMES


def test_the_methods_are_those_of_the_manual():
    assert list(METHODS) == [
        *("gradcam", "gradcam++", "hirescam", "layercam", "scorecam", "eigencam", "ablation"),
        *("saliency", "smoothgrad", "integrated-gradients", "occlusion", "rise"),
    ]


def test_the_layer_is_chosen_unless_it_is_named():
    opened = open_model(flat())
    chosen = explainer(opened, "gradcam")(images(3), CLASSES)
    named = explainer(opened, "gradcam", layer="late")(images(3), CLASSES)
    early = explainer(opened, "gradcam", layer="early")(images(3), CLASSES)
    np.testing.assert_array_equal(chosen.maps, named.maps)
    assert early.maps.shape == (3, 2, 10, 8)
    np.testing.assert_allclose(early.scores, chosen.scores, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "layer", "words"),
    [
        ("gradcat", None, "there is no method gradcat"),
        ("gradcam", "lat", "no layer lat"),
        ("gradcam", "top", "it is not a map"),
        ("saliency", "late", "saliency works on the pixels"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(method, layer, words):
    with pytest.raises(ConfigError, match=words) as caught:
        explainer(open_model(flat()), method, layer=layer)
    assert "\n" not in caught.value.message
    assert caught.value.advice


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_that_cannot_be_copied_is_explained_and_left_as_it_is(method, monkeypatch):
    monkeypatch.setattr(attributions, "NUM_MASKS", 40)
    model = borrowing()
    before = state(model)
    found = explainer(open_model(model), method, batch_size=8)(images(3), CLASSES)
    expected = explainer(open_model(flat()), method, batch_size=8)(images(3), CLASSES)
    if method != "scorecam":  # Where such a layer looks is unknown, so channels lie elsewhere.
        np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-5)
    assert state(model) == before


def test_maps_that_show_nothing_say_so():
    maps = np.zeros((1, 4, 2, 3))
    maps[0, 0] = 5
    maps[0, 1] = [[-1, -2, -3], [-1, 0, -1]]
    maps[0, 2, 0, 0] = np.nan
    maps[0, 3, 0, 0] = 1
    remarks = [["", "a remark", "", "error 3 %"]]
    explained = explanation(maps, [[0, 1, 2, 3]], [[1, 2, np.inf, 4]], remarks)
    assert explained.notes == [["constant", "all negative; a remark", "not finite", "error 3 %"]]
    assert (explained.maps[0, 2] == 0).all()
    assert np.isfinite(explained.scores).all()
    assert explained.maps.dtype == explained.scores.dtype == np.float32


@pytest.mark.parametrize("n", [1, 4, 5, 8])
def test_batches_have_one_size_and_every_row_once(n):
    rows = np.arange(n)
    found, sizes = [], set()
    for where, (batch, twice) in padded_batches(rows, 2 * rows, batch_size=4):
        np.testing.assert_array_equal(twice, 2 * batch)
        sizes.add(len(batch))
        found.extend(batch[: where.stop - where.start])
        np.testing.assert_array_equal(batch[: where.stop - where.start], rows[where])
    assert found == list(rows)
    assert sizes == {min(n, 4)}


def explain_all():
    """Maps and scores of every method that takes seconds, of two models."""
    found = {}
    for variant in ("nested functional", "augmenting"):
        model = VARIANTS[variant]()
        # Keras' initial weights differ from engine to engine.
        generator = np.random.default_rng(0)
        for name in ("early", "late", "top"):
            (layer,) = (each for each in model._flatten_layers() if each.name == name)
            shapes = [weight.shape for weight in layer.get_weights()]
            layer.set_weights([generator.normal(0, 0.3, shape) for shape in shapes])
        opened = open_model(model)
        for name in METHODS:
            if name not in ("rise", "smoothgrad"):
                explained = explainer(opened, name, batch_size=2)(images(3), CLASSES)
                found[f"{variant} {name} maps"] = explained.maps
                found[f"{variant} {name} scores"] = explained.scores
    return found


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["jax", "torch"])
def test_every_engine_finds_the_same(engine, tmp_path):
    found = found_on(engine, explain_all, tmp_path / "found.npz")
    for name, expected in explain_all().items():
        tolerance = 1e-4 * np.abs(expected).max()
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=tolerance, err_msg=name)

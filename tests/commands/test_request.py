"""Classes and layers by name: what can be is understood, what cannot gets advice."""

import json
import zipfile

import numpy as np
import pytest

from cvtrain.commands.visualize.request import check_layer, resolve_classes
from cvtrain.errors import ConfigError

NAMES = ["cat", "dog", "emu", "fox"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("dog", [1]),
        ("2", [2]),
        ("all", [0, 1, 2, 3]),
        ("top:1", [3]),
        ("top:3", [3, 0, 2]),
        ("top:99", [3, 0, 2, 1]),
        (None, [3]),
    ],
)
def test_classes_are_asked_by_name_index_rank_or_all(choice, expected):
    scores = np.array([[2.0, -1.0, 0.5, 3.0]])
    asked = resolve_classes(choice, NAMES)
    assert asked.of(scores, [None]).tolist() == [expected]
    assert asked.most >= len(expected)


def test_a_name_comes_before_an_index():
    assert resolve_classes("1", ["2", "1", "0"]).fixed == [1]
    assert resolve_classes("2", ["2", "1", "0"]).fixed == [0]


@pytest.mark.parametrize(
    ("choice", "advice"),
    [
        ("dgo", "Did you mean dog?"),
        ("4", "an index from 0 to 3"),
        ("-1", "an index"),
        ("٣", "an index"),
        ("top:0", "top:K"),
        ("top:", "top:K"),
        ("top:two", "top:K"),
        ("", "cat, dog, emu, fox"),
        ("x\x1b[31m", "cat"),
    ],
)
def test_a_class_that_is_none_gets_advice(choice, advice):
    with pytest.raises(ConfigError, match="there is no such class") as caught:
        resolve_classes(choice, NAMES)
    assert advice in caught.value.advice
    assert str(caught.value).replace("\n", "").isprintable()


def test_advice_about_hostile_names_is_harmless():
    for choice in ("1", "x[31m"):
        with pytest.raises(ConfigError) as caught:
            resolve_classes(choice, ["x\x1b[31m"])
        assert str(caught.value).replace("\n", "").isprintable()


def test_for_mistakes_the_true_class_stands_beside_the_predicted():
    scores = np.array([[3.0, 1, 0, 0], [0, 3, 0, 0], [0, 0, 1, 3]])
    asked = resolve_classes(None, NAMES)
    assert asked.of(scores, [0, 1, 3]).tolist() == [[0], [1], [3]]
    assert asked.of(scores, [1, 1, 3]).tolist() == [[0, 1], [1, 1], [3, 3]]
    assert asked.of(scores, [1, None, None]).tolist() == [[0, 1], [1, 1], [3, 3]]
    assert asked.most == 2


def write_model(path, config):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", "not looked at")
    return path


def layer(name, class_name="Identity", **config):
    config = {"name": name, **config}
    return {"module": "keras.layers", "class_name": class_name, "config": config}


def model(name, *layers):
    config = {"name": name, "layers": list(layers)}
    return {"module": "keras.src.models.functional", "class_name": "Functional", "config": config}


@pytest.fixture
def model_path(tmp_path):
    """As Keras saves them: layers of a functional model have their names outside as well."""
    layers = [
        layer("inside", "InputLayer", dtype={"name": "float32"}) | {"name": "images"},
        model("inside", layer("conv1"), layer("conv2")) | {"name": "base"},
        model("head", layer("pool"), layer("top", activation={"name": "softmax"})),
    ]
    return write_model(tmp_path / "model.keras", model("whole", *layers))


@pytest.mark.parametrize(
    "name", ["conv1", "base.conv2", "conv2:1", "base.conv2:3", "pool", "images"]
)
def test_layers_are_found_at_any_depth(name, model_path):
    check_layer(name, model_path)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("cnov1", "Did you mean conv"),
        ("conv", "Did you mean conv"),
        ("softmax", "The last of its layers: images, base, conv1, conv2, head, pool, top."),
        ("float32", "The last of its layers"),
        ("x\x1b[31m", "The last of its layers"),
    ],
)
def test_a_layer_that_cannot_be_gets_advice(name, advice, model_path):
    with pytest.raises(ConfigError, match=r"model\.keras has no layer") as caught:
        check_layer(name, model_path)
    assert caught.value.advice.startswith(advice)
    assert str(caught.value).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "config",
    [
        {},
        [],
        {"config": None},
        {"config": {"layers": [{}]}},
        {"config": {"layers": [{"config": []}]}},
        {"config": {"name": "subclassed"}},
    ],
)
def test_a_file_that_says_nothing_of_layers_is_left_to_whoever_opens_it(config, tmp_path):
    check_layer("anything", write_model(tmp_path / "model.keras", config))


def test_a_file_that_is_no_model_is_left_to_whoever_opens_it(tmp_path):
    check_layer("anything", tmp_path / "missing.keras")
    (tmp_path / "damaged.keras").write_bytes(b"PK\x03\x04 no archive")
    check_layer("anything", tmp_path / "damaged.keras")
    with zipfile.ZipFile(tmp_path / "deep.keras", "w") as archive:
        archive.writestr("config.json", "[" * 100_000)
    check_layer("anything", tmp_path / "deep.keras")

"""`--activations`, `--filters` and `--depth`: figures, arrays, and what is recorded of them."""

import json

import numpy as np
import pytest
from PIL import Image

from cvtrain.backend import keras
from cvtrain.commands.visualize import visualize
from cvtrain.commands.visualize.request import VisualizeRequest
from cvtrain.errors import ConfigError, DataError
from cvtrain.explain.activation_maximization import STYLES
from cvtrain.images.decode import Decoder
from cvtrain.system.console import Console


def look_at(run, *paths, console=None, **look):
    console = console or Console(quiet=True)
    folder = visualize(
        run, [str(each) for each in paths], VisualizeRequest(**look), console=console
    )
    return folder, json.loads((folder / "visualize.json").read_text(encoding="utf-8"))


def assert_is_picture(path):
    with Image.open(path) as image:
        assert np.asarray(image.convert("L")).std() > 1


def names_in(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def model(finished):
    return keras.saving.load_model(finished.model_path)


def test_the_activations_of_a_named_layer_are_those_of_plain_keras(finished, model, image_folder):
    photo = image_folder / "test" / "red" / "000.png"
    folder, record = look_at(finished, photo, what="activations", layer="conv1_relu")
    assert folder == finished.path / "visualize" / "activations-conv1_relu"
    (each,) = record["activations"]
    assert (each["file"], each["layer"]) == (str(photo), "conv1_relu")
    part = keras.Model(model.input, model.get_layer("conv1_relu").output)
    pixels = np.float32(Decoder((16, 20))(photo.read_bytes()).pixels[None])
    (expected,) = keras.ops.convert_to_numpy(part(pixels, training=False))
    assert each["shape"] == list(expected.shape)
    array = np.load(folder / each["picture"].replace(".png", ".npy"))
    np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-5)
    assert each["dead"] == [c for c in range(4) if not expected[..., c].any()]
    assert_is_picture(folder / each["picture"])


def test_without_a_layer_all_convolutions_and_poolings_are_drawn(finished, model):
    folder, record = look_at(finished, what="activations")
    layers = [each["layer"] for each in record["activations"]]
    kinds = keras.layers.MaxPooling2D, keras.layers.GlobalAveragePooling2D
    pooling = [layer.name for layer in model.layers if isinstance(layer, kinds)]
    assert layers[: len(layers) // 2] == layers[len(layers) // 2 :]  # of two images
    assert {"conv1_relu", "conv2_relu", *pooling} == set(layers)
    pictures = [each["picture"] for each in record["activations"]]
    assert names_in(folder) == {"index.html", "visualize.json", *pictures}
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == len(pictures)
    assert record["weights_sha256"] == finished.content["weights_sha256"]


def test_unreadable_images_are_recorded(finished, image_folder, tmp_path):
    photo = image_folder / "test" / "red" / "000.png"
    with pytest.raises(DataError, match="could not be read"):
        look_at(finished, photo, tmp_path / "none.png", what="activations")
    path = finished.path / "visualize" / "activations" / "visualize.json"
    assert set(json.loads(path.read_text())["unreadable"]) == {str(tmp_path / "none.png")}


@pytest.mark.parametrize("style", ["book", "distill"])
def test_filters_of_the_low_and_the_high_layer(finished, monkeypatch, style):
    monkeypatch.setattr(STYLES[style], "steps", 3)
    folder, record = look_at(finished, what="filters", style=None if style == "book" else style)
    assert folder == finished.path / "visualize" / f"filters-{style}"
    assert record["style"] == style
    expected = {"index.html", "visualize.json"}
    for each, channels in zip(record["filters"], (4, 8), strict=True):
        assert each["filters"] == list(range(channels))
        assert np.isfinite(each["values"]).all()
        assert each["precision"] in ("float32", "bfloat16", "float16")
        images = np.load(folder / each["images"])
        assert images.dtype == np.uint8
        assert len(images) == channels
        live = np.setdiff1d(each["filters"], each["dead"])
        assert len(live)
        assert all(images[i].std() > 1 for i in live)
        assert_is_picture(folder / each["picture"])
        expected |= {each["images"], each["picture"]}
    assert names_in(folder) == expected


def test_filters_of_one_layer_go_into_a_folder_of_their_own(finished, monkeypatch):
    monkeypatch.setattr(STYLES["book"], "steps", 2)
    folder, record = look_at(finished, what="filters", layer="conv2", seed=1)
    assert folder.name == "filters-book-conv2"
    assert [each["layer"] for each in record["filters"]] == ["conv2"]
    assert record["seed"] == 1
    with pytest.raises(ConfigError, match="no layer conv9"):
        look_at(finished, what="filters", layer="conv9")


def test_the_depth_story_of_a_run(finished, capsys):
    folder, record = look_at(finished, what="depth")
    assert names_in(folder) == {"index.html", "visualize.json", "depth.png"}
    assert_is_picture(folder / "depth.png")
    assert len(record["files"]) == 15
    assert [each["layer"] for each in record["depth"]][-1] == "logits"
    for each in record["depth"]:
        assert 0 <= each["sparsity"] <= 1
        assert -1 <= each["across"] <= 1
        assert -1 <= each["within"] <= 1
    # What the network was trained for.
    assert record["depth"][-1]["within"] > record["depth"][-1]["across"]
    assert "similarity within a class" in capsys.readouterr().out

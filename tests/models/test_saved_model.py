import json
import re
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tiny_images import make_images

from cvtrain import __version__
from cvtrain.backend import keras
from cvtrain.data.index import build_index
from cvtrain.errors import TrainingError
from cvtrain.models.convnet import build_convnet
from cvtrain.models.keras_file import check_keras_file
from cvtrain.models.saved_model import logits_model, save_model, weights_digest
from cvtrain.sections import Convnet

NET = Convnet(filters=(4, 4), batch_normalization=True, dense=(), dropout=0.5, grayscale=True)
SHAPE = {"image_size": (12, 12), "num_classes": 3}
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 3), dtype=np.uint8)


def test_logits_come_before_the_softmax_and_share_weights():
    model = build_convnet(NET, **SHAPE)
    logits = logits_model(model)
    softmax = keras.ops.softmax(logits(IMAGES, training=False))
    np.testing.assert_allclose(softmax, model(IMAGES, training=False), atol=1e-6)
    assert all(a is b for a, b in zip(logits.weights, model.weights, strict=True))


def test_the_digest_sees_every_weight():
    model = build_convnet(NET, **SHAPE)
    digests = {weights_digest(model)}
    for weight in model.weights:
        changed = weight.numpy().copy()
        changed.flat[-1] = np.nextafter(changed.flat[-1], np.float32(9))
        weight.assign(changed)
        digests.add(weights_digest(model))
    assert len(digests) == len(model.weights) + 1


ABOUT = {"class_names": ["1", "10", "cat\u732b"], "image_size": [12, 12]}


def test_what_is_said_of_a_model_stands_beside_what_keras_says(tmp_path):
    model = build_convnet(NET, **SHAPE)
    model.save(tmp_path / "plain.keras")
    save_model(model, tmp_path / "model.keras", about=ABOUT)
    with (
        zipfile.ZipFile(tmp_path / "plain.keras") as plain,
        zipfile.ZipFile(tmp_path / "model.keras") as ours,
    ):
        assert ours.testzip() is None
        assert [each.filename for each in ours.infolist()] == plain.namelist()
        said = json.loads(ours.read("metadata.json"))
        assert said.pop("cvtrain") == {"version": __version__} | ABOUT
        assert set(said) == set(json.loads(plain.read("metadata.json"))) >= {"keras_version"}
        assert ours.read("config.json") == plain.read("config.json")
    check_keras_file(tmp_path / "model.keras")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["model.keras", "plain.keras"]


def test_the_readme_finds_the_classes_of_a_model_without_cvtrain(tmp_path):
    save_model(build_convnet(NET, **SHAPE), tmp_path / "model.keras", about=ABOUT)
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    found = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (code,) = (each for each in found if "metadata.json" in each)
    code = textwrap.dedent(code)
    script = f"{code}\nimport sys\nassert 'cvtrain' not in sys.modules\nprint(ascii(names))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout == f"{ABOUT['class_names']!a}\n"


def test_the_order_of_classes_is_not_that_of_keras_as_the_readme_says(tmp_path):
    make_images(tmp_path, dict.fromkeys(("1", "2", "10", "cat", "Dog"), 2))
    ours = build_index(tmp_path, validation=0, test=0, seed=0).class_names
    theirs = keras.utils.image_dataset_from_directory(tmp_path, verbose=False).class_names
    assert ours == ("1", "2", "10", "cat", "Dog")
    assert theirs == ["1", "10", "2", "Dog", "cat"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["kernel", "moving_variance"])
def test_a_model_that_is_not_finite_is_never_written(tmp_path, name, value):
    model = build_convnet(NET, **SHAPE)
    weight = next(weight for weight in model.weights if weight.path.endswith(name))
    weight.assign(np.full(weight.shape, value))
    with pytest.raises(TrainingError, match="weights that are not finite"):
        save_model(model, tmp_path / "model.keras")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_plain_keras_opens_the_file_elsewhere(tmp_path):
    model = build_convnet(NET, **SHAPE)
    save_model(model, tmp_path / "model.keras", about=ABOUT)
    np.save(tmp_path / "images.npy", IMAGES)
    code = """
import keras, numpy
model = keras.saving.load_model("model.keras")
numpy.save("probabilities.npy", model.predict(numpy.load("images.npy"), verbose=0))
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    elsewhere = np.load(tmp_path / "probabilities.npy")
    np.testing.assert_allclose(elsewhere, model(IMAGES, training=False), atol=1e-6)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert weights_digest(loaded) == weights_digest(model)

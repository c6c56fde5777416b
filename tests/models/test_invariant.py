import subprocess
import sys

import numpy as np

from cvtrain.backend import keras
from cvtrain.models.convnet import build_convnet
from cvtrain.models.invariant import logits_model, weights_digest

OPTIONS = {
    "image_size": (12, 12),
    "num_classes": 3,
    "filters": [4, 4],
    "batch_normalization": True,
    "dropout": 0.5,
    "grayscale": True,
}
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 3), dtype=np.uint8)


def test_logits_come_before_the_softmax_and_share_weights():
    model = build_convnet(**OPTIONS)
    logits = logits_model(model)
    softmax = keras.ops.softmax(logits(IMAGES, training=False))
    np.testing.assert_allclose(softmax, model(IMAGES, training=False), atol=1e-6)
    assert all(a is b for a, b in zip(logits.weights, model.weights, strict=True))


def test_the_digest_sees_every_weight():
    model = build_convnet(**OPTIONS)
    digests = {weights_digest(model)}
    for weight in model.weights:
        changed = weight.numpy().copy()
        changed.flat[-1] = np.nextafter(changed.flat[-1], np.float32(9))
        weight.assign(changed)
        digests.add(weights_digest(model))
    assert len(digests) == len(model.weights) + 1


def test_plain_keras_opens_the_file_elsewhere(tmp_path):
    model = build_convnet(**OPTIONS)
    model.save(tmp_path / "model.keras")
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

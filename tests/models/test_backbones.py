import hashlib
import subprocess
import sys
import urllib.error

import numpy as np
import pytest
from plain_keras import network, write_h5, write_keras3

from cvtrain.backend import keras
from cvtrain.errors import ConfigError, ResourceError
from cvtrain.models.backbones import build_backbone
from cvtrain.models.saved_model import weights_digest
from cvtrain.sections.architectures import ARCHITECTURES

FAMILIES = {
    "vgg16": keras.applications.vgg16,
    "vgg19": keras.applications.vgg19,
    "resnet50": keras.applications.resnet,
    "resnet50v2": keras.applications.resnet_v2,
    "inception_v3": keras.applications.inception_v3,
    "inception_resnet_v2": keras.applications.inception_resnet_v2,
    "xception": keras.applications.xception,
    "mobilenet": keras.applications.mobilenet,
    "mobilenet_v2": keras.applications.mobilenet_v2,
    "mobilenet_v3_small": keras.applications.mobilenet_v3,
    "densenet121": keras.applications.densenet,
    "nasnet_mobile": keras.applications.nasnet,
    "efficientnet_b0": keras.applications.efficientnet,
    "efficientnet_v2_b0": keras.applications.efficientnet_v2,
    "efficientnet_v2_s": keras.applications.efficientnet_v2,
    "convnext_tiny": keras.applications.convnext,
}
NARROW = {"mobilenet": 0.25, "mobilenet_v2": 0.35, "mobilenet_v3_small": 0.5}
SLOW = {
    "vgg19",
    "resnet50",
    "inception_v3",
    "inception_resnet_v2",
    "densenet121",
    "nasnet_mobile",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "efficientnet_v2_b0",
    "resnet50v2",
    "convnext_tiny",
}
RNG = np.random.default_rng(0)


def named(names):
    return [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in names]


def size_of(name):
    side = ARCHITECTURES[name].smallest_side
    return side, side + 3  # not square: height and width must not change places


def images_of(name, count=2):
    return RNG.integers(0, 256, (count, *size_of(name), 3), dtype=np.uint8)


def options_of(name):
    return {"alpha": NARROW[name]} if name in NARROW else {}


def build(name, *, weights=None, seed=0):
    options = options_of(name)
    return build_backbone(name, image_size=size_of(name), weights=weights, seed=seed, **options)


def assert_close(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max(), rtol=1e-5)


@pytest.mark.parametrize("name", named(FAMILIES))
def test_features_are_those_of_plain_keras(name, tmp_path):
    plain = network(name, size_of(name), **options_of(name))
    write = write_keras3 if name.endswith("v2") else write_h5
    model = build(name, weights=write(plain, tmp_path / "x.weights.h5"))
    images = images_of(name)
    pixels = FAMILIES[name].preprocess_input(images.astype("float32"))
    assert_close(model(images, training=False), plain(pixels, training=False))
    assert model.input.name == "images"
    assert model.input.shape == (None, *size_of(name), 3)
    assert not any(hasattr(layer, "layers") for layer in model.layers)


def test_every_name_is_an_architecture_of_keras():
    constructors = [
        getattr(keras.applications, each.constructor) for each in ARCHITECTURES.values()
    ]
    assert len(set(constructors)) == len(ARCHITECTURES)


def test_weights_depend_on_the_seed_alone():
    digest = weights_digest(build("mobilenet_v3_small"))
    keras.utils.set_random_seed(7)
    keras.layers.Conv2D(4, 3)
    assert weights_digest(build("mobilenet_v3_small")) == digest
    assert weights_digest(build("mobilenet_v3_small", seed=1)) != digest


@pytest.mark.slow
def test_names_are_those_of_a_new_process():
    code = """
import keras
options = {"include_top": False, "weights": None, "input_shape": (32, 35, 3), "alpha": 0.5}
print(*(layer.name for layer in keras.applications.MobileNetV3Small(**options).layers[1:]))
"""
    fresh = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    for _ in range(2):
        model = build("mobilenet_v3_small")
        assert [layer.name for layer in model.layers[1:]] == fresh.stdout.split()
    assert "re_lu_5" in fresh.stdout.split()


def test_models_built_earlier_keep_working():
    first = build("mobilenet")
    images = images_of("mobilenet")
    before = first(images, training=False).numpy()
    build("mobilenet", seed=1)
    np.testing.assert_array_equal(first(images, training=False), before)


def test_uint8_and_float32_pixels_are_the_same():
    model = build("mobilenet_v2")
    images = images_of("mobilenet_v2")
    features = model(images.astype("float32"), training=False)
    np.testing.assert_array_equal(model(images, training=False), features)


def test_it_computes_in_float32_whatever_the_policy_of_the_process():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build("mobilenet_v2")
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in model.layers[1:]} == {"float32"}
    assert model(images_of("mobilenet_v2"), training=False).dtype == "float32"


@pytest.mark.parametrize("name", ["mobilenet", "mobilenet_v3_small"])
def test_frozen_layers_infer_while_the_rest_trains(name):
    model = build(name)
    images = images_of(name)
    expected = model(images, training=False).numpy()
    for layer in model.layers:
        layer.trainable = False
    digest = weights_digest(model)
    assert_close(model(images, training=True), expected)
    assert weights_digest(model) == digest


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        ["mobilenet_v3_small"],
        # The networks that have layers of their own, and a normalization.
        ["inception_resnet_v2", "convnext_tiny"],
        ["efficientnet_b0"],
    ],
)
def test_plain_keras_opens_them_without_cvtrain(names, tmp_path):
    models, images = {}, {}
    for name in names:
        models[name] = build(name)
        images[name] = images_of(name)
        models[name].save(tmp_path / f"{name}.keras")
    np.savez(tmp_path / "images.npz", **images)
    code = """
import hashlib, sys
import urllib.error
sys.modules["cvtrain"] = None
import keras, numpy
images = numpy.load("images.npz")
models = {name: keras.saving.load_model(f"{name}.keras") for name in images}
numpy.savez("features.npz", **{n: m(images[n], training=False) for n, m in models.items()})
for model in models.values():
    print(hashlib.sha256(b"".join(each.tobytes() for each in model.get_weights())).hexdigest())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    digests = done.stdout.split()
    features = np.load(tmp_path / "features.npz")
    for digest, (name, model) in zip(digests, models.items(), strict=True):
        assert_close(features[name], model(images[name], training=False))
        weights = b"".join(each.tobytes() for each in model.get_weights())
        assert digest == hashlib.sha256(weights).hexdigest()


@pytest.mark.slow
def test_imagenet_files_of_the_first_efficientnets_mean_what_keras_makes_of_them(
    tmp_path, monkeypatch
):
    plain = network("efficientnet_b0")
    normalization = next(x for x in plain.layers if isinstance(x, keras.layers.Normalization))
    mean, variance, _ = normalization.weights
    mean.assign([0.485, 0.456, 0.406])
    variance.assign([0.229, 0.224, 0.225])
    path = write_h5(plain, tmp_path / "efficientnetb0_notop.h5")
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: str(path))
    downloaded = keras.applications.EfficientNetB0(
        include_top=False, weights="imagenet", input_shape=(32, 32, 3)
    )
    images = RNG.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    model = build_backbone("efficientnet_b0", image_size=(32, 32), weights=path)
    assert_close(model(images, training=False), downloaded(images, training=False))


@pytest.mark.realdata
def test_real_weights_give_the_features_of_plain_keras(shared):
    path = shared / "weights" / "mobilenet_2_5_224_tf_no_top.h5"
    photos = sorted((shared / "data" / "clothing" / "test").glob("*/*.jpg"))[::60]
    images = np.stack([keras.utils.load_img(p, target_size=(224, 224)) for p in photos])
    plain = keras.applications.MobileNet(
        include_top=False, weights=str(path), input_shape=(224, 224, 3), alpha=0.25
    )
    pixels = keras.applications.mobilenet.preprocess_input(images.astype("float32"))
    model = build_backbone("mobilenet", image_size=(224, 224), weights=path, alpha=0.25)
    received, expected = (np.asarray(x) for x in (model(images), plain(pixels)))
    # These weights turn the rounding of a pixel to 1e-4 in one feature of some thousands.
    assert np.linalg.norm(received - expected) < 1e-5 * np.linalg.norm(expected)
    preprocess = keras.Model(model.input, model.get_layer("preprocess").output)
    np.testing.assert_allclose(preprocess(images), pixels, atol=2e-7)
    np.testing.assert_array_equal(plain(preprocess(images)), received)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("vgg17", {}, "vgg17"),
        ("xception", {}, "too small"),
        ("vgg16", {"alpha": 0.5}, "no alpha"),
        ("mobilenet", {"alpha": 0.001}, "mobilenet with alpha 0.001"),
        ("mobilenet", {"alpha": -1.0}, "mobilenet with alpha -1.0"),
    ],
)
def test_impossible_bases_are_refused(name, options, words):
    with pytest.raises(ConfigError, match=words):
        build_backbone(name, image_size=(32, 32), weights=None, **options)


def test_imagenet_weights_are_those_that_keras_fetches(tmp_path, monkeypatch):
    """Keras' own download is stood in for by a file that Keras wrote."""
    plain = keras.applications.MobileNet(include_top=False, weights=None, alpha=0.25)
    plain.save_weights(tmp_path / "file.weights.h5")
    asked = []

    def get_file(name, origin, **_):
        asked.append((name, origin))
        return str(tmp_path / "file.weights.h5")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    model = build_backbone("mobilenet", image_size=(96, 96), weights="imagenet", alpha=0.25)
    assert [name for name, _ in asked] == ["mobilenet_2_5_224_tf_no_top.h5"]
    np.testing.assert_array_equal(
        model.get_layer("conv_pw_13").get_weights()[0],
        plain.get_layer("conv_pw_13").get_weights()[0],
    )


def test_without_a_network_the_error_names_the_file(tmp_path, monkeypatch):
    def refuse(*_):
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", refuse)
    with pytest.raises(ResourceError, match=r"vgg16_weights\w+notop\.h5.*no network") as caught:
        build_backbone("vgg16", image_size=(64, 64), weights="imagenet")
    assert "backbone.weights: FILE" in caught.value.advice

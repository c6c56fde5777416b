import urllib.error

import pytest

from cvtrain.backend import keras
from cvtrain.errors import ConfigError, ResourceError
from cvtrain.models.backbones import ARCHITECTURES
from cvtrain.models.imagenet import imagenet_weights


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras"


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", refuse)


@pytest.fixture
def asked(monkeypatch):
    """What is asked of Keras' `get_file`: file, address, digest."""
    calls = []

    def get_file(fname=None, origin=None, file_hash=None, **_):
        calls.append((fname, origin, file_hash))
        raise LookupError("asked")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    monkeypatch.setattr("keras.utils.get_file", get_file)
    return calls


def check(asked, name, **options):
    with pytest.raises(ResourceError):
        imagenet_weights(name, **options)
    constructor = getattr(keras.applications, ARCHITECTURES[name].constructor)
    with pytest.raises(LookupError, match="asked"):
        constructor(include_top=False, weights="imagenet", input_shape=(224, 224, 3), **options)
    ours, plain = asked
    assert ours == plain


@pytest.mark.parametrize(
    ("name", "alpha"),
    [("mobilenet", 0.5), ("mobilenet_v2", 1.4), ("mobilenet_v3_small", 0.75)],
)
def test_mobilenets_come_from_where_keras_has_them(name, alpha, asked):
    check(asked, name, alpha=alpha)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["vgg16", "resnet50v2", "nasnet_mobile", "efficientnet_b0", "convnext_tiny"]
)
def test_networks_come_from_where_keras_has_them(name, asked):
    check(asked, name)


def test_every_network_has_a_file(asked):
    for name in ARCHITECTURES:
        with pytest.raises(ResourceError):
            imagenet_weights(name)
    assert len({address for _, address, _ in asked}) == len(ARCHITECTURES)


@pytest.mark.usefixtures("offline")
def test_a_file_put_there_by_hand_is_taken(home):
    path = home / "models" / "mobilenet_2_5_224_tf_no_top.h5"
    path.parent.mkdir(parents=True)
    path.touch()
    assert imagenet_weights("mobilenet", alpha=0.25) == path


@pytest.mark.usefixtures("offline")
def test_offline_it_says_which_file_to_put_where(home):
    with pytest.raises(ResourceError, match="no network") as caught:
        imagenet_weights("vgg16")
    file = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert str(home / "models" / file) in caught.value.advice
    assert "\n" not in caught.value.message


@pytest.mark.usefixtures("offline")
def test_a_file_with_another_digest_is_not_taken(home, capsys):
    path = home / "models" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a file")
    with pytest.raises(ResourceError):
        imagenet_weights("vgg16")
    assert capsys.readouterr().out == ""


def test_an_alpha_without_weights():
    with pytest.raises(ConfigError, match="with alpha 0") as caught:
        imagenet_weights("mobilenet", alpha=0.3)
    assert "1.0, 0.75, 0.5, 0.25" in caught.value.advice

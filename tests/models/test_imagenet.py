"""Names and addresses of weights, against what Keras itself would fetch."""

import http.server
import threading
import warnings
from pathlib import Path

import pytest

from cvtrain.backend import keras
from cvtrain.models.imagenet import BACKBONES, KerasWeights, network_of, problem_fetching
from cvtrain.sections.architectures import ARCHITECTURES


class _Asked(Exception):
    pass


def what_keras_fetches(base, side, monkeypatch):
    """The address and the place that Keras' own constructor asks for, at which it is stopped."""
    from keras.src.utils import file_utils

    asked = []

    def get_file(fname, origin, *, cache_subdir, **_):
        asked.append((origin, Path(file_utils.config.keras_home()) / cache_subdir / fname))
        raise _Asked

    monkeypatch.setattr(file_utils, "get_file", get_file)
    constructor = getattr(keras.applications, ARCHITECTURES[base.name].constructor)
    width = {} if base.alpha is None else {"alpha": base.alpha}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`input_shape` is undefined")
        with pytest.raises(_Asked):
            constructor(include_top=False, weights="imagenet", input_shape=(side, side, 3), **width)
    return asked[0]


@pytest.mark.parametrize(
    ("base", "side"),
    [*((base, 224) for base in BACKBONES), (BACKBONES[0], 160), (BACKBONES[0], 96)],
)
def test_the_address_is_the_one_that_keras_asks_for(base, side, monkeypatch):
    monkeypatch.delenv("KERAS_HOME", raising=False)
    assert (base.address(side), base.cached(side)) == what_keras_fetches(base, side, monkeypatch)


@pytest.mark.parametrize(
    ("name", "network"),
    [
        # As they stand in keras/src/applications/*.py.
        ("mobilenet_2_5_224_tf_no_top.h5", KerasWeights("mobilenet", 0.25)),
        ("mobilenet_1_0_128_tf.h5", KerasWeights("mobilenet", 1.0)),
        ("mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96_no_top.h5",
         KerasWeights("mobilenet_v2", 0.35)),
        ("weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
         KerasWeights("mobilenet_v3_small", 1.0)),
        ("weights_mobilenet_v3_large_224_0.75_float.h5", KerasWeights("mobilenet_v3_large", 0.75)),
        ("vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", KerasWeights("vgg16")),
        ("resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", KerasWeights("resnet50")),
        ("resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5", KerasWeights("resnet50v2")),
        ("efficientnetb0_notop.h5", KerasWeights("efficientnet_b0")),
        ("efficientnetv2-b0_notop.h5", KerasWeights("efficientnet_v2_b0")),
        ("efficientnetv2-s.h5", KerasWeights("efficientnet_v2_s")),
        ("NASNet-mobile-no-top.h5", KerasWeights("nasnet_mobile")),
        ("convnext_tiny_notop.h5", KerasWeights("convnext_tiny")),
        ("inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5", KerasWeights("inception_v3")),
        ("inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
         KerasWeights("inception_resnet_v2")),
        ("xception_weights_tf_dim_ordering_tf_kernels_notop.h5", KerasWeights("xception")),
        ("densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5", KerasWeights("densenet121")),
        ("vgg16.weights.h5", KerasWeights("vgg16")),
        ("weights.h5", None),
        ("model.h5", None),
    ],
)  # fmt: skip
def test_the_name_of_a_file_tells_its_network(name, network):
    assert network_of(Path("some") / "folder" / name) == network


def test_keras_home_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert BACKBONES[0].cached(224) == tmp_path / "models" / "mobilenet_2_5_224_tf_no_top.h5"


@pytest.fixture
def server():
    """The address of a web server on this machine that has one file, /there."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200 if self.path == "/there" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_what_can_be_fetched_has_no_problem(server):
    assert problem_fetching(f"{server}/there") == ""
    assert problem_fetching(f"{server}/missing") == "Not Found"


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/x", "no address", "http://[broken"])
def test_what_cannot_be_fetched_has_one(address):
    assert problem_fetching(address)


def test_a_server_that_never_answers_is_not_waited_for():
    import socket
    import time

    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        problem = problem_fetching(f"http://127.0.0.1:{silent.getsockname()[1]}/x", seconds=0.2)
    assert problem
    assert time.monotonic() - started < 20  # it would take for ever

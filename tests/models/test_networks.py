"""Every network of `keras.applications` through what extract-features, finetune and visualize do.

Random weights and small images. Of each family the smallest is tried; the others are deeper and
wider, take minutes and gigabytes, and run by hand:

    CVTRAIN_ALL_NETWORKS=1 python -m pytest tests/models/test_networks.py
"""

import os

import numpy as np
import pytest

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.explain.explain import explainer
from cvtrain.explain.filters import filter_images
from cvtrain.explain.flat_model import last_spatial_layer, open_model
from cvtrain.models.backbones import build_backbone
from cvtrain.models.blocks import find_cut
from cvtrain.models.heads import attach_dense
from cvtrain.models.saved_model import copy_weights, logits_model
from cvtrain.models.transfer import (
    in_precision,
    layer_digests,
    prefix_of,
    prove_freeze,
    set_trainable,
    suffix_of,
    unfreeze,
)
from cvtrain.sections import Head, Unfreeze
from cvtrain.sections.architectures import ARCHITECTURES

LABELS = np.array([0, 2])
ALPHAS = {"mobilenet": 0.25, "mobilenet_v2": 0.35}
ALL = bool(os.environ.get("CVTRAIN_ALL_NETWORKS"))
FILTERED = {"mobilenet_v3_small", "efficientnet_b0"}
SMALLEST = {
    *("vgg16", "resnet50v2", "inception_v3", "xception", "densenet121", "convnext_tiny"),
    *("mobilenet", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "efficientnet_v2_b0"),
}


def sides_of(name):
    """Height and width at which the last map is larger than one pixel."""
    return {71: (71, 75), 75: (107, 110)}.get(ARCHITECTURES[name].smallest_side, (64, 70))


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_goes_through_every_command(name):
    if name not in SMALLEST and not ALL:
        pytest.skip("a deeper one of its family: CVTRAIN_ALL_NETWORKS=1 tries it")
    size = sides_of(name)
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    base = build_backbone(name, image_size=size, weights=None, alpha=ALPHAS.get(name))
    cut = find_cut(base, None)
    model = attach_dense(base, cut, Head(dense=(), dropout=0.0), num_classes=3, seed=1)
    extract(name, model, cut, images)
    look(name, model, images)
    train_top(model, images)


def extract(name, model, cut, images):
    """Features in both precisions are those of the network itself.

    EfficientNets with random weights double an error from block to block (0.003 at the stem of B1,
    0.04 in block 4, 0.7 at its end; plain Keras' mixed_bfloat16 with the same weights: 0.005, 0.06,
    1.2). So in bfloat16 they are compared in their third block.
    """
    early = "block3a_project_bn" if name.startswith("efficientnet") else cut
    for precision, layer, largest in (("float32", cut, 1e-4), ("bfloat16", early, 0.2)):
        prefix = prefix_of(model, layer)
        exact = np.asarray(prefix(images, training=False))
        features = in_precision(prefix, precision)(images, training=False)
        features = np.asarray(keras.ops.cast(features, "float32"))
        assert np.linalg.norm(features - exact) < largest * np.linalg.norm(exact)


def look(name, model, images):
    """Grad-CAM in its closed form, where pooling and the logits alone follow; a filter."""
    kernel, _ = model.get_layer("logits").get_weights()
    opened = open_model(model)
    layer = last_spatial_layer(opened)
    maps = explainer(opened, "gradcam")(images.astype(np.float32), np.array([[0], [2]])).maps
    exact = np.asarray(keras.Model(model.input, model.get_layer(layer).output)(images))
    expected = np.einsum("nhwk,kn->nhw", exact, kernel[:, LABELS]) / np.prod(exact.shape[1:3])
    np.testing.assert_allclose(maps[:, 0], expected, atol=1e-4 * abs(expected).max())
    if name not in FILTERED and not ALL:
        return  # it takes as long as all the rest, and copies no other layers than `extract`
    found = filter_images(opened, layer, filters=[0], steps=1, precision="bfloat16")
    assert np.isfinite(found.values).all()


def train_top(model, images):
    """A step in both precisions changes what is unfrozen, and nothing else."""
    unfrozen = unfreeze(model, Unfreeze())
    set_trainable(model, unfrozen.layers)
    features = np.asarray(prefix_of(model, unfrozen.split)(images, training=False))
    for precision in ("float32", "bfloat16"):
        before = layer_digests(model)
        trained = in_precision(suffix_of(model, unfrozen.split), precision)
        step = backend.train_step(logits_model(trained), keras.optimizers.Adam(1e-3))
        step.run(features, LABELS, 1e-3)
        copy_weights(trained, model)
        prove_freeze(before, layer_digests(model), unfrozen.layers)

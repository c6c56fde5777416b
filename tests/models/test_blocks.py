import numpy as np
import pytest

from cvtrain.backend import keras
from cvtrain.errors import ConfigError
from cvtrain.models.backbones import build_backbone
from cvtrain.models.blocks import Block, blocks, find_cut, narrow_layers
from cvtrain.models.convnet import build_convnet
from cvtrain.sections import Convnet

ALPHA = {"mobilenet": 0.25, "mobilenet_v2": 0.35, "mobilenet_v3_small": 0.5}


@pytest.fixture(scope="module")
def base():
    models = {}

    def build(name):
        if name not in models:
            side = 75 if "ception" in name else 32
            models[name] = build_backbone(
                name, image_size=(side, side), weights=None, alpha=ALPHA.get(name)
            )
        return models[name]

    return build


@pytest.fixture(scope="module")
def convnet():
    net = Convnet(filters=(4, 4, 4), pooling=(2, 2, 1), dense=())
    return build_convnet(net, image_size=(20, 20), num_classes=3)


def ends(model):
    return {block.name: block.layer for block in blocks(model)}


def test_blocks_of_vgg(base):
    assert blocks(base("vgg16")) == [Block(f"block{i}", f"block{i}_pool") for i in range(1, 6)]


def test_blocks_of_resnet(base):
    found = ends(base("resnet50v2"))
    depths = {2: 3, 3: 4, 4: 6, 5: 3}  # K. He et al., arXiv:1512.03385, table 1
    names = [f"conv{s}_block{b}" for s, depth in depths.items() for b in range(1, depth + 1)]
    assert list(found) == ["conv1", *names]
    assert found["conv1"] == "pool1_pool"
    assert found["conv4_block2"] == "conv4_block2_out"
    assert found["conv5_block3"] == "post_relu"


def test_blocks_of_mobilenet(base):
    expected = {f"conv_pw_{i}": f"conv_pw_{i}_relu" for i in range(1, 14)}
    assert ends(base("mobilenet")) == {"conv1": "conv1_relu", **expected}


def test_blocks_of_mobilenet_v2(base):
    found = ends(base("mobilenet_v2"))
    assert list(found) == [
        "Conv1",
        "expanded_conv",
        *(f"block_{i}" for i in range(1, 17)),
        "Conv_1",
    ]
    assert found["block_1"] == "block_1_project_BN"
    assert found["block_2"] == "block_2_add"
    assert found["Conv_1"] == "out_relu"


def test_blocks_of_mobilenet_v3(base):
    found = ends(base("mobilenet_v3_small"))
    others = [f"expanded_conv_{i}" for i in range(1, 11)]
    assert list(found) == ["conv", "expanded_conv", *others, "conv_1"]
    assert found["expanded_conv_2"] == "expanded_conv_2_add"


@pytest.mark.slow
def test_blocks_of_inception_begin_with_a_stem_without_names(base):
    found = ends(base("inception_v3"))
    assert list(found) == ["stem", *(f"mixed{i}" for i in range(11))]
    assert found["stem"] == "max_pooling2d_1"
    assert found["mixed5"] == "mixed5"


@pytest.mark.slow
def test_blocks_of_xception(base):
    found = ends(base("xception"))
    assert list(found) == [f"block{i}" for i in range(1, 15)]
    assert found["block1"] == "block1_conv2_act"
    assert found["block2"] == "add"
    assert found["block14"] == "block14_sepconv2_act"


@pytest.mark.slow
def test_blocks_of_efficientnet(base):
    found = ends(base("efficientnet_b0"))
    repeats = [1, 2, 2, 3, 3, 4, 1]  # M. Tan and Q. Le, arXiv:1905.11946, table 1
    names = [f"block{i}{chr(97 + j)}" for i, n in enumerate(repeats, 1) for j in range(n)]
    assert list(found) == ["stem", *names, "top"]
    assert found["stem"] == "stem_activation"
    assert found["block6b"] == "block6b_add"


@pytest.mark.slow
def test_blocks_of_convnext(base):
    found = ends(base("convnext_tiny"))
    names = ["stem"]
    for stage, depth in enumerate([3, 3, 9, 3]):  # Z. Liu et al., arXiv:2201.03545, section 2
        if stage:
            names.append(f"downsampling_block_{stage - 1}")
        names += [f"stage_{stage}_block_{b}" for b in range(depth)]
    assert list(found) == [f"convnext_tiny_{name}" for name in names]


@pytest.mark.slow
def test_a_cell_of_nasnet_is_no_block_because_the_next_one_sees_past_it(base):
    found = ends(base("nasnet_mobile"))
    assert list(found) == ["stem", "normal_concat_12"]
    assert found["normal_concat_12"].startswith("activation")


@pytest.mark.slow
def test_blocks_of_densenet(base):
    found = ends(base("densenet121"))
    assert list(found)[:8] == ["conv1", *(f"conv2_block{i}" for i in range(1, 7)), "pool2"]
    assert found["conv1"] == "pool1"
    assert found["conv2_block6"] == "conv2_block6_concat"
    assert found["pool2"] == "pool2_pool"
    assert found["conv5_block16"] == "relu"


def test_blocks_of_a_convnet_end_at_its_features(convnet):
    assert blocks(convnet) == [
        Block("conv1", "pool1"),
        Block("conv2", "pool2"),
        Block("conv3", "conv3_relu"),
    ]


@pytest.mark.parametrize("name", ["xception", "mobilenet_v3_small", "convnext_tiny"])
def test_every_path_passes_through_a_narrow_layer(name, base):
    model = base(name)
    operations = model.operations
    producer = {id(operation.output): i for i, operation in enumerate(operations)}
    inputs = [
        [producer[id(t)] for t in keras.tree.flatten(operation.input)] for operation in operations
    ]
    # All paths from the input to a layer, times all paths from it to the output.
    before, after = [1] + [0] * (len(operations) - 1), [0] * (len(operations) - 1) + [1]
    for i, sources in enumerate(inputs[1:], 1):
        before[i] = sum(before[source] for source in sources)
    for i in reversed(range(len(operations))):
        for source in inputs[i]:
            after[source] += after[i]
    through = [b * a for b, a in zip(before, after, strict=True)]
    names = [o.name for o, n in zip(operations, through, strict=True) if n == before[-1]]
    assert narrow_layers(model) == [n for n in names if n in {layer.name for layer in model.layers}]


def test_a_model_splits_at_a_narrow_layer(base):
    model = base("mobilenet_v2")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    tensor = model.get_layer(narrow_layers(model)[20]).output
    prefix, suffix = keras.Model(model.input, tensor), keras.Model(tensor, model.output)
    features = suffix(prefix(images, training=False), training=False)
    np.testing.assert_allclose(features, model(images, training=False), rtol=1e-5, atol=1e-6)
    assert "block_16_project_BN" in narrow_layers(model)  # also after the suffix shares its layers


@pytest.mark.parametrize(
    ("cut", "layer"),
    [
        (None, "conv3_relu"),
        ("conv2", "pool2"),
        ("conv2_relu", "conv2_relu"),
        ("pool1", "pool1"),
    ],
)
def test_a_cut_is_a_block_or_a_layer(cut, layer, convnet):
    assert find_cut(convnet, cut) == layer


def test_inside_a_branch_a_cut_is_allowed(base):
    assert find_cut(base("xception"), "block3_sepconv1") == "block3_sepconv1"


@pytest.mark.parametrize("cut", ["conv22", "", "logits", "preprocess", "images"])
def test_a_cut_elsewhere_is_refused_with_the_blocks(cut, convnet):
    with pytest.raises(ConfigError, match="no block and no layer") as caught:
        find_cut(convnet, cut)
    assert "conv1, conv2, conv3" in caught.value.advice
    if cut == "conv22":
        assert "Did you mean conv2" in caught.value.advice

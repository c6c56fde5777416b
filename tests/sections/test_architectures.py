import pytest

from cvtrain.backend import keras
from cvtrain.sections.architectures import ARCHITECTURES, networks_like


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_keras_name_of_a_class_is_one_network(name):
    constructor = ARCHITECTURES[name].constructor
    assert hasattr(keras.applications, constructor)
    assert networks_like(constructor) == [name]
    assert networks_like(name.upper().replace("_", "-")) == [name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("VGG-16", ["vgg16"]),
        ("mobilenetv2_0.35_224", ["mobilenet_v2"]),
        ("keras.applications.resnet50.ResNet50", ["resnet50"]),
        ("mobilnet_v2", ["mobilenet_v2"]),
        ("vgg", ["vgg16", "vgg19"]),
        ("MobileNetV3", ["mobilenet_v3_small", "mobilenet_v3_large"]),
        ("densenet120", ["densenet121", "densenet169", "densenet201"]),
        ("vit_b16", []),
        ("", []),
    ],
)
def test_other_names_are_the_networks_of_their_kind(name, expected):
    assert networks_like(name) == expected

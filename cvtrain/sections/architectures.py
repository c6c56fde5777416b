"""The networks of `keras.applications` by name. Plain data: a config is checked against it."""

import difflib
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Attributes:
        constructor: its name in `keras.applications`.
        preprocessing: `caffe`, `tf` or `torch`, as Keras calls them; `inside`: the network itself
            begins with it.
        smallest_side: of the images, in pixels.
        has_alpha: its width is scaled by a factor `alpha`.
    """

    constructor: str
    preprocessing: str
    smallest_side: int = 32
    has_alpha: bool = False


ARCHITECTURES: dict[str, Architecture] = {
    "vgg16": Architecture("VGG16", "caffe"),
    "vgg19": Architecture("VGG19", "caffe"),
    "resnet50": Architecture("ResNet50", "caffe"),
    "resnet101": Architecture("ResNet101", "caffe"),
    "resnet152": Architecture("ResNet152", "caffe"),
    "resnet50v2": Architecture("ResNet50V2", "tf"),
    "resnet101v2": Architecture("ResNet101V2", "tf"),
    "resnet152v2": Architecture("ResNet152V2", "tf"),
    "inception_v3": Architecture("InceptionV3", "tf", 75),
    "inception_resnet_v2": Architecture("InceptionResNetV2", "tf", 75),
    "xception": Architecture("Xception", "tf", 71),
    "mobilenet": Architecture("MobileNet", "tf", has_alpha=True),
    "mobilenet_v2": Architecture("MobileNetV2", "tf", has_alpha=True),
    "mobilenet_v3_small": Architecture("MobileNetV3Small", "inside", has_alpha=True),
    "mobilenet_v3_large": Architecture("MobileNetV3Large", "inside", has_alpha=True),
    "densenet121": Architecture("DenseNet121", "torch"),
    "densenet169": Architecture("DenseNet169", "torch"),
    "densenet201": Architecture("DenseNet201", "torch"),
    "nasnet_mobile": Architecture("NASNetMobile", "tf"),
    "nasnet_large": Architecture("NASNetLarge", "tf"),
    "efficientnet_b0": Architecture("EfficientNetB0", "inside"),
    "efficientnet_b1": Architecture("EfficientNetB1", "inside"),
    "efficientnet_b2": Architecture("EfficientNetB2", "inside"),
    "efficientnet_b3": Architecture("EfficientNetB3", "inside"),
    "efficientnet_b4": Architecture("EfficientNetB4", "inside"),
    "efficientnet_b5": Architecture("EfficientNetB5", "inside"),
    "efficientnet_b6": Architecture("EfficientNetB6", "inside"),
    "efficientnet_b7": Architecture("EfficientNetB7", "inside"),
    "efficientnet_v2_b0": Architecture("EfficientNetV2B0", "inside"),
    "efficientnet_v2_b1": Architecture("EfficientNetV2B1", "inside"),
    "efficientnet_v2_b2": Architecture("EfficientNetV2B2", "inside"),
    "efficientnet_v2_b3": Architecture("EfficientNetV2B3", "inside"),
    "efficientnet_v2_s": Architecture("EfficientNetV2S", "inside"),
    "efficientnet_v2_m": Architecture("EfficientNetV2M", "inside"),
    "efficientnet_v2_l": Architecture("EfficientNetV2L", "inside"),
    "convnext_tiny": Architecture("ConvNeXtTiny", "inside"),
    "convnext_small": Architecture("ConvNeXtSmall", "inside"),
    "convnext_base": Architecture("ConvNeXtBase", "inside"),
    "convnext_large": Architecture("ConvNeXtLarge", "inside"),
    "convnext_xlarge": Architecture("ConvNeXtXLarge", "inside"),
}
"""Every architecture by the name that a config uses."""


def networks_like(name: str) -> list[str]:
    """Suggested networks for an unknown name, such as the name of a Keras class.

    `MobileNetV2` and `ResNet-50` are one each; `resnet18` and `resnet` are all of that kind.
    """
    by_letters = {_letters(each): each for each in ARCHITECTURES}
    # Keras calls a model `mobilenetv2_0.35_224`, a class `keras.applications.vgg16.VGG16`.
    last = re.sub(r"_\d\.\d+_\d+$", "", name).rpartition(".")[2]
    letters = _letters(last)
    if letters in by_letters:
        return [by_letters[letters]]
    kind = _kind(letters)
    begins = [known for each, known in by_letters.items() if letters and each.startswith(letters)]
    if begins or (kind and kind in map(_kind, by_letters)):
        return begins or [known for each, known in by_letters.items() if _kind(each) == kind]
    return [by_letters[each] for each in difflib.get_close_matches(letters, by_letters, 1)]


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _kind(letters: str) -> str:
    return re.split(r"\d", letters, maxsplit=1)[0]

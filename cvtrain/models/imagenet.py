"""Keras' ImageNet weights: which file each network has, and fetching it once."""

import contextlib
import os
import sys
from pathlib import Path

from cvtrain.errors import ConfigError, ResourceError
from cvtrain.files import printable

_STORE = "https://storage.googleapis.com/tensorflow/keras-applications/"
_KERNELS = "_weights_tf_dim_ordering_tf_kernels_notop.h5"
_MOBILENET = f"{_STORE}mobilenet/mobilenet_"
_MOBILENET_V2 = f"{_STORE}mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_"
_MOBILENET_V3 = f"{_STORE}mobilenet_v3/weights_mobilenet_v3_"
_FIRST_EFFICIENTNET = "https://storage.googleapis.com/keras-applications/efficientnet"

_DOWNLOADS: dict[str, tuple[str, str | None]] = {
    "vgg16": (f"{_STORE}vgg16/vgg16{_KERNELS}", "6d6bbae143d832006294945121d1f1fc"),
    "vgg19": (f"{_STORE}vgg19/vgg19{_KERNELS}", "253f8cb515780f3b799900260a226db6"),
    "resnet50": (f"{_STORE}resnet/resnet50{_KERNELS}", "4d473c1dd8becc155b73f8504c6f6626"),
    "resnet101": (f"{_STORE}resnet/resnet101{_KERNELS}", "88cf7a10940856eca736dc7b7e228a21"),
    "resnet152": (f"{_STORE}resnet/resnet152{_KERNELS}", "ee4c566cf9a93f14d82f913c2dc6dd0c"),
    "resnet50v2": (f"{_STORE}resnet/resnet50v2{_KERNELS}", "fac2f116257151a9d068a22e544a4917"),
    "resnet101v2": (f"{_STORE}resnet/resnet101v2{_KERNELS}", "c0ed64b8031c3730f411d2eb4eea35b5"),
    "resnet152v2": (f"{_STORE}resnet/resnet152v2{_KERNELS}", "ed17cf2e0169df9d443503ef94b23b33"),
    "inception_v3": (
        f"{_STORE}inception_v3/inception_v3{_KERNELS}",
        "bcbd6486424b2319ff4ef7d526e38f63",
    ),
    "inception_resnet_v2": (
        f"{_STORE}inception_resnet_v2/inception_resnet_v2{_KERNELS}",
        "d19885ff4a710c122648d3b5c3b684e4",
    ),
    "xception": (f"{_STORE}xception/xception{_KERNELS}", "b0042744bf5b25fce3cb969f33bebb97"),
    "mobilenet": (f"{_MOBILENET}1_0_224_tf_no_top.h5", None),
    "mobilenet 0.75": (f"{_MOBILENET}7_5_224_tf_no_top.h5", None),
    "mobilenet 0.5": (f"{_MOBILENET}5_0_224_tf_no_top.h5", None),
    "mobilenet 0.25": (f"{_MOBILENET}2_5_224_tf_no_top.h5", None),
    "mobilenet_v2": (f"{_MOBILENET_V2}1.0_224_no_top.h5", None),
    "mobilenet_v2 0.35": (f"{_MOBILENET_V2}0.35_224_no_top.h5", None),
    "mobilenet_v2 0.5": (f"{_MOBILENET_V2}0.5_224_no_top.h5", None),
    "mobilenet_v2 0.75": (f"{_MOBILENET_V2}0.75_224_no_top.h5", None),
    "mobilenet_v2 1.3": (f"{_MOBILENET_V2}1.3_224_no_top.h5", None),
    "mobilenet_v2 1.4": (f"{_MOBILENET_V2}1.4_224_no_top.h5", None),
    "mobilenet_v3_small": (
        f"{_MOBILENET_V3}small_224_1.0_float_no_top_v2.h5",
        "d3e8ec802a04aa4fc771ee12a9a9b836",
    ),
    "mobilenet_v3_small 0.75": (
        f"{_MOBILENET_V3}small_224_0.75_float_no_top_v2.h5",
        "ebdb5cc8e0b497cd13a7c275d475c819",
    ),
    "mobilenet_v3_large": (
        f"{_MOBILENET_V3}large_224_1.0_float_no_top_v2.h5",
        "07fb09a5933dd0c8eaafa16978110389",
    ),
    "mobilenet_v3_large 0.75": (
        f"{_MOBILENET_V3}large_224_0.75_float_no_top_v2.h5",
        "40af19a13ebea4e2ee0c676887f69a2e",
    ),
    "densenet121": (f"{_STORE}densenet/densenet121{_KERNELS}", "30ee3e1110167f948a6b9946edeeb738"),
    "densenet169": (f"{_STORE}densenet/densenet169{_KERNELS}", "b8c4d4c20dd625c148057b9ff1c1176b"),
    "densenet201": (f"{_STORE}densenet/densenet201{_KERNELS}", "c13680b51ded0fb44dff2d8f86ac8bb1"),
    "nasnet_mobile": (
        f"{_STORE}nasnet/NASNet-mobile-no-top.h5",
        "1ed92395b5b598bdda52abe5c0dbfd63",
    ),
    "nasnet_large": (f"{_STORE}nasnet/NASNet-large-no-top.h5", "d81d89dc07e6e56530c4e77faddd61b5"),
    "efficientnet_b0": (f"{_FIRST_EFFICIENTNET}b0_notop.h5", "50bc09e76180e00e4465e1a485ddc09d"),
    "efficientnet_b1": (f"{_FIRST_EFFICIENTNET}b1_notop.h5", "74c4e6b3e1f6a1eea24c589628592432"),
    "efficientnet_b2": (f"{_FIRST_EFFICIENTNET}b2_notop.h5", "111f8e2ac8aa800a7a99e3239f7bfb39"),
    "efficientnet_b3": (f"{_FIRST_EFFICIENTNET}b3_notop.h5", "af6d107764bb5b1abb91932881670226"),
    "efficientnet_b4": (f"{_FIRST_EFFICIENTNET}b4_notop.h5", "ebc24e6d6c33eaebbd558eafbeedf1ba"),
    "efficientnet_b5": (f"{_FIRST_EFFICIENTNET}b5_notop.h5", "38879255a25d3c92d5e44e04ae6cec6f"),
    "efficientnet_b6": (f"{_FIRST_EFFICIENTNET}b6_notop.h5", "9ecce42647a20130c1f39a5d4cb75743"),
    "efficientnet_b7": (f"{_FIRST_EFFICIENTNET}b7_notop.h5", "cbcfe4450ddf6f3ad90b1b398090fe4a"),
    "efficientnet_v2_b0": (
        f"{_STORE}efficientnet_v2/efficientnetv2-b0_notop.h5",
        "893217f2bb855e2983157299931e43ff",
    ),
    "efficientnet_v2_b1": (
        f"{_STORE}efficientnet_v2/efficientnetv2-b1_notop.h5",
        "0e80663031ca32d657f9caa404b6ec37",
    ),
    "efficientnet_v2_b2": (
        f"{_STORE}efficientnet_v2/efficientnetv2-b2_notop.h5",
        "1dfe2e7a5d45b6632553a8961ea609eb",
    ),
    "efficientnet_v2_b3": (
        f"{_STORE}efficientnet_v2/efficientnetv2-b3_notop.h5",
        "f6abf7b5849ac99a89b50dd3fd532856",
    ),
    "efficientnet_v2_s": (
        f"{_STORE}efficientnet_v2/efficientnetv2-s_notop.h5",
        "af0682fb74e8c54910f2d4393339c070",
    ),
    "efficientnet_v2_m": (
        f"{_STORE}efficientnet_v2/efficientnetv2-m_notop.h5",
        "1b8dc055df72dde80d614482840fe342",
    ),
    "efficientnet_v2_l": (
        f"{_STORE}efficientnet_v2/efficientnetv2-l_notop.h5",
        "b0b66b5c863aef5b46e8608fe1711615",
    ),
    "convnext_tiny": (
        f"{_STORE}convnext/convnext_tiny_notop.h5",
        "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
    ),
    "convnext_small": (
        f"{_STORE}convnext/convnext_small_notop.h5",
        "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
    ),
    "convnext_base": (
        f"{_STORE}convnext/convnext_base_notop.h5",
        "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
    ),
    "convnext_large": (
        f"{_STORE}convnext/convnext_large_notop.h5",
        "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
    ),
    "convnext_xlarge": (
        f"{_STORE}convnext/convnext_xlarge_notop.h5",
        "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
    ),
}
"""Address and digest (MD5 or SHA-256; None where Keras has none) of each ImageNet file without top.

The key is the network, and its alpha where that is not 1. MobileNets at 224 pixels.
"""


def imagenet_weights(name: str, *, alpha: float | None = None) -> Path:
    """Keras' ImageNet weights of a network without its classifier: downloaded once, then kept.

    They are kept in Keras' own folder, `models` in `$KERAS_HOME` or `~/.keras`, under Keras' names,
    and checked against Keras' digests.

    Args:
        name: a key of `backbones.ARCHITECTURES`.
        alpha: of a MobileNet; None is 1.

    Raises:
        ConfigError: Keras has no such weights.
        ResourceError: they cannot be downloaded; says which file to put where.
    """
    key = name if alpha in (None, 1) else f"{name} {alpha}"
    if key not in _DOWNLOADS:
        alphas = [
            other.partition(" ")[2] or "1.0" for other in _DOWNLOADS if other.split()[0] == name
        ]
        raise ConfigError(
            f"backbone.weights: there are no ImageNet weights of {name} with alpha {alpha}",
            f"Use alpha {', '.join(alphas)}, or weights: none.",
        )
    from cvtrain.backend import keras

    origin, digest = _DOWNLOADS[key]
    # NASNet is the one network whose files Keras renames.
    file = f"{name}_no_top.h5" if name.startswith("nasnet") else origin.rpartition("/")[2]
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(sys.stderr):  # Keras' progress; stdout is for results.
            path = keras.utils.get_file(
                file, origin, cache_dir=home, cache_subdir="models", file_hash=digest
            )
    except Exception as error:  # Keras raises Exception itself for a failed download.
        reason = printable(str(error).strip().partition("\n")[0])
        raise ResourceError(
            f"backbone.weights: cannot get the ImageNet weights of {key}: {reason}",
            f"Without a network: download {origin} elsewhere and put it here as "
            f"{home / 'models' / file}; or use weights: FILE, or weights: none.",
        ) from error
    return Path(path)

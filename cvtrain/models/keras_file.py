"""Check that a `.keras` file contains only Keras' own layers for images, before Keras opens it.

Such a file is a zip archive: config.json names the classes to build and their arguments,
model.weights.h5 holds the weights. Keras refuses what is known to be dangerous, and that list was
found incomplete again and again. This module accepts only what is known to be harmless: an archive
as Keras writes it, layers that compute with numbers and do nothing else, plain arrays.
"""

import contextlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvtrain.errors import RunError
from cvtrain.models import foreign_models as formats
from cvtrain.models.hdf5 import check_file
from cvtrain.system.text import escape, reason_of

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {"metadata.json", _CONFIG, _WEIGHTS}
# The largest network of keras.applications has a config of 2 MB, 7,000 objects and depth 13.
_MOST_BYTES = 16_000_000
_MOST_OBJECTS = 20_000
_MOST_DEPTH = 64
_LARGEST_NUMBER = 2**24  # of units, pixels, steps, ...
_ANY_NUMBER = ("seed", "shared_object_id")

_LAYERS = """
InputLayer Identity Dense EinsumDense Embedding Masking
Activation ELU LeakyReLU PReLU ReLU Softmax
Attention AdditiveAttention GroupQueryAttention MultiHeadAttention
Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose
DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D
Add Average Concatenate Dot Maximum Minimum Multiply Subtract
BatchNormalization GroupNormalization LayerNormalization Normalization RMSNormalization
SpectralNormalization UnitNormalization
AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D
AveragePooling1D AveragePooling2D AveragePooling3D MaxPooling1D MaxPooling2D MaxPooling3D
GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
ActivityRegularization AlphaDropout Dropout GaussianDropout GaussianNoise
SpatialDropout1D SpatialDropout2D SpatialDropout3D
Cropping1D Cropping2D Cropping3D Flatten Permute RepeatVector Reshape
UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
AugMix AutoContrast CenterCrop CutMix Equalization MaxNumBoundingBoxes MixUp Pipeline
RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop
RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHue
RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness
RandomShear RandomTranslation RandomZoom Rescaling Resizing Solarization
"""
_ACTIVATIONS = """
celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu
linear log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus
softsign sparse_plus sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink threshold
"""
_CORE_OPERATIONS = """
Cast ConvertToTensor SaturateCast Scatter ScatterUpdate Slice SliceUpdate StopGradient Unstack
"""

HARMLESS: Mapping[str, frozenset[str]] = {
    "keras": frozenset(("Sequential", "DTypePolicy", "FloatDTypePolicy")),
    "keras.dtype_policies": frozenset(("DTypePolicy", "FloatDTypePolicy")),
    "keras.random": frozenset(("SeedGenerator",)),
    "keras.layers": frozenset(_LAYERS.split()),
    "keras.activations": frozenset(_ACTIVATIONS.split()),
    "builtins": frozenset(_ACTIVATIONS.split()),  # Keras' name for its own activations
    "keras.src.models.functional": frozenset(("Functional",)),
    "keras.src.models.sequential": frozenset(("Sequential",)),
    "keras.src.ops.core": frozenset(_CORE_OPERATIONS.split()),
    "keras.src.applications.convnext": frozenset(("LayerScale", "StochasticDepth")),
    "keras.src.applications.inception_resnet_v2": frozenset(("CustomScaleLayer",)),
}
"""What a config may name, by module: they take numbers and return numbers, and neither a file, an
address nor code is among their arguments. Left out of `keras.layers` are Lambda and what wraps
other engines (code), lookups and text (files), recurrent and audio layers (not of images), and the
equalization of local histograms (memory, of which its output shows nothing)."""

_ALL_HARMLESS = {
    *("keras.initializers", "keras.regularizers", "keras.constraints"),
    *(f"keras.src.ops.{name}" for name in ("einops", "image", "linalg", "math", "nn", "numpy")),
}
"""Modules in which every class is harmless. Models of images do not use their functions."""

_MODELS = ("Functional", "Sequential")
_VALUES = ("__keras_tensor__", "__numpy__", "__tensor__", "__slice__", "__ellipsis__")
_DTYPES = re.compile(r"(float|int|uint|bfloat|bool)\d*")  # not `float32,(9999,9999)f8`


@dataclass(frozen=True)
class KerasFile:
    """Facts about a `.keras` file that passed the check.

    Attributes:
        config: the content of config.json, without the losses and optimizers of training.
        num_values: number of values in all arrays of weights.
    """

    config: dict[str, Any]
    num_values: int


def check_keras_file(path: Path) -> KerasFile:
    """Check a `.keras` file completely, without building anything and without an engine.

    Raises:
        RunError: it is missing, damaged, or holds what Keras does not write for models of images.
    """
    with _opened(path) as archive:
        config = _config_in(archive)
        return KerasFile(config, check_file(archive.read(_WEIGHTS)))


def layer_names(path: Path) -> list[str]:
    """The names of the layers of a `.keras` file, at any depth.

    Raises:
        RunError: as `check_keras_file` does; its weights are not looked at.
    """
    with _opened(path) as archive:
        return list(_names_in(_config_in(archive)["config"]))


def unusable(path: Path, error: Exception) -> RunError:
    """The error for a model file whose loading raised `error`."""
    shown, reason = escape(path), reason_of(error)
    if formats.is_keras_archive(path) and (version := formats.keras2_version(path)):
        return RunError(
            f"{shown}: cannot be opened: Keras {version} wrote it, and this is Keras 3: {reason}",
            formats.how_to_open(path),
        )
    if not formats.is_keras_archive(path):
        return RunError(
            f"{shown}: cannot be opened: it {formats.what_is(path)}; expected a .keras "
            "archive, as Keras 3 saves a model",
            formats.how_to_open(path),
        )
    other = "The file is damaged, or not a model of Keras' own layers for images."
    advice = formats.how_to_open(path) if formats.is_packed(path) else other
    return RunError(f"{shown}: cannot be opened: {reason}", advice)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open the archive at `path`; every error in the block becomes a RunError that names it."""
    if not path.is_file():
        advice = "Name a run, or a model that Keras has saved as a .keras file."
        raise RunError(
            f"{escape(path)}: {formats.what_is(path)}",
            formats.how_to_open(path) if path.is_dir() else advice,
        )
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except Exception as error:  # zipfile and HDF5 raise nearly anything for what is damaged.
        raise unusable(path, error) from error


def _config_in(archive: zipfile.ZipFile) -> dict[str, Any]:
    """config.json of an archive as Keras writes it, checked."""
    members = {member.filename: member for member in archive.infolist()}
    if set(members) != _MEMBERS or len(archive.infolist()) != len(_MEMBERS):
        found = ", ".join(member.filename for member in archive.infolist()[:6])
        raise ValueError(f"it should hold {', '.join(sorted(_MEMBERS))} alone; it holds {found}")
    for name, member in members.items():
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise ValueError(f"{name} is compressed or encrypted, and Keras stores it as it is")
        if member.file_size != member.compress_size:
            raise ValueError(f"{name} is damaged")
    if members[_CONFIG].file_size > _MOST_BYTES:
        raise ValueError(f"{_CONFIG} is larger than that of any model")
    config = json.loads(archive.read(_CONFIG))
    if not isinstance(config, dict):
        raise ValueError(f"{_CONFIG} describes no model")
    # Losses and optimizers: Keras passes them over, too.
    model = {key: value for key, value in config.items() if key != "compile_config"}
    if model.get("class_name") not in _MODELS:
        raise ValueError("it is not a functional or sequential model")
    _check(model)
    return model


def _check(config: Any) -> None:
    """Refuse what is not known to be harmless, at any depth."""
    num_objects, waiting = 0, [(config, "", 0)]
    while waiting:
        value, key, depth = waiting.pop()
        if depth > _MOST_DEPTH or num_objects > _MOST_OBJECTS:
            raise ValueError("it is larger or deeper than any model of images")
        if isinstance(value, dict):
            if "class_name" in value:
                num_objects += 1
                _check_object(value)
            waiting += [(inner, name, depth + 1) for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(inner, key, depth + 1) for inner in value]
        elif (
            isinstance(value, int | float)
            and key not in _ANY_NUMBER
            and not abs(value) <= _LARGEST_NUMBER  # nor for NaN
        ):
            raise ValueError(f"{key} is {value:.6g}")


def _check_object(value: Mapping[str, Any]) -> None:
    module, name, inner = value.get("module"), value["class_name"], value.get("config")
    if value.get("compile_config"):
        raise ValueError("a model inside it was compiled; save it again without compile()")
    if module is None and name in _VALUES:
        dtype = inner.get("dtype", "float") if isinstance(inner, dict) else "float"
        if not isinstance(dtype, str) or not _DTYPES.fullmatch(dtype):
            raise ValueError(f"it has values of {dtype}")
        return
    is_function = name == "function"
    if is_function:
        name = inner
    if not isinstance(name, str) or not isinstance(module, str | None):
        raise ValueError("it names no class")
    is_class = name[:1].isupper() and not is_function
    if name not in HARMLESS.get(module or "", ()) and not (module in _ALL_HARMLESS and is_class):
        raise ValueError(
            f"unsupported {module}.{name}: only Keras' own layers for images are allowed"
        )


def _names_in(config: Mapping[str, Any]) -> Iterator[str]:
    for layer in config.get("layers", ()):
        yield str(layer.get("name") or layer["config"]["name"])
        yield from _names_in(layer["config"])

"""Any Keras 3 model -> a private, flat copy in float32 that ends in scores, to be looked into.

Users bring models that hold other models, augmentation, mixed precision and a softmax. Looking
inside needs none of these: gradients of a saturated softmax vanish, nested models hide their
layers, augmentation draws random numbers. So the graph is walked once, nested models are followed
into their own graphs, and every layer is called again as a copy with the same weights.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.errors import ConfigError, CvtrainError, RunError
from cvtrain.explain.graphs import (
    Copies,
    is_graph,
    narrow_indices,
    node_of,
    operation_of,
    operator_of,
    replay,
    unique_names,
)
from cvtrain.explain.output_logits import of_every_class, scores_of
from cvtrain.models.blocks import graph_nodes
from cvtrain.system.text import reason_of

ANY_SIZE = (224, 224)
"""Height and width of the images that a model of images of any size gets, as ImageNet's have."""

_NO_LAYER = "saliency, smoothgrad, integrated-gradients, occlusion and rise need no layer"

# What follows the last features without adding any.
_NO_FEATURES_OPERATORS = ("MaxPool", "AveragePool")


@dataclass(frozen=True)
class FlatModel:
    """A private, flat copy of a model, in float32, that ends in scores.

    Attributes:
        network: pixels (n, height, width, channels), float32 in the range that the original takes,
            -> scores (n, classes). Call it with `training=False`.
        layers: the output of every layer and operation by name, in the order of computation. A
            second call of a shared layer is `name:1`; where models inside others use a name
            twice, it is `model.name`. Empty if the original is a subclassed model.
        output: what the original ended in. `softmax`, or `linear`, which is taken for its logits:
            scores are the logits. `sigmoid`: scores are the logits; those of a single unit z, also
            of one without a sigmoid, are -z, z. `log-probability`: the activation is hidden in
            other layers, scores are the logarithms of probabilities.
        raise_if_stopped: called before every pass of what is compiled here; may raise to stop. One
            map can take thousands of passes.
    """

    network: keras.Model
    layers: dict[str, keras.KerasTensor]
    output: str
    raise_if_stopped: Callable[[], object] = lambda: None

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Scores (n, classes) -> probabilities, as the original returns them.

        The rows of a sigmoid with several units do not sum to one.
        """
        with np.errstate(invalid="ignore"):  # of a model that is broken inside
            return expit(scores) if self.output == "sigmoid" else softmax(scores, axis=-1)

    def inference(self, part: keras.Model) -> Callable[[np.ndarray | list[np.ndarray]], Any]:
        """`backend.inference` of a part of the network."""
        return self._asking_first(backend.inference(part))

    def value_and_gradient(
        self, function: Callable[..., Any], part: keras.Model
    ) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
        """`backend.value_and_gradient` of a part of the network."""
        return self._asking_first(backend.value_and_gradient(function, part))

    def _asking_first(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def one_pass(*batch: Any) -> Any:
            self.raise_if_stopped()
            return run(*batch)

        return one_pass


def open_model(model: keras.Model, *, image_size: tuple[int, int] = ANY_SIZE) -> FlatModel:
    """Copy a model so that one can look into it. The model itself is never touched.

    Functional and Sequential models inside it are followed, with layers that are shared staying
    shared. Augmentation that is idle at inference is left out, the last softmax or sigmoid is taken
    off. A layer that cannot be restored from its config is called as it is, with a copy of its
    weights, and so is a whole subclassed model. That the copy computes what the original does is
    checked on a random batch.

    Args:
        model: flat or nested, of any precision.
        image_size: height and width at which a model that takes images of any size is opened, so
            that every layer has a size; others have their own.

    Raises:
        RunError: the model does not take one batch of images or does not return one row of scores
            for each, was never built, or its copy computes something else.
    """
    *size, channels = _input_shape(model)
    height, width = (own or requested for own, requested in zip(size, image_size, strict=True))
    probe = _probe((height, width, channels))
    try:
        expected = _outputs(model, probe)
        copies = Copies(unique_names(model))
        images = keras.Input((height, width, channels), dtype="float32", name="images")
        (output,) = keras.tree.flatten(copies.call(model, images))
        scores, kind = scores_of(output, expected)
        network = keras.Model(images, of_every_class(scores), name=model.name)
        received = keras.ops.convert_to_numpy(network(probe, training=False))
    except CvtrainError:
        raise
    except Exception as error:  # Custom layers may raise any exception.
        reason = reason_of(error)
        raise RunError(
            f"{model.name}: cannot be opened: {reason}",
            "One of its layers does not work on symbolic inputs, as functional models need it.",
        ) from error
    inside = {id(tensor) for node in graph_nodes(network) for tensor in node.outputs}
    layers = {name: tensor for name, tensor in copies.layers.items() if id(tensor) in inside}
    opened = FlatModel(
        network,
        layers if is_graph(model) else {},
        "sigmoid" if scores.shape[-1] == 1 else kind,
    )
    _check(model, opened.probabilities(received), _probabilities(expected, kind))
    return opened


def find_layer(opened: FlatModel, name: str) -> str:
    """`name`, if it is one of the layers.

    Raises:
        ConfigError: there is no such layer, or the layers of this model cannot be seen.
    """
    check_visible(opened)
    if name not in opened.layers:
        inside = [each for each in opened.layers if each.endswith(f".{name}")]
        near = inside or difflib.get_close_matches(name, opened.layers)
        spatial = [each for each, tensor in opened.layers.items() if is_spatial(tensor)]
        raise ConfigError(
            f"{opened.network.name} has no layer {name}",
            f"Did you mean {' or '.join(near)}?"
            if near
            else f"The last of its layers that are maps: {', '.join(spatial[-8:])}.",
        )
    return name


def find_spatial_layer(opened: FlatModel, name: str) -> str:
    """`name`, if it is a layer whose output has a height and a width, together above one pixel.

    Raises:
        ConfigError: as `find_layer` does, or its output has none.
    """
    shape = opened.layers[find_layer(opened, name)].shape
    if not is_spatial(opened.layers[name]):
        raise ConfigError(
            f"the output of {name} has the shape {shape}: it is not a map",
            f"The last that is one: {last_spatial_layer(opened)}. The methods {_NO_LAYER}.",
        )
    return name


def last_spatial_layer(opened: FlatModel) -> str:
    """The layer whose maps show best what decides: the last before the pixels' places are lost.

    That is the last output with a height and a width (together more than one pixel) after the first
    layer that learns. Inside a branch it gives way to an output of the same size where the branches
    meet; so a residual block is seen after its sum. Pooling and dropout, which come after the
    features and coarsen them, are passed over.

    Raises:
        ConfigError: there is none, or the layers of this model cannot be seen.
    """
    check_visible(opened)
    names, learns = {}, False
    for name, tensor in opened.layers.items():
        learns = learns or learns_something(operation_of(tensor))
        if learns and is_spatial(tensor):
            names[id(tensor)] = name
    if not names:
        raise ConfigError(
            f"{opened.network.name} has no layer with a height and a width after the first that "
            "learns",
            f"The methods {_NO_LAYER}.",
        )
    tensor = opened.layers[list(names.values())[-1]]
    for narrow in reversed(narrow_indices(opened.network)):
        if id(narrow) in names and narrow.shape[1:3] == tensor.shape[1:3]:
            tensor = narrow
            break
    while _adds_no_features(operation_of(tensor)):
        (before,) = node_of(tensor).input_tensors
        if id(before) not in names:
            break
        tensor = before
    return names[id(tensor)]


def split_at(opened: FlatModel, layer: str) -> tuple[keras.Model, keras.Model]:
    """Cut the network in two after a layer, also after one inside a branch.

    Returns:
        body: images -> [A, *rest], where A is the output of the layer and the rest whatever else
            the head needs: outputs before the layer that skip it. No rest where the graph is
            narrow; then Keras returns A itself.
        head: [A, *rest] -> scores. Layers are shared with the network.

    Raises:
        ConfigError: as `find_layer` does.
    """
    network = opened.network
    cut = opened.layers[find_layer(opened, layer)]
    after, above = {id(cut)}, []
    rest: dict[int, keras.KerasTensor] = {}
    for node in graph_nodes(network):
        taken = {id(tensor): tensor for tensor in node.input_tensors}
        if after & taken.keys():
            above.append(node)
            rest |= {key: taken[key] for key in taken.keys() - after}
            after |= set(map(id, node.outputs))
    tensors = [cut, *rest.values()]
    inputs = [keras.Input(batch_shape=each.shape, dtype=each.dtype) for each in tensors]
    values = dict(zip(map(id, tensors), inputs, strict=True))
    replay(above, values)
    head = keras.Model(inputs, values[id(network.output)], name="head")
    return keras.Model(network.input, tensors, name="body"), head


def is_spatial(tensor: keras.KerasTensor) -> bool:
    """Has it a height and a width, together more than one pixel?"""
    return len(tensor.shape) == 4 and tuple(tensor.shape[1:3]) != (1, 1)


def learns_something(operation: keras.Operation) -> bool:
    """Has it weights that training changes? Those that prepare pixels are no such weights."""
    learnt = getattr(operation, "weights", ()) and not isinstance(
        operation, keras.layers.Normalization
    )
    return bool(learnt) and operation.name != "preprocess"


def range_at_first_layer(opened: FlatModel, low: float, high: float) -> tuple[float, float] | None:
    """What the first layer that learns gets of an image whose pixels are `low` and `high`.

    This shows how a model scales pixels, by layers, operators or inner models.

    Returns:
        The least and the greatest value; None if no layer learns, or none can be seen.
    """
    first = (x for x in opened.layers.values() if learns_something(operation_of(x)))
    if (tensor := next(first, None)) is None:
        return None
    height, width, channels = opened.network.input_shape[1:]
    image = np.full((1, height, width, channels), low, np.float32)
    image[:, height // 2 :] = high
    part = keras.Model(opened.network.input, node_of(tensor).input_tensors)
    values = keras.tree.flatten(part(image, training=False))
    return min(float(keras.ops.min(v)) for v in values), max(
        float(keras.ops.max(v)) for v in values
    )


# Checks


def check_visible(opened: FlatModel) -> None:
    """Raise ConfigError for a subclassed model, whose layers cannot be seen."""
    if not opened.layers:
        raise ConfigError(
            "the layers of a subclassed model cannot be seen",
            f"The methods {_NO_LAYER}.",
        )


def _adds_no_features(operation: keras.Operation) -> bool:
    return isinstance(operation, _featureless()) or operator_of(operation) in _NO_FEATURES_OPERATORS


def _input_shape(model: keras.Model) -> tuple[int | None, int | None, int]:
    """Height, width and channels of what the model takes."""
    if not model.built:
        raise RunError(
            f"{model.name}: has not been built, so it is not known what it takes",
            "Call it once on a batch of images.",
        )
    if isinstance(model, keras.Function | keras.Sequential):
        shapes = [tuple(tensor.shape) for tensor in model.inputs]
    else:
        shape = (model.get_build_config() or {}).get("input_shape")
        shapes = [tuple(shape)] if shape else []
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][3] is None:
        raise RunError(
            f"{model.name}: takes {' and '.join(map(str, shapes)) or 'something unknown'}",
            "It has to take one batch of images: (batch, height, width, channels).",
        )
    return shapes[0][1:]


def _probe(shape: tuple[int, int, int]) -> np.ndarray:
    """Two random images, of pixels 0..1 and 0..255."""
    pixels = np.random.default_rng(0).uniform(size=(2, *shape))
    return (pixels * np.reshape([1, 255], (2, 1, 1, 1))).astype(np.float32)


def _outputs(model: keras.Model, probe: np.ndarray) -> np.ndarray:
    """What the original returns for the probe, float64."""
    # The scope keeps what would change, as the states of random generators, from changing.
    with keras.StatelessScope():
        if isinstance(model, keras.Function):
            outputs = model(keras.tree.pack_sequence_as(model.input, [probe]), training=False)
        else:
            outputs = model(probe, training=False)
    shapes = [tuple(each.shape) for each in keras.tree.flatten(outputs)]
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise RunError(
            f"{model.name}: returns {' and '.join(map(str, shapes))} for {len(probe)} images",
            "It has to return one row of scores for each: (batch, classes).",
        )
    (output,) = keras.tree.flatten(outputs)
    return keras.ops.convert_to_numpy(output).astype(np.float64)


def _probabilities(outputs: np.ndarray, kind: str) -> np.ndarray:
    """Outputs of the original that ended in `kind`, as probabilities of every class."""
    single = outputs.shape[-1] == 1
    if kind == "linear":
        with np.errstate(invalid="ignore"):
            outputs = expit(outputs) if single else softmax(outputs, axis=-1)
    return np.concatenate([1 - outputs, outputs], axis=-1) if single else outputs


def _check(model: keras.Model, received: np.ndarray, expected: np.ndarray) -> None:
    """Compare probabilities of the copy with those of the original."""
    computes_in = {layer.compute_dtype for layer in model._flatten_layers()}
    coarse = computes_in & {"float16", "bfloat16"}
    # Half floats overflow where the copy does not.
    sound = np.isfinite(expected).all(axis=-1)
    largest = np.max(expected[sound], axis=-1, keepdims=True)
    difference = np.max(np.abs(received[sound] - expected[sound]) / largest, initial=0)
    if not difference <= (0.25 if coarse else 0.02):
        raise RunError(
            f"{model.name}: its copy computes something else (probabilities differ by "
            f"{difference:.0%})",
            "A layer that is not Keras' own may not restore all it needs from its config.",
        )


@functools.cache
def _featureless() -> tuple[type[keras.Layer], ...]:
    layers = keras.layers
    return (
        *(layers.MaxPooling2D, layers.AveragePooling2D, layers.Identity),
        *(layers.Dropout, layers.SpatialDropout2D, layers.GaussianDropout, layers.AlphaDropout),
    )

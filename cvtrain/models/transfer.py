"""Split a flat model into a frozen prefix and a trained suffix, and prove what was trained.

A flat graph splits at any layer where it narrows to one tensor: the prefix computes that tensor,
the suffix goes on from it, both share their layers with the whole. So what is frozen is computed
once for each image, and only the suffix is trained.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.errors import ConfigError, TrainingError
from cvtrain.models.blocks import blocks, find_cut, narrow_layers
from cvtrain.models.heads import FEATURES
from cvtrain.models.saved_model import copy_weights, logits_model
from cvtrain.sections import Unfreeze

_ENORMOUS = np.float32(1e6)
"""A learning rate that shows a gradient of 1e-13 in a weight of 1."""


def layers_above(model: keras.Model, cut: str) -> list[str]:
    """Names of the layers after `cut` in the order of computation."""
    names = _names(model)
    return names[names.index(cut) + 1 :]


@dataclass(frozen=True)
class Unfrozen:
    """Which part of a model is trained.

    Attributes:
        split: last layer of the frozen part, whose output is the only tensor that the trained part
            takes; None when the first layers are trained.
        layers: names of the layers with weights that are trained.
        rates: factor of the learning rate for each of these layers.
    """

    split: str | None
    layers: tuple[str, ...]
    rates: Mapping[str, float]


def unfreeze(model: keras.Model, step: Unfreeze, *, key: str = "finetune") -> Unfrozen:
    """Choose the layers that are trained: everything from one place up to the output.

    Args:
        model: flat, ending in a head (`features` ... `logits`, `probabilities`).
        step: the section of a fine-tuning step. `unfreeze_from` is a layer, or a block and means
            its first layer; `unfreeze_blocks` is a number of blocks below the head. Default: one
            block. Batch normalisation is not trained by default: its statistics of small batches
            undo what the backbone has learnt (github.com/keras-team/keras/issues/9214).
        key: name of that section in errors.

    Raises:
        ConfigError: there is no such layer, or the model has fewer blocks.
    """
    names = _names(model)
    ends = [names.index(block.layer) for block in blocks(model)]
    first = _first_unfrozen(model, names, ends, step, key)
    below = [name for name in narrow_layers(model) if names.index(name) < first]
    # Fewer blocks above it, a smaller depth: 0 for the head, 1 for the block below it.
    depths = {name: sum(end >= i for end in ends) for i, name in enumerate(names)}
    trained = [
        layer.name
        for layer in model.layers[first:]
        if layer.weights
        and layer.name != "preprocess"
        and (step.batch_normalization == "train" or not _normalizes(layer))
    ]
    if not any(name not in _head(names) for name in trained):
        raise ConfigError(
            f"{key}: nothing of the backbone would be trained: "
            f"{names[first]} and what follows it have no weights to train",
            f"Unfreeze from lower down: {', '.join(block.name for block in blocks(model))}.",
        )
    return Unfrozen(
        split=below[-1] if len(below) > 1 else None,
        layers=tuple(trained),
        rates={name: step.rate_decay ** depths[name] for name in trained},
    )


def set_trainable(model: keras.Model, trained: Collection[str]) -> None:
    """Make exactly the layers of these names trainable.

    Frozen batch normalisation uses its moving statistics.
    """
    for layer in model.layers:
        layer.trainable = layer.name in trained


def variable_rates(model: keras.Model, unfrozen: Unfrozen) -> list[float]:
    """The factor of the learning rate of each of the model's trainable variables."""
    by_variable = {
        id(variable): unfrozen.rates.get(layer.name, 1.0)
        for layer in model.layers
        for variable in layer.trainable_variables
    }
    return [by_variable[id(variable)] for variable in model.trainable_variables]


def prefix_of(model: keras.Model, *layers: str) -> keras.Model:
    """From the model's input to the outputs of some layers; layers are shared."""
    outputs = [model.get_layer(layer).output for layer in layers]
    return keras.Model(model.input, outputs, name=f"{model.name}_prefix")


def suffix_of(model: keras.Model, layer: str) -> keras.Model:
    """From the output of a layer where the graph is narrow to the model's output.

    Its layers are those of the whole, called a second time; what trains it takes a copy
    (`in_precision`), where each layer is called once.
    """
    return keras.Model(model.get_layer(layer).output, model.output, name=f"{model.name}_suffix")


def in_precision(model: keras.Model, precision: str) -> keras.Model:
    """A copy that computes in `float32`, `bfloat16` or `float16`, with weights in float32.

    Preprocessing and the last softmax stay in float32: pixels and their means do not fit into the
    eight bits of bfloat16. Dropout inside the frozen part is off in the copy, as it is for features
    from the cache.
    """
    policy = precision if precision == "float32" else f"mixed_{precision}"
    frozen = {
        layer.name
        for layer in itertools.takewhile(
            lambda layer: layer.name != FEATURES and not layer.trainable_weights, model.layers
        )
    }

    def copy(layer: keras.Operation) -> keras.Operation:
        config = layer.get_config()
        if not isinstance(layer, keras.Layer):  # `x + 3`: computes in what it is given
            return type(layer).from_config(config)
        kept = layer.name in ("preprocess", "probabilities")
        kept = kept or isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization)
        if isinstance(layer, keras.layers.Dropout) and layer.name in frozen:
            config |= {"rate": 0.0}
        return type(layer).from_config(config if kept else config | {"dtype": policy})

    copied = keras.models.clone_model(model, clone_function=copy)
    copy_weights(model, copied)
    for mine, theirs in zip(copied.layers, model.layers, strict=True):
        mine.trainable = theirs.trainable
    return copied


def layer_digests(model: keras.Model) -> dict[str, str]:
    """SHA-256 over dtype, shape and bytes of the weights of each layer that has any."""
    return {layer.name: layer_digest(layer) for layer in model.layers if layer.weights}


def without_gradient(
    model: keras.Model, batches: Iterable[tuple[np.ndarray, np.ndarray]]
) -> set[str]:
    """Names of the trainable layers whose weights the loss of no batch depends on.

    One step of gradient descent is taken in a copy, with an enormous rate, so that the smallest
    gradient changes the weights.

    Args:
        model: ends in the layers `logits` and `probabilities`; it is not changed.
        batches: as training takes them.
    """
    probe = in_precision(model, "float32")
    step = backend.train_step(logits_model(probe), keras.optimizers.SGD())
    unmoved = {layer.name: layer for layer in probe.layers if layer.trainable_weights}
    for inputs, labels in batches:
        copy_weights(model, probe)
        before = {name: _trainable(layer) for name, layer in unmoved.items()}
        step.run(inputs, labels, _ENORMOUS)
        unmoved = {
            name: layer for name, layer in unmoved.items() if _trainable(layer) == before[name]
        }
    return set(unmoved)


def prove_freeze(
    before: Mapping[str, str],
    after: Mapping[str, str],
    trained: Collection[str],
    excused: Collection[str] = (),
) -> dict[str, dict[str, object]]:
    """Compare the layers before and after training with those that should be trained.

    Args:
        before, after: as `layer_digests` gives them, of the same model.
        trained: names of the layers that should change; all others were frozen.
        excused: those of `trained` that may be unchanged: no gradient reaches them, or the
            weights before the training were the best.

    Returns:
        For each layer `trained` (bool), `before` and `after`: the part `freeze_proof` of run.json.

    Raises:
        TrainingError: a frozen layer changed, or a trained one did not.
    """
    moved = [name for name in before if name not in trained and before[name] != after[name]]
    meant = set(trained) - set(excused)
    still = [name for name in before if name in meant and before[name] == after[name]]
    complaints = []
    if moved:
        complaints.append(f"frozen layers changed: {_some(moved)}")
    if still:
        complaints.append(f"layers to be trained did not change: {_some(still)}")
    if complaints:
        raise TrainingError(
            f"freeze proof: {'; '.join(complaints)}",
            "The weights are not what the config says; do not use them. A layer that gets a "
            "gradient and never changes may have too small a learning rate.",
        )
    return {
        name: {"trained": name in trained, "before": before[name], "after": after[name]}
        for name in before
    }


def _first_unfrozen(
    model: keras.Model,
    names: Sequence[str],
    ends: Sequence[int],
    step: Unfreeze,
    key: str,
) -> int:
    """Index of the lowest layer that is trained."""
    if step.unfreeze_from is not None:
        last = names.index(find_cut(model, step.unfreeze_from, key=f"{key}.unfreeze_from"))
        if names[last] == step.unfreeze_from:
            return last
        return max((end + 1 for end in ends if end < last), default=0)
    count = step.unfreeze_blocks or 1
    if count > len(ends):
        raise ConfigError(
            f"{key}.unfreeze_blocks: must be at most {len(ends)}, the number of blocks; "
            f"received {count}",
            f"The blocks are {', '.join(block.name for block in blocks(model))}.",
        )
    return ends[-count - 1] + 1 if count < len(ends) else 0


def _head(names: Sequence[str]) -> set[str]:
    return set(names[names.index(FEATURES) :])


def _names(model: keras.Model) -> list[str]:
    return [layer.name for layer in model.layers]


def _normalizes(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)


def layer_digest(layer: keras.layers.Layer) -> str:
    """SHA-256 over dtype, shape and bytes of a layer's weights, in hexadecimal digits."""
    digest = hashlib.sha256()
    for values in map(np.ascontiguousarray, layer.get_weights()):
        # Not its name: Keras counts weights without one through the process.
        digest.update(f"{values.dtype.str} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _trainable(layer: keras.layers.Layer) -> list[bytes]:
    return [np.asarray(weight).tobytes() for weight in layer.trainable_weights]


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

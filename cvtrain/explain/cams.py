"""Class-activation maps: which regions of a layer's activation support a class.

A is the activation (h, w, channels) of a layer, z the logit of a class, g = dz/dA. Maps have the
size of the layer and are raw: the relu that the papers end with is applied when they are shown. One
pass gives A and the scores of all classes, by which the classes may be chosen, so the layers up to
A run once for each image. The methods by gradients then run the layers above it forwards and
backwards for each class.

Every function takes an opened model, the name of a layer whose output has a height and a width, and
the batch size, and returns a function that explains images and is compiled once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.special import softmax

from cvtrain.backend import keras
from cvtrain.explain.attributions import blend, by_batches
from cvtrain.explain.explanation import (
    Box,
    Classes,
    Explain,
    Explanation,
    explanation,
    padded_batches,
    resolve_classes,
)
from cvtrain.explain.flat_model import FlatModel, split_at
from cvtrain.explain.map_placement import field_box
from cvtrain.explain.overlay import upsample

_EPSILON = 1e-6


def gradcam(opened: FlatModel, layer: str, *, batch_size: int = 32) -> Explain:
    """The channels, each weighted by its mean gradient: sum_k mean(g_k) A_k.

    Selvaraju et al. (2017), Grad-CAM, equations 1 and 2.
    """
    return _by_gradients(opened, layer, batch_size, lambda a, g: _weighted(a, g.mean(axis=(1, 2))))


def gradcam_plus_plus(opened: FlatModel, layer: str, *, batch_size: int = 32) -> Explain:
    """As Grad-CAM, with weights that count an object's every instance: sum_ij alpha relu(g).

    alpha = g^2 / (2 g^2 + sum(A) g^3), that is 1 / (2 + sum(A) g) where it counts. The equation is
    for activations that are not negative; elsewhere a negative sum(A) is taken for 0. Chattopadhay
    et al. (2018), Grad-CAM++, equations 5 and 19.
    """

    def combine(a: np.ndarray, g: np.ndarray) -> np.ndarray:
        rising = np.maximum(g, 0)
        total = np.maximum(a.sum(axis=(1, 2), keepdims=True), 0)
        return _weighted(a, (rising / (2 + total * rising)).sum(axis=(1, 2)))

    return _by_gradients(opened, layer, batch_size, combine)


def hirescam(opened: FlatModel, layer: str, *, batch_size: int = 32) -> Explain:
    """The activation times its gradient, place by place: sum_k g_k A_k.

    Where one linear layer follows, a map sums to the logit less its bias. Draelos and Carin (2020),
    Use HiResCAM instead of Grad-CAM, equation 4.
    """
    return _by_gradients(opened, layer, batch_size, lambda a, g: (g * a).sum(axis=-1))


def layercam(opened: FlatModel, layer: str, *, batch_size: int = 32) -> Explain:
    """As HiResCAM, with the gradients that are positive alone: sum_k relu(g_k) A_k.

    Also good at early layers. Jiang et al. (2021), LayerCAM, equations 5 and 6.
    """
    return _by_gradients(opened, layer, batch_size, lambda a, g: (np.maximum(g, 0) * a).sum(-1))


def scorecam(opened: FlatModel, layer: str, *, batch_size: int = 32) -> Explain:
    """The channels, each weighted by the score of the image seen through it alone.

    A channel is placed on the image and scaled to 0..1; what it hides gets the image's mean
    colour. A softmax over the channels makes weights of the scores. No gradients, but a pass
    through the whole network for every channel; only `batch_size` of them are in memory at once.
    Wang et al. (2020), Score-CAM, algorithm 1.
    """
    score = opened.inference(opened.network)

    def make_maps(
        images: np.ndarray, tensors: list[np.ndarray], classes: np.ndarray, box: Box | None
    ) -> np.ndarray:
        maps = []
        for channels, image, wanted in zip(*tensors, images, classes, strict=True):
            rows = ((each,) for each in _seen_through(channels, image, box))
            seen = np.stack(list(by_batches(score, rows, batch_size)))
            weights = softmax(seen[:, wanted], axis=0)
            maps.append(np.moveaxis(channels @ weights, -1, 0))
        return np.stack(maps)

    return _by_layer(opened, layer, [opened.layers[layer]], batch_size, make_maps)


def eigencam(opened: FlatModel, layer: str, *, batch_size: int = 32) -> Explain:
    """The first principal component of the channels, not centred; it is the same for every class.

    Its sign is the one with which the map sums to more than zero. Muhammad and Yeasin (2020),
    Eigen-CAM, section III.
    """

    def make_maps(
        _images: np.ndarray, tensors: list[np.ndarray], classes: np.ndarray, _box: Box | None
    ) -> np.ndarray:
        maps = []
        for channels in tensors[0]:
            places = np.nan_to_num(channels).reshape(-1, channels.shape[-1])
            _, _, directions = np.linalg.svd(places, full_matrices=False)
            projection = channels @ directions[0]
            sign = np.where(projection.sum() < 0, -1, 1)
            maps.append(np.repeat(sign * projection[None], classes.shape[1], axis=0))
        return np.stack(maps)

    return _by_layer(opened, layer, [opened.layers[layer]], batch_size, make_maps)


def ablation(opened: FlatModel, layer: str, *, batch_size: int = 32) -> Explain:
    """The channels, each weighted by the share of the score y lost without it: (y - y_k) / |y|.

    The paper divides by y, which turns the map of a class with a negative logit upside down; a y of
    almost 0 does not divide. No gradients, but a pass through the layers above for every channel.
    Desai and Ramaswamy (2020), Ablation-CAM, equation 3.
    """
    body, head = split_at(opened, layer)
    run_head = opened.inference(head)

    def make_maps(
        _images: np.ndarray, tensors: list[np.ndarray], classes: np.ndarray, _box: Box | None
    ) -> np.ndarray:
        maps = []
        for a, *rest, wanted in zip(*tensors, classes, strict=True):
            rows = ((each, *rest) for each in _whole_and_ablated(a))
            results = list(by_batches(lambda *batch: run_head(list(batch)), rows, batch_size))
            whole, ablated = results[0][wanted], np.stack(results[1:])[:, wanted]
            size = np.where(np.abs(whole) > _EPSILON, np.abs(whole), 1)
            maps.append(np.moveaxis(a @ ((whole - ablated) / size), -1, 0))
        return np.stack(maps)

    return _by_layer(opened, layer, body.outputs, batch_size, make_maps)


def _by_gradients(
    opened: FlatModel,
    layer: str,
    batch_size: int,
    combine: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Explain:
    """A method that combines A and g, both (n, h, w, channels), to maps (n, h, w)."""
    body, head = split_at(opened, layer)
    num_classes = opened.network.output.shape[-1]

    def score(a: keras.KerasTensor, *rest_and_classes: keras.KerasTensor) -> keras.KerasTensor:
        *rest, classes = rest_and_classes
        wanted = keras.ops.one_hot(classes, num_classes, dtype="float32")
        return keras.ops.sum(head([a, *rest], training=False) * wanted, axis=-1)

    run_head = opened.value_and_gradient(score, head)

    def make_maps(
        _images: np.ndarray, tensors: list[np.ndarray], classes: np.ndarray, _box: Box | None
    ) -> np.ndarray:
        maps = np.empty((*classes.shape, *tensors[0].shape[1:3]), np.float32)
        for rows, (*batch, wanted) in padded_batches(
            *tensors, classes.astype(np.int32), batch_size=batch_size
        ):
            for j, each in enumerate(wanted.T):
                _, g = run_head(*batch, each)
                maps[rows, j] = combine(batch[0], g)[: rows.stop - rows.start]
        return maps

    return _by_layer(opened, layer, body.outputs, batch_size, make_maps)


def _by_layer(
    opened: FlatModel,
    layer: str,
    tensors: Sequence[keras.KerasTensor],
    batch_size: int,
    make_maps: Callable[[np.ndarray, list[np.ndarray], np.ndarray, Box | None], np.ndarray],
) -> Explain:
    """A method that makes maps (n, k, h, w) of images, tensors, classes (n, k) and their box.

    Args:
        tensors: outputs inside the network; the first one is the activation of the layer.
    """
    run = opened.inference(keras.Model(opened.network.input, [*tensors, opened.network.output]))

    def explain(images: np.ndarray, classes: Classes) -> Explanation:
        rows = ((image,) for image in images)
        size = min(batch_size, len(images))
        results = by_batches(lambda batch: tuple(run(batch)), rows, size)
        *values, scores = (np.stack(each) for each in zip(*results, strict=True))
        chosen = resolve_classes(classes, scores)
        box = field_box(opened, layer, values[0].shape[1:3], images.shape[1:3])
        return explanation(make_maps(images, values, chosen, box), chosen, scores, box=box)

    return explain


def _weighted(a: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.einsum("nhwk,nk->nhw", a, weights)


def _seen_through(a: np.ndarray, image: np.ndarray, box: Box | None) -> Iterator[np.ndarray]:
    for channel in np.moveaxis(a, -1, 0):
        mask = upsample(channel, image.shape[:2], box, extend=True)
        extent = np.ptp(mask)
        # A constant channel shows nothing of the image, so it hides all.
        yield blend(image, (mask - mask.min()) / extent if extent > 0 else np.zeros_like(mask))


def _whole_and_ablated(a: np.ndarray) -> Iterator[np.ndarray]:
    yield a
    for k in range(a.shape[-1]):
        without = a.copy()
        without[..., k] = 0
        yield without

"""Pooled features of images, and their samples, for linear classifiers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cvtrain.backend import keras
from cvtrain.data.index import Index
from cvtrain.errors import DataError, Stopped
from cvtrain.features.extract import extract, open_stores
from cvtrain.features.store import FeatureStore
from cvtrain.steps.cached_features import views_of
from cvtrain.steps.dataset import Dataset
from cvtrain.steps.session import RunSession
from cvtrain.system.text import escape


def check_class_sizes(index: Index, least: int, *, needed_by: str) -> None:
    """Raise DataError unless every class has `least` different training images."""
    images = index.different_images()
    smallest = min(images, key=lambda name: len(images[name]))
    if len(images[smallest]) < least:
        raise DataError(
            f"class {escape(smallest)}: has too few training images: {len(images[smallest])} "
            f"without copies; {needed_by} needs {least}",
            "Add images, or leave the class out (data.classes).",
        )


def raise_if_stopped(session: RunSession, num_done: int, what: str) -> None:
    """Raise Stopped if a stop was requested, with the number of results that are recorded."""
    if session.stop.requested:
        raise Stopped(
            f"stopped after {num_done} {what}; they are recorded in {session.run.path}",
            session.stop.advice,
        )


def pooled_features(
    session: RunSession,
    dataset: Dataset,
    backbone: keras.Model,
    layers: Sequence[str],
    splits: Sequence[str] = ("train", "validation"),
) -> list[FeatureStore]:
    """Average the outputs of some layers over their maps, all in one pass over the images."""
    pool = keras.layers.GlobalAveragePooling2D
    outputs = [pool(name=f"{layer}_average")(backbone.get_layer(layer).output) for layer in layers]
    taps = keras.Model(backbone.input, outputs)
    stores = open_stores(taps, dtype="float32", warn=session.console.warning)
    views = [views_of(dataset, dataset.index.splits[name]) for name in splits]
    with session.watch.phase("extract"), session.console.task("extracting features") as on_progress:
        extract(taps, stores, dataset.pixels, views, stop=session.stop, on_progress=on_progress)
    return stores


def copies(index: Index) -> list[str] | None:
    """The group of copies of each training file, to keep them in one fold; None if all differ."""
    image_of = {
        path: image
        for images in index.different_images().values()
        for image, paths in images.items()
        for path in paths
    }
    groups = [image_of[path] for path in index.splits["train"].paths]
    return groups if len(set(groups)) < len(groups) else None


def samples(store: FeatureStore, dataset: Dataset, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The features (n, channels) and labels (n,) of a split."""
    split = dataset.index.splits[name]
    rows = store.rows(views_of(dataset, split).keys)
    return rows.take(np.arange(len(rows))), split.labels

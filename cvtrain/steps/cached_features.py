"""Cached features of a frozen backbone, for training and evaluation.

Evaluation reads features that were computed and stored in float32, because the metrics of a run are
those of its saved model. Training reads features in the precision that is fastest here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from cvtrain.backend import inference, keras
from cvtrain.data.index import Split
from cvtrain.errors import ConfigError, DataError
from cvtrain.features.batches import feature_training_batches, ordered_feature_batches
from cvtrain.features.extract import CachedViews, extract, open_stores
from cvtrain.features.store import Rows
from cvtrain.models.backbones import build_backbone
from cvtrain.models.transfer import in_precision, prefix_of, prove_freeze
from cvtrain.models.weights import require_weights
from cvtrain.runs.run import Run
from cvtrain.sections import Augment, Backbone, Training
from cvtrain.steps.dataset import Dataset
from cvtrain.steps.inference import load_saved
from cvtrain.steps.session import RunSession
from cvtrain.steps.stage import Feed
from cvtrain.system.console import duration
from cvtrain.training.precision import choose_precision

BATCH_SIZE = 64
MOST_TRAIN_IMAGES = 1000


def open_backbone(
    section: Backbone, *, image_size: tuple[int, int], seed: int, dataset: Dataset
) -> keras.Model:
    """Open the backbone that a config names, flat and in float32, with RGB pixels 0..255 as input.

    Args:
        section: the section of the config: a network with ImageNet weights of Keras, weights of a
            file or random weights; or a run.
        image_size: height, width in pixels.
        seed: the seed of random weights.
        dataset: the images on which it will be used.

    Raises:
        ConfigError: the section contradicts itself, or the network cannot be built like that.
        DataError: the run was trained on images that are now in validation or test.
        ResourceError: weights could not be fetched.
        RunError: the file or the run is unusable.
    """
    path = Path(section.weights)
    if (path / "run.json").is_file():
        if section.name is not None:
            raise ConfigError(
                f"backbone: both the network {section.name} and the run {path} are named",
                "Leave out name: the run knows its network.",
            )
        run = Run.open(path)
        check_unseen_images(run, dataset)
        return open_model(run, image_size=image_size)
    if section.name is None:
        require_weights(path, name="a network")
        raise ConfigError(
            f"backbone.weights: {path} is no run folder, and backbone.name is missing",
            "Name the network that the file is of, such as vgg16, or a run folder.",
        )
    return build_backbone(
        section.name,
        image_size=image_size,
        weights={"imagenet": "imagenet", "none": None}.get(section.weights, path),
        alpha=section.alpha,
        seed=seed,
    )


def open_model(run: Run, *, image_size: tuple[int, int]) -> keras.Model:
    """Load the saved model of a run as the start of another.

    Raises:
        ConfigError: the images of the config have another size.
        RunError: the model is missing or damaged.
    """
    height, width = run.require("image_size").image_size
    if (height, width) != image_size:
        raise ConfigError(
            f"data.image_size: {list(image_size)}, and {run.path} was trained at {[height, width]}",
            f"Go on at that size: --set data.image_size=[{height},{width}]",
        )
    return load_saved(run)


def check_unseen_images(run: Run, dataset: Dataset) -> None:
    """Raise DataError if images on which `run` was trained are now in validation or test.

    Metrics on such images would be too optimistic. Files are compared by their paths, whichever
    folder or manifest names them; a copy elsewhere is not recognised.
    """
    by_class = run.read_json("split.json").get("train", {})
    of_run = _places(run.require("data").data.root)
    seen = {of_run(path) for paths in by_class.values() for path in paths}
    here = _places(dataset.index.root)
    for name in ("validation", "test"):
        known = [path for path in dataset.index.splits[name].paths if here(path) in seen]
        if known:
            raise DataError(
                f"{run.path} was trained on {len(known):,} of the {name} images, "
                f"such as {known[0]}",
                "Use the same split: the same seed, data.split and classes as in that run.",
            )


def _places(root: str | Path) -> Callable[[str], str]:
    """A function from the path of an image to its absolute path; it does not follow links."""
    start = os.path.realpath(root)
    return lambda path: os.path.normpath(os.path.join(start, path))  # noqa: PTH118 - many


@dataclass(frozen=True)
class CachedPrefix:
    """The frozen part of a model, and the views of the training images to extract.

    Attributes:
        session: the session with the images.
        model: the whole model, flat and in float32.
        layer: the layer whose output is the feature.
        augmentation: the augmentation of the views; without it a view is the image itself.
        num_views: the number of views of each training image.
        also: further layers whose outputs are computed and cached in the same pass.
    """

    session: RunSession
    model: keras.Model
    layer: str
    augmentation: Augment | None
    num_views: int
    also: tuple[str, ...] = ()

    @property
    def changes_images(self) -> bool:
        """Do the views differ from the image?"""
        return self.augmentation is not None and bool(self.augmentation.image_changes)

    def extract_training_features(self) -> Rows:
        """Extract the features of the training images, view by view, in the fastest precision."""
        session, prefix = self.session, self._prefix()
        features = session.run.record.features
        recorded = features.get(self.layer, {}).get("precision", session.config.precision)
        with session.watch.phase("precision"):
            choice = choose_precision(
                recorded,
                build=lambda precision: in_precision(prefix, precision),
                batch_size=BATCH_SIZE,
                device=session.run.record.device,
                training=False,
                raise_if_stopped=partial(session.stop.raise_if_stopped, "measuring the precision"),
            )
        # Plain features in float32 are needed for evaluation anyway: no image is computed twice.
        shared = choice.precision == "float32" and not self.changes_images
        dtype = "float32" if shared else "bfloat16"
        views = replace(
            views_of(session.dataset, session.dataset.index.splits["train"]),
            augmentation=self.augmentation,
            seed=session.config.seed,
            num_views=self.num_views,
        )
        (rows,), num_computed = self._extract(
            in_precision(prefix, choice.precision),
            [views],
            dtype,
            choice.images_per_second.get(choice.precision),
        )
        what = {
            "precision": choice.precision,
            "dtype": dtype,
            "views": self.num_views,
            "num_computed": num_computed,
        }
        computed = dict.fromkeys((self.layer, *self.also), what)
        session.run.update(features=features | computed)
        return rows

    def extract_evaluation_features(self, parts: Mapping[str, Split]) -> dict[str, Rows]:
        """Extract the features of unchanged images in float32, by part."""
        views = [views_of(self.session.dataset, split) for split in parts.values()]
        rows, _ = self._extract(self._prefix(), views, "float32")
        found = dict(zip(parts, rows, strict=True))
        if are_constant(found["train"]):
            known = self.session.run.record.constant_features
            self.session.run.update(constant_features=[*dict.fromkeys([*known, self.layer])])
            self.session.console.warning(
                f"the output of the frozen backbone at {self.layer} is the same for all images, so "
                "nothing can be learnt from it. Cut it at an earlier layer, or use trained weights "
                "(backbone.weights)"
            )
        return found

    def _prefix(self) -> keras.Model:
        return prefix_of(self.model, *dict.fromkeys((self.layer, *self.also)))

    def _extract(
        self,
        prefix: keras.Model,
        views: Sequence[CachedViews],
        dtype: str,
        images_per_second: float | None = None,
    ) -> tuple[list[Rows], int]:
        """Return the rows of each of `views`, and the number of images that were computed."""
        session = self.session
        stores = open_stores(prefix, dtype=dtype, warn=session.console.warning)
        total = sum(len(view.keys) for view in views)
        missing = sum(len(stores[0].missing(view.keys)) for view in views)
        speed = images_per_second
        time = f", about {duration(missing / speed)}" if speed and missing else ""
        session.console.info(
            f"features of {self.layer}: {missing:,} of {total:,} images to compute{time}"
        )
        with session.watch.phase("extract"), session.console.task("extracting features") as show:
            computed = extract(
                prefix, stores, session.dataset.pixels, views, stop=session.stop, on_progress=show
            )
        return [stores[0].rows(view.keys) for view in views], computed


def are_constant(rows: Rows) -> bool:
    """Are the features of all images the same?"""
    first = rows.take(np.array([0]))
    parts = range(0, len(rows), BATCH_SIZE)
    return len(rows) > 1 and all(
        (rows.take(np.arange(i, min(i + BATCH_SIZE, len(rows)))) == first).all() for i in parts
    )


def views_of(dataset: Dataset, split: Split) -> CachedViews:
    """The unchanged images of a split."""
    return CachedViews(split.paths, [dataset.pixels.digests[path] for path in split.paths])


def feature_feed(
    session: RunSession, stage: Training, rows: Rows, validation: Rows, *, num_views: int
) -> Feed:
    """Batches of features: pass e over the data sees view e modulo the number of views."""
    splits = session.dataset.index.splits
    return Feed(
        batches=lambda step: feature_training_batches(
            rows,
            splits["train"].labels,
            batch_size=stage.batch_size,
            seed=session.config.seed,
            num_views=num_views,
            steps_per_epoch=stage.steps_per_epoch,
            start_step=step,
        ),
        validation=lambda: ordered_feature_batches(
            validation, splits["validation"].labels, batch_size=BATCH_SIZE
        ),
        labels=splits["train"].labels,
    )


def evaluation_parts(dataset: Dataset) -> dict[str, Split]:
    """The splits for evaluation with a frozen backbone, with at most a thousand training images.

    They are spread evenly over the classes. They suffice to see over-fitting, and avoid a float32
    pass over all training images.
    """
    splits = dict(dataset.index.splits)
    train = splits["train"]
    count = min(len(train.paths), MOST_TRAIN_IMAGES)
    chosen = np.linspace(0, len(train.paths) - 1, count).round().astype(int)
    splits["train"] = Split(tuple(train.paths[i] for i in chosen), train.labels[chosen])
    return splits


def feature_predictor(
    session: RunSession, suffix: keras.Model, rows: Mapping[str, Rows]
) -> Callable[[str], np.ndarray]:
    """A function from the name of a part to probabilities, computed from its features."""
    predict = inference(suffix)

    def predict_part(name: str) -> np.ndarray:
        part = rows[name]
        results = []
        for start in range(0, len(part), BATCH_SIZE):
            session.stop.raise_if_stopped("evaluating")
            places = np.arange(start, min(start + BATCH_SIZE, len(part)))
            results.append(predict(part.take(places)))
        return np.concatenate(results)

    return predict_part


def record_proof(
    session: RunSession,
    before: Mapping[str, str],
    after: Mapping[str, str],
    trained: Collection[str],
    excused: Collection[str] = (),
) -> None:
    """Record and print which layers changed; arguments and errors as in `prove_freeze`."""
    proof = prove_freeze(before, after, trained, excused)
    session.run.update(freeze_proof=proof)
    layers = [layer for layer in proof.values() if layer["trained"]]
    num_changed = sum(layer["before"] != layer["after"] for layer in layers)
    kept = f", {len(layers) - num_changed} trained and kept as they were"
    session.console.print(
        f"freeze proof: {len(proof) - len(layers)} layers frozen and unchanged, "
        f"{num_changed} trained and changed{kept * (num_changed < len(layers))}"
    )

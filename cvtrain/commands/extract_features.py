"""`cvtrain extract-features`: train a head on cached features of a frozen backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from cvtrain.backend import keras
from cvtrain.config import Config
from cvtrain.errors import ConfigError
from cvtrain.features.store import Rows
from cvtrain.models.heads import attach_logistic, pool
from cvtrain.models.transfer import (
    in_precision,
    layer_digests,
    layers_above,
    prefix_of,
    set_trainable,
    suffix_of,
)
from cvtrain.runs.run import Run, RunRequest
from cvtrain.steps.cached_features import (
    CachedPrefix,
    evaluation_parts,
    feature_feed,
    feature_predictor,
    record_proof,
)
from cvtrain.steps.find_mislabels import NO_SEARCH, search_training_images
from cvtrain.steps.finish import finish
from cvtrain.steps.heads import attach_dense_head, cut_backbone, finetuning_splits
from cvtrain.steps.inference import image_predictor
from cvtrain.steps.session import RunSession, finished_run, open_session
from cvtrain.steps.stage import (
    draw_augmentation,
    image_feed,
    in_best_precision,
    save,
    train_stage,
)
from cvtrain.steps.training_outcome import TrainingResult
from cvtrain.system.console import Console
from cvtrain.system.files import commit_bytes, commit_text, committed
from cvtrain.system.text import csv_text
from cvtrain.training.linear_probe import fit_logistic


def extract_features(
    config: Config, request: RunRequest, console: Console, *, features_only: bool = False
) -> Run:
    """Train a head on the features of a frozen backbone; the saved model contains both.

    Args:
        config: the checked config.
        request: the run folder to write, or to continue.
        features_only: whether to write the features as arrays and train nothing; a resumed run
            keeps its original value.

    Returns:
        The finished run.

    Raises:
        ConfigError, DataError, RunError: before anything is computed.
        TrainingError, ResourceError: training cannot continue; features are kept.
        Stopped: on request; finished features are kept, and `resume` continues.
    """
    if done := finished_run(request, console):
        return done
    stage = config.extract_features
    if features_only and stage.views == "unlimited":
        raise ConfigError(
            "extract_features.views: must be a number for --features-only; received 'unlimited'",
            "For example: --set extract_features.views=4",
        )
    with open_session("extract-features", config, request, console) as session:
        backbone, cut = cut_backbone(session, config)
        # A resumed run keeps the value that it was started with.
        features_only = features_only or session.run.record.features_only
        described = stage.backbone.model_dump() | {"cut": cut}
        session.run.update(base=described, features_only=features_only)
        augmentation = config.augment if stage.views != 1 else None
        draw_augmentation(session, augmentation, stage.views)
        model = attach_dense_head(session, backbone, cut)
        frozen = CachedPrefix(
            session,
            model,
            cut,
            augmentation,
            num_views=1 if stage.views == "unlimited" else stage.views,
            also=finetuning_splits(config, model),
        )
        if features_only:
            write_features(session, frozen)
            return session.run
        prefix, before = prefix_of(model, cut), layer_digests(model)
        if stage.views == "unlimited":
            result = train_end_to_end(session, model, cut)
            judged = NO_SEARCH
            predict, parts = image_predictor(session, model), session.dataset.index.splits
        else:
            rows, parts = frozen.extract_training_features(), evaluation_parts(session.dataset)
            exact = frozen.extract_evaluation_features(parts)
            if stage.head.name == "dense":
                session.run.update(precision="float32")
                feed = feature_feed(
                    session, stage, rows, exact["validation"], num_views=stage.views
                )
                head = in_precision(suffix_of(model, cut), "float32")
                result = train_stage(session, head, model, stage, feed, precision="float32")
            else:
                result = TrainingResult()
                model = with_closed_head(session, backbone, cut, rows, exact["validation"])
                save(session.run, model, model)
                before = dict.fromkeys(layer_digests(model), "") | layer_digests(prefix)
            judged = search_training_images(session, rows)
            predict = feature_predictor(session, suffix_of(model, cut), exact)
        trained = layers_above(model, cut)
        record_proof(session, before, layer_digests(model), trained, excused=result.idle)
        finish(session, model, result, parts, predict, judged)
    return session.run


def with_closed_head(
    session: RunSession, backbone: keras.Model, cut: str, rows: Rows, validation: Rows
) -> keras.Model:
    """The backbone up to its cut, with logistic regression fitted on all features at once."""
    head, index = session.config.extract_features.head, session.dataset.index
    labels = index.splits["train"].labels
    with session.watch.phase("train"):
        features = pool(rows.take(np.arange(len(rows))), head.pooling)
        held_out = pool(validation.take(np.arange(len(validation))), head.pooling)
        coefficients, intercepts, strength = fit_logistic(
            (features, labels),
            (held_out, index.splits["validation"].labels),
            raise_if_stopped=partial(session.stop.raise_if_stopped, "fitting the head"),
        )
    session.run.update(inverse_penalty=strength)
    session.console.info(
        f"logistic regression: C = {strength:g}, the best of five on the validation images"
    )
    return attach_logistic(backbone, cut, head, coefficients=coefficients, intercepts=intercepts)


def train_end_to_end(session: RunSession, model: keras.Model, cut: str) -> TrainingResult:
    """Train the head with the backbone in every step, so that every epoch has new views."""
    stage = session.config.extract_features
    set_trainable(model, layers_above(model, cut))
    feed = image_feed(session, stage, session.config.augment)
    trained, precision = in_best_precision(session, partial(in_precision, model), stage, feed)
    return train_stage(session, trained, model, stage, feed, precision=precision)


def write_features(session: RunSession, frozen: CachedPrefix) -> None:
    """Commit the pooled features of every image, and finish the run.

    `features/SPLIT.npy` is float32 (rows, channels); `features/SPLIT.parquet` has the same rows
    with file, view, label and class. Without pyarrow, `features/SPLIT.csv` has these four columns.
    The rows of augmented training images are ordered by view.
    """
    has_pyarrow, folder = find_spec("pyarrow") is not None, session.run.path / "features"
    head, index = session.config.extract_features.head, session.dataset.index
    rows = frozen.extract_evaluation_features(index.splits)
    if frozen.changes_images:
        rows["train"] = frozen.extract_training_features()
    for name, split in index.splits.items():
        num_views = len(rows[name]) // len(split.paths)
        features = pool(rows[name].take(np.arange(len(rows[name]))), head.pooling)
        labels = np.tile(split.labels, num_views)
        columns: dict[str, Sequence[Any] | np.ndarray] = {
            "file": split.paths * num_views,
            "view": np.repeat(np.arange(num_views), len(split.paths)),
            "label": labels,
            "class": [index.class_names[label] for label in labels],
        }
        with committed(folder / f"{name}.npy") as temporary:
            np.save(temporary, features)
        if has_pyarrow:
            commit_bytes(folder / f"{name}.parquet", _parquet(columns, features))
        else:
            lines = zip(*columns.values(), strict=True)
            commit_text(folder / f"{name}.csv", csv_text([list(columns), *lines]))
        session.console.print(
            f"{name}: {features.shape[0]:,} rows of {features.shape[1]:,} features"
        )
    session.run.update(status="finished", seconds=session.watch.seconds)
    session.console.print(f"written to {folder}/")
    if not has_pyarrow:
        session.console.print("for .parquet files instead of .csv: pip install 'cvtrain[parquet]'")


def _parquet(columns: Mapping[str, Sequence[Any] | np.ndarray], features: np.ndarray) -> bytes:
    import pyarrow  # an extra
    from pyarrow import parquet

    rows = pyarrow.FixedSizeListArray.from_arrays(features.ravel(), features.shape[1])
    # Into memory, because Arrow prints to standard error if the disk is full.
    content = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table({**columns, "features": rows}), content)
    return content.getvalue().to_pybytes()

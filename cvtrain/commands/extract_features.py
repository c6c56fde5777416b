"""`cvtrain extract-features`: a head on what a frozen base gives, computed once and cached."""

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
from cvtrain.models.heads import attach_logistic, fit_logistic, pooled
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
    FrozenPart,
    evaluation_parts,
    feature_feed,
    feature_predictor,
    record_proof,
)
from cvtrain.steps.find_mislabels import NONE_JUDGED, judge_training_images
from cvtrain.steps.finish import finish
from cvtrain.steps.heads import cut_base, finetuning_splits, with_dense_head
from cvtrain.steps.inference import image_predictor
from cvtrain.steps.session import Job, finished_run, start_job
from cvtrain.steps.stage import (
    draw_augmentation,
    image_feed,
    in_best_precision,
    save,
    train_stage,
)
from cvtrain.steps.training_outcome import Course
from cvtrain.system.console import Console
from cvtrain.system.files import commit_bytes, commit_text, committed, csv_text


def extract_features(
    config: Config, request: RunRequest, console: Console, *, features_only: bool = False
) -> Run:
    """Train a head on the features of a frozen base; the run's model is base and head in one.

    Args:
        config: the checked config.
        request: the run folder to write, or to continue.
        features_only: write the features as arrays and train nothing; a run that is continued
            keeps what it was begun with.

    Returns:
        The finished run.

    Raises:
        ConfigError, DataError, RunError: before anything is computed.
        TrainingError, ResourceError: training cannot go on; features are kept.
        Stopped: on request; what was computed is kept, and `resume` continues.
    """
    if done := finished_run(request, console):
        return done
    stage = config.extract_features
    if features_only and stage.views == "unlimited":
        raise ConfigError(
            "extract_features.views: unlimited caches no features, and --features-only writes them",
            "Say how many: --set extract_features.views=4",
        )
    with start_job("extract-features", config, request, console) as job:
        base, cut = cut_base(job, config)
        # A run that was begun for its arrays goes on for them, whatever it is asked.
        features_only = features_only or job.run.record.features_only
        described = stage.backbone.model_dump() | {"cut": cut}
        job.run.update(base=described, features_only=features_only)
        augmentation = config.augment if stage.views != 1 else None
        draw_augmentation(job, augmentation, stage.views)
        model = with_dense_head(job, base, cut)
        frozen = FrozenPart(
            job,
            model,
            cut,
            augmentation,
            num_views=1 if stage.views == "unlimited" else stage.views,
            also=finetuning_splits(config, model),
        )
        if features_only:
            write_features(job, frozen)
            return job.run
        prefix, before = prefix_of(model, cut), layer_digests(model)
        if stage.views == "unlimited":
            course = train_end_to_end(job, model, cut)
            judged = NONE_JUDGED
            predict, parts = image_predictor(job, model), job.dataset.index.splits
        else:
            rows, parts = frozen.training_rows(), evaluation_parts(job.dataset)
            exact = frozen.exact_rows(parts)
            if stage.head.name == "dense":
                job.run.update(precision="float32")
                feed = feature_feed(job, stage, rows, exact["validation"], num_views=stage.views)
                head = in_precision(suffix_of(model, cut), "float32")
                course = train_stage(job, head, model, stage, feed, precision="float32")
            else:
                course = Course()
                model = with_closed_head(job, base, cut, rows, exact["validation"])
                save(job.run, model, model)
                before = dict.fromkeys(layer_digests(model), "") | layer_digests(prefix)
            judged = judge_training_images(job, rows)
            predict = feature_predictor(job, suffix_of(model, cut), exact)
        trained = layers_above(model, cut)
        record_proof(job, before, layer_digests(model), trained, excused=course.idle)
        finish(job, model, course, parts, predict, judged)
    return job.run


def with_closed_head(
    job: Job, base: keras.Model, cut: str, rows: Rows, validation: Rows
) -> keras.Model:
    """The base up to its cut, and a classifier that is computed from all features at once."""

    head, index = job.config.extract_features.head, job.dataset.index
    labels = index.splits["train"].labels
    with job.watch.phase("train"):
        features = pooled(rows.take(np.arange(len(rows))), head.pooling)
        held_out = pooled(validation.take(np.arange(len(validation))), head.pooling)
        coefficients, intercepts, strength = fit_logistic(
            (features, labels),
            (held_out, index.splits["validation"].labels),
            go_on=partial(job.stop.go_on, "fitting the head"),
        )
    job.run.update(inverse_penalty=strength)
    job.console.remark(f"logistic regression: C = {strength:g}, the best of five on validation")
    return attach_logistic(
        base, cut, pooling=head.pooling, coefficients=coefficients, intercepts=intercepts
    )


def train_end_to_end(job: Job, model: keras.Model, cut: str) -> Course:
    """Run the frozen base in every step, so that every pass sees new views."""

    stage = job.config.extract_features
    set_trainable(model, layers_above(model, cut))
    feed = image_feed(job, stage, job.config.augment)
    trained, precision = in_best_precision(job, partial(in_precision, model), stage, feed)
    return train_stage(job, trained, model, stage, feed, precision=precision)


def write_features(job: Job, frozen: FrozenPart) -> None:
    """Commit the pooled features of every image for use elsewhere, and finish the run.

    `features/SPLIT.npy` is float32 (rows, channels); `features/SPLIT.parquet` has the same rows
    with file, view, label and class. Where pyarrow is not installed, `features/SPLIT.csv` has those
    four columns. Augmented views of the training images come view by view.
    """
    has_pyarrow, folder = find_spec("pyarrow") is not None, job.run.path / "features"
    head, index = job.config.extract_features.head, job.dataset.index
    rows = frozen.exact_rows(index.splits)
    if frozen.changes_images:
        rows["train"] = frozen.training_rows()
    for name, split in index.splits.items():
        num_views = len(rows[name]) // len(split.paths)
        features = pooled(rows[name].take(np.arange(len(rows[name]))), head.pooling)
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
        job.console.result(f"{name}: {features.shape[0]:,} rows of {features.shape[1]:,} features")
    job.run.update(status="finished", seconds=job.watch.seconds)
    job.console.result(f"written to {folder}/")
    if not has_pyarrow:
        job.console.result("for .parquet files instead of .csv: pip install 'cvtrain[parquet]'")


def _parquet(columns: Mapping[str, Sequence[Any] | np.ndarray], features: np.ndarray) -> bytes:
    import pyarrow  # an extra
    from pyarrow import parquet

    rows = pyarrow.FixedSizeListArray.from_arrays(features.ravel(), features.shape[1])
    # Into memory: on a full disk, files of Arrow's tell of it on standard error by themselves.
    content = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table({**columns, "features": rows}), content)
    return content.getvalue().to_pybytes()

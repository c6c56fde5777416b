"""Batches of cached features, in the order that batches of pixels have."""

import contextlib
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cvtrain.data.batches import batch_span, delayed, num_steps, training_draws
from cvtrain.features.store import Rows

_PREFETCH = 4


def feature_training_batches(
    rows: Rows,
    labels: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    num_views: int = 1,
    steps_per_epoch: int | None = None,
    start_step: int = 0,
) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
    """Endless batches for training; batch k is a pure function of k and the arguments.

    The samples and their order are those of `data.batches.training_batches`. Pass e over the data
    uses view e % num_views of each sample.

    Args:
        rows: Rows view by view, in the order of `CachedViews.keys`: (num_views * samples, ...).
        labels: int32 (samples,).
        batch_size, seed, steps_per_epoch, start_step: As in `training_batches`.
        num_views: Number of views of each sample.

    Yields:
        features: (batch, ...) of the dtype of `rows`, a new array each time.
        labels: int32 (batch,).

    Raises:
        ResourceError: The features on disk cannot be read.
    """
    draws = training_draws(
        len(labels),
        batch_size=batch_size,
        seed=seed,
        steps_per_epoch=steps_per_epoch,
        start_step=start_step,
    )
    indices = (
        np.array([epoch % num_views * len(labels) + sample for epoch, sample in batch])
        for batch in draws
    )
    with contextlib.closing(_read_ahead(rows, indices)) as batches:
        for features, taken in batches:
            yield features, labels[taken % len(labels)]


def ordered_feature_batches(
    rows: Rows, labels: np.ndarray, *, batch_size: int
) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
    """All rows once and in order, for validation; yields the same arrays as in training.

    Args:
        rows: One row for each sample.
        labels: int32 (samples,).
        batch_size: Number of samples in a batch; the last one may be smaller.
    """
    steps = range(num_steps(len(labels), batch_size))
    indices = (np.array(batch_span(step, len(labels), batch_size, full=False)) for step in steps)
    with contextlib.closing(_read_ahead(rows, indices)) as batches:
        for features, taken in batches:
            yield features, labels[taken]


def _read_ahead(
    rows: Rows, indices: Iterable[np.ndarray]
) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
    """Yield the rows at each array of indices with that array; a thread reads batches ahead."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="features")
    reads = ((pool.submit(rows.take, batch), batch) for batch in indices)
    try:
        for reading, taken in delayed(reads, _PREFETCH):
            yield reading.result(), taken
    finally:
        pool.shutdown(cancel_futures=True)

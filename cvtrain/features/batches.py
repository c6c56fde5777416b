"""Batches of cached features, in the order that batches of pixels have."""

import contextlib
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from cvtrain.data.batches import batch_span, num_steps, training_draws
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
    sees view e % num_views of each.

    Args:
        rows: view by view, as `Views.keys` orders them: (num_views * samples, ...).
        labels: int32 (samples,).
        batch_size, seed, steps_per_epoch, start_step: as in `training_batches`.
        num_views: how many views of each sample the rows have.

    Yields:
        features: (batch, ...) of the dtype of `rows`, a new array each time.
        labels: int32 (batch,).

    Raises:
        ResourceError: the features on disk are gone or cannot be read.
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
    """All rows once and in order, for validation; what is yielded as in training.

    Args:
        rows: one of each sample.
        labels: int32 (samples,).
        batch_size: samples in a batch; the last one may be smaller.
    """
    steps = range(num_steps(len(labels), batch_size))
    indices = (np.array(batch_span(step, len(labels), batch_size, full=False)) for step in steps)
    with contextlib.closing(_read_ahead(rows, indices)) as batches:
        for features, taken in batches:
            yield features, labels[taken]


def _read_ahead(
    rows: Rows, indices: Iterable[np.ndarray]
) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
    """Yield the rows at each of `places`, and those; a thread reads some batches ahead."""
    pending: deque[tuple[Future[np.ndarray], np.ndarray]] = deque()
    pool = ThreadPoolExecutor(1, thread_name_prefix="features")
    try:
        for batch in indices:
            pending.append((pool.submit(rows.take, batch), batch))
            if len(pending) > _PREFETCH:
                reading, taken = pending.popleft()
                yield reading.result(), taken
        while pending:
            reading, taken = pending.popleft()
            yield reading.result(), taken
    finally:
        pool.shutdown(cancel_futures=True)

"""Batches of pixels, prepared ahead of time by a pool of threads.

The samples of a training run are one endless stream: pass 0 over the data in the order of pass 0,
then pass 1, and so on. The batch of a step is a span of that stream that depends only on the number
of the step, so a resumed run continues with the batches of the uninterrupted run.
"""

import contextlib
import functools
import itertools
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np

from cvtrain.data.index import Split
from cvtrain.images.augment import augment
from cvtrain.sections import Augment

_IMAGES_PER_TASK = 8  # small enough to share a batch among threads, at little overhead

_Item = TypeVar("_Item")

Draw = tuple[int, int]
"""Pass over the data (epoch) and index of the sample, which determine an augmented image."""


class PixelSource(Protocol):
    """Pixels by path, uint8 (height, width, 3); safe for use in several threads."""

    def __getitem__(self, path: str) -> np.ndarray: ...


def training_batches(
    pixels: PixelSource,
    split: Split,
    *,
    batch_size: int,
    seed: int,
    steps_per_epoch: int | None = None,
    start_step: int = 0,
    augmentation: Augment | None = None,
    workers: int | None = None,
    prefetch: int = 4,
) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
    """Endless batches for training; batch k is a pure function of k and the arguments.

    Args:
        pixels: The images, all of one size.
        split: The samples, at least one.
        batch_size: Number of samples in a batch.
        seed: Random seed of order and augmentation, in 0..2**64 - 1.
        steps_per_epoch: None: an epoch is one pass over the data, and its last batch may be
            smaller. A number: every batch is full, because batches extend over the end of a pass.
        start_step: Number of the first batch, counted from the start of the whole training.
        augmentation: Random changes of each image, or None.
        workers: Number of threads; None is the default of Python's thread pools.
        prefetch: Number of batches to prepare ahead; memory holds one more.

    Yields:
        images: uint8 (batch, height, width, 3), contiguous, a new array each time.
        labels: int32 (batch,).

    Raises:
        DataError: A file cannot be read or decoded; the message names it.
    """
    batches = drawn_batches(
        training_draws(
            len(split.paths),
            batch_size=batch_size,
            seed=seed,
            steps_per_epoch=steps_per_epoch,
            start_step=start_step,
        ),
        pixels,
        split.paths,
        augmentation=augmentation,
        seed=seed,
        workers=workers,
        prefetch=prefetch,
    )
    with contextlib.closing(batches):
        for images, draws in batches:
            yield images, split.labels[[sample for _, sample in draws]]


def ordered_batches(
    pixels: PixelSource, split: Split, *, batch_size: int
) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
    """All samples once, in order and unchanged, for validation and evaluation.

    Arguments, errors and yielded arrays are as in `training_batches`; the last batch may be
    smaller.
    """
    num_samples = len(split.paths)
    if not num_samples:
        return
    steps = range(num_steps(num_samples, batch_size))
    spans = (batch_span(step, num_samples, batch_size, full=False) for step in steps)
    draws = ([(0, sample) for sample in span] for span in spans)
    batches = drawn_batches(draws, pixels, split.paths)
    with contextlib.closing(batches):
        for images, taken in batches:
            yield images, split.labels[[sample for _, sample in taken]]


def drawn_batches(
    batches: Iterable[list[Draw]],
    pixels: PixelSource,
    paths: Sequence[str],
    *,
    augmentation: Augment | None = None,
    seed: int = 0,
    workers: int | None = None,
    prefetch: int = 4,
) -> Generator[tuple[np.ndarray, list[Draw]], None, None]:
    """The images of any batches of draws; all other functions for batches of pixels use this one.

    Args:
        batches: The draws of each batch; a sample is an index in `paths`.
        pixels: The images, all of one size.
        paths: The paths of all samples, at least one.

    Other arguments and errors are as in `training_batches`.

    Yields:
        images: uint8 (batch, height, width, 3), contiguous, a new array each time.
        draws: The draws of the batch.
    """
    changes = augmentation if augmentation and augmentation.image_changes else None

    def fill(images: np.ndarray, draws: list[Draw]) -> None:
        for slot, (epoch, sample) in zip(images, draws, strict=True):
            try:
                source = pixels[paths[sample]]
                if changes:
                    source = augment(source, changes, seed=seed, epoch=epoch, sample=sample)
                slot[...] = source
            except Exception as error:
                error.add_note(f"The image was {paths[sample]!r}.")
                raise

    def start(draws: list[Draw]) -> tuple[np.ndarray, list[Draw], list[Future]]:
        images = np.empty((len(draws), *shape), np.uint8)
        starts = range(0, len(draws), _IMAGES_PER_TASK)
        parts = [slice(start, start + _IMAGES_PER_TASK) for start in starts]
        tasks = [pool.submit(fill, images[part], draws[part]) for part in parts]
        return images, draws, tasks

    shape = pixels[paths[0]].shape
    pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
    try:
        for images, draws, tasks in delayed(map(start, batches), prefetch):
            for task in tasks:
                task.result()
            yield images, draws
    finally:
        pool.shutdown(cancel_futures=True)


def delayed(items: Iterable[_Item], number: int) -> Iterator[_Item]:
    """Yield the same items, each once `number` more have been taken from `items`."""
    pending: deque[_Item] = deque()
    for item in items:
        pending.append(item)
        if len(pending) > number:
            yield pending.popleft()
    while pending:
        yield pending.popleft()


def training_draws(
    num_samples: int,
    *,
    batch_size: int,
    seed: int,
    steps_per_epoch: int | None = None,
    start_step: int = 0,
) -> Iterator[list[Draw]]:
    """The draws of each training batch, without end; arguments are as in `training_batches`."""
    for step in itertools.count(start_step):
        span = batch_span(step, num_samples, batch_size, full=steps_per_epoch is not None)
        positions = [divmod(position, num_samples) for position in span]
        yield [(epoch, int(_order(seed, epoch, num_samples)[i])) for epoch, i in positions]


def num_steps(num_samples: int, batch_size: int) -> int:
    """Number of batches in one pass over the data; the last one may be smaller."""
    return -(-num_samples // batch_size)


def sample_order(seed: int, epoch: int, num_samples: int) -> np.ndarray:
    """The order of the samples in one pass over the data; a pure function of its arguments.

    Returns:
        int64 (num_samples,): a permutation of 0..num_samples - 1.
    """
    key = np.array([seed, epoch], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(num_samples)


def batch_span(step: int, num_samples: int, batch_size: int, *, full: bool) -> range:
    """Positions in the stream of samples that make up the batch of a step.

    Position p is the sample at `p % num_samples` in the order of pass `p // num_samples`.

    Args:
        step: Number of the batch since the start of the whole training.
        num_samples: Number of samples in one pass.
        batch_size: Number of samples in a batch.
        full: Whether batches extend over the end of a pass; else its last batch may be smaller.
    """
    if full:
        return range(step * batch_size, (step + 1) * batch_size)
    epoch, step = divmod(step, num_steps(num_samples, batch_size))
    start, end = step * batch_size, min((step + 1) * batch_size, num_samples)
    return range(epoch * num_samples + start, epoch * num_samples + end)


# Each step needs the order of its pass, or of several if a batch is larger than the data.
_order = functools.lru_cache(maxsize=4)(sample_order)

"""Compute the features that are missing: pixels -> frozen layers -> shards on disk.

A pool of threads decodes and augments images ahead of the model, and another thread commits shards,
so that the model never waits.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.data.batches import PixelSource, drawn_batches
from cvtrain.errors import ResourceError, Stopped, TrainingError
from cvtrain.features.keys import image_keys, model_keys
from cvtrain.features.store import KEY_BYTES, FeatureStore
from cvtrain.sections import Augment
from cvtrain.system.files import cache_dir, commit_interval
from cvtrain.system.signals import Stop

BATCH_SIZE = 32
"""Number of images in each forward pass."""

# A shard is committed at either of these limits; a killed process loses the rows after that.
_SHARD_BYTES = 64 * 2**20
_SHARD_SECONDS = 30.0
_SPARE_BYTES = 100 * 2**20  # disk space to leave free


@dataclass(frozen=True, eq=False)
class CachedViews:
    """The images of a split, unchanged or in augmented views, whose features are wanted.

    Attributes:
        paths: Paths of the samples.
        digests: SHA-256 of the decoded pixels of each sample, from `PixelCache.digests`.
        augmentation: Augmentation of the views: view v is the image as `images.augment.augment`
            changes it in epoch v. None: every view is the image itself.
        seed: Random seed of the augmentation.
        num_views: Number of views of each sample.
    """

    paths: Sequence[str]
    digests: Sequence[bytes]
    augmentation: Augment | None = None
    seed: int = 0
    num_views: int = 1

    @cached_property
    def keys(self) -> list[bytes]:
        """Keys view by view: view v of sample i is at index v * len(paths) + i."""
        return image_keys(self.digests, self.augmentation, seed=self.seed, num_views=self.num_views)


def open_stores(
    prefix: keras.Model,
    *,
    dtype: str = "bfloat16",
    warn: Callable[[str], None] = lambda _: None,
) -> list[FeatureStore]:
    """The stores in the cache folder for each output of `prefix`.

    Args:
        prefix: A flat functional model that takes images of one size.
        dtype: Type of the stored values, `bfloat16` or `float32`.
        warn: Function called with one line for each damaged file.
    """
    return [
        FeatureStore(cache_dir() / "features" / key, shape=output.shape[1:], dtype=dtype, warn=warn)
        for key, output in zip(model_keys(prefix, dtype=dtype), prefix.outputs, strict=True)
    ]


@backend.memory_errors()
def extract(
    prefix: keras.Model,
    stores: Sequence[FeatureStore],
    pixels: PixelSource,
    views: Sequence[CachedViews],
    *,
    stop: Stop | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Compute the rows that a store lacks, in one forward pass for all outputs of `prefix`.

    Rows that were computed before an error are kept.

    Args:
        prefix: A flat functional model.
        stores: The stores of its outputs, as `open_stores` returns them.
        pixels: Pixels of all paths.
        views: The images whose rows are wanted.
        stop: Stop request, polled after each batch.
        on_progress: Function called with the number of computed images and their total.

    Returns:
        Number of images that were computed; 0 if the stores had all of them.

    Raises:
        Stopped: A stop was requested.
        DataError: An image cannot be read.
        TrainingError: An output is not finite.
        ResourceError: There is too little disk space or memory.
    """
    wanted = _missing(stores, views)
    total = sum(map(len, wanted))
    if not total:
        return 0
    forward = backend.inference(prefix, dtype=stores[0].dtype.name)
    num_done = 0
    for store in stores:
        store.make_ready()
    _check_disk_space(stores, total)
    # However the block ends, the rows that were computed until then are committed.
    with ThreadPoolExecutor(1) as pool, contextlib.closing(_Shards(stores, pool)) as shards:
        for view, indices in zip(views, wanted, strict=True):
            for images, keys in _batches(pixels, view, indices):
                if stop is not None and stop.requested:
                    raise Stopped(
                        f"stopped after the features of {num_done:,} of {total:,} images, which "
                        "are kept",
                        stop.advice,
                    )
                outputs = forward(images)
                outputs = outputs if isinstance(outputs, list) else [outputs]
                _check_finite(prefix, outputs, len(keys))
                shards.add(keys, outputs)
                num_done += len(keys)
                if on_progress is not None:
                    on_progress(num_done, total)
    return total


def _check_finite(prefix: keras.Model, outputs: Sequence[np.ndarray], num_images: int) -> None:
    for number, output in enumerate(outputs):
        if not np.isfinite(output[:num_images]).all():
            raise TrainingError(
                f"the backbone gives values at {prefix.output_names[number]} that are not finite",
                "Its weights are too large or belong to another network: use other weights, an "
                "earlier layer, or float32 (precision: float32).",
            )


def _missing(stores: Sequence[FeatureStore], views: Sequence[CachedViews]) -> list[list[int]]:
    """For each of `views`, the indices of the keys to compute, without repetitions."""
    seen: set[bytes] = set()
    wanted = []
    for view in views:
        indices = []
        for index in sorted(set().union(*(store.missing(view.keys) for store in stores))):
            if view.keys[index] not in seen:
                seen.add(view.keys[index])
                indices.append(index)
        wanted.append(indices)
    return wanted


def _batches(
    pixels: PixelSource, view: CachedViews, indices: Sequence[int]
) -> Iterator[tuple[np.ndarray, list[bytes]]]:
    """Yield images and keys; the last images are padded with zeros to a full batch."""
    if not indices:
        return
    parts = [indices[i : i + BATCH_SIZE] for i in range(0, len(indices), BATCH_SIZE)]
    batches = drawn_batches(
        ([divmod(index, len(view.paths)) for index in part] for part in parts),
        pixels,
        view.paths,
        augmentation=view.augmentation,
        seed=view.seed,
    )
    with contextlib.closing(batches):
        for (images, _), part in zip(batches, parts, strict=True):
            if lacking := BATCH_SIZE - len(part):
                images = np.pad(images, [(0, lacking), (0, 0), (0, 0), (0, 0)])
            yield images, [view.keys[index] for index in part]


class _Shards:
    """Collects rows and commits them in another thread, one shard of each store at a time."""

    def __init__(self, stores: Sequence[FeatureStore], pool: ThreadPoolExecutor):
        self._stores = stores
        self._pool = pool
        self._pending: Future[None] | None = None
        interval = commit_interval()
        self._seconds = _SHARD_SECONDS if interval is None else interval
        self._begin()

    def add(self, keys: list[bytes], outputs: list[np.ndarray]) -> None:
        self._keys += keys
        for parts, output in zip(self._parts, outputs, strict=True):
            parts.append(output[: len(keys)])
        num_bytes = len(self._keys) * sum(store.row_bytes for store in self._stores)
        if num_bytes >= _SHARD_BYTES or time.monotonic() - self._begun >= self._seconds:
            self.commit()

    def close(self) -> None:
        self.commit()
        self._wait()

    def commit(self) -> None:
        self._wait()
        if self._keys:
            self._pending = self._pool.submit(self._write, self._keys, self._parts)
            self._begin()

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()

    def _begin(self) -> None:
        self._keys: list[bytes] = []
        self._parts: list[list[np.ndarray]] = [[] for _ in self._stores]
        self._begun = time.monotonic()

    def _write(self, keys: list[bytes], parts: list[list[np.ndarray]]) -> None:
        for store, arrays in zip(self._stores, parts, strict=True):
            store.commit(keys, arrays)


def _check_disk_space(stores: Sequence[FeatureStore], num_rows: int) -> None:
    folder = stores[0].folder
    needed = num_rows * sum(store.row_bytes + KEY_BYTES for store in stores) + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ResourceError(
            f"{folder}: features of {num_rows:,} images take {needed / 1e6:,.0f} MB, "
            f"and {free / 1e6:,.0f} MB are free",
            "Free some room, let CVTRAIN_CACHE name a folder on another disk, ask for fewer views, "
            "or choose a layer with smaller feature maps.",
        )

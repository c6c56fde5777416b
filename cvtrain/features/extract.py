"""Compute the features that are missing: pixels -> frozen layers -> shards on disk.

Images are decoded and changed ahead of the model by a pool of threads, and shards are committed
behind it by another thread, so that the model never waits.
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
from cvtrain.system.commit_interval import commit_interval
from cvtrain.system.files import cache_dir
from cvtrain.system.signals import Stop

BATCH_SIZE = 32
"""Images in each forward pass."""

# A kill loses what was computed since the last commit, at most as much as either of these.
_SHARD_BYTES = 64 * 2**20
_SHARD_SECONDS = 30.0
_SPARE_BYTES = 100 * 2**20  # of the disk, for everything else


@dataclass(frozen=True, eq=False)
class CachedViews:
    """Whose features are wanted: the images of a split, as they are or in augmented views.

    Attributes:
        paths: of the samples.
        digests: SHA-256 of the decoded pixels of each sample, as `pixel_cache.PixelCache.digests`
            has them by path.
        augmentation: what view v changes in sample i is what `images.augment.augment` changes in
            pass v; None, and every view is the image itself.
        seed: of the augmentation.
        num_views: how many views each sample has.
    """

    paths: Sequence[str]
    digests: Sequence[bytes]
    augmentation: Augment | None = None
    seed: int = 0
    num_views: int = 1

    @cached_property
    def keys(self) -> list[bytes]:
        """The keys, view by view: that of view v of sample i is at v * len(paths) + i."""
        return image_keys(self.digests, self.augmentation, seed=self.seed, num_views=self.num_views)


def open_stores(
    prefix: keras.Model,
    *,
    dtype: str = "bfloat16",
    warn: Callable[[str], None] = lambda _: None,
) -> list[FeatureStore]:
    """The stores in the cache folder for each output of `prefix`.

    Args:
        prefix: a flat functional model that takes images of one size.
        dtype: `bfloat16` or `float32`: how values are stored.
        warn: called with one line for each damaged file.
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

    Args:
        prefix: a flat functional model.
        stores: of its outputs, as `open_stores` returns them.
        pixels: of all paths.
        views: the images whose rows are wanted.
        stop: polled after each batch.
        on_progress: called with how many images are done, and of how many that had to be.

    Returns:
        How many images had to be computed; 0 when the stores had all.

    Raises:
        Stopped: on request; what was computed is kept.
        DataError: an image cannot be read; what was computed is kept.
        TrainingError: an output is not finite; what was computed before is kept.
        ResourceError: the disk has no room for the rows, or the memory does not suffice.
    """
    wanted = _missing(stores, views)
    total = sum(map(len, wanted))
    if not total:
        return 0
    forward = backend.inference(prefix, dtype=stores[0].dtype.name)
    num_done = 0
    with _committing(stores, total) as keep:
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
                keep(keys, outputs)
                num_done += len(keys)
                if on_progress is not None:
                    on_progress(num_done, total)
    return total


def _check_finite(prefix: keras.Model, outputs: Sequence[np.ndarray], num_images: int) -> None:
    for number, output in enumerate(outputs):
        if not np.isfinite(output[:num_images]).all():
            raise TrainingError(
                f"the backbone gives values at {prefix.output_names[number]} that are not finite",
                "Its weights are too large, or not of this network: give it others, cut it lower, "
                "or compute in float32 (precision: float32).",
            )


def _missing(stores: Sequence[FeatureStore], views: Sequence[CachedViews]) -> list[list[int]]:
    """For each of `views`, which of its keys to compute; one that occurs twice only once."""
    seen: set[bytes] = set()
    wanted = []
    for view in views:
        indices = []
        for place in sorted(set().union(*(store.missing(view.keys) for store in stores))):
            if view.keys[place] not in seen:
                seen.add(view.keys[place])
                indices.append(place)
        wanted.append(indices)
    return wanted


def _batches(
    pixels: PixelSource, view: CachedViews, indices: Sequence[int]
) -> Iterator[tuple[np.ndarray, list[bytes]]]:
    """Images and keys. All batches of images are full, so that each image is computed alike:
    zeros follow the last ones.
    """
    if not indices:
        return
    parts = [indices[i : i + BATCH_SIZE] for i in range(0, len(indices), BATCH_SIZE)]
    batches = drawn_batches(
        ([divmod(place, len(view.paths)) for place in part] for part in parts),
        pixels,
        view.paths,
        augmentation=view.augmentation,
        seed=view.seed,
    )
    with contextlib.closing(batches):
        for (images, _), part in zip(batches, parts, strict=True):
            if lacking := BATCH_SIZE - len(part):
                images = np.pad(images, [(0, lacking), (0, 0), (0, 0), (0, 0)])
            yield images, [view.keys[place] for place in part]


@contextlib.contextmanager
def _committing(
    stores: Sequence[FeatureStore], num_rows: int
) -> Iterator[Callable[[list[bytes], list[np.ndarray]], None]]:
    """Yield a function that takes a batch of rows of each store; all are committed at the end.

    However the block ends, what was computed until then is committed.
    """
    for store in stores:
        store.make_ready()
    _check_disk_space(stores, num_rows)
    with ThreadPoolExecutor(1) as pool:
        shards = _Shards(stores, pool)
        try:
            yield shards.add
        finally:
            shards.commit()
            shards.wait()


class _Shards:
    """Collects rows and commits them in a thread of its own, one shard of each store at a time."""

    def __init__(self, stores: Sequence[FeatureStore], pool: ThreadPoolExecutor):
        self._stores = stores
        self._pool = pool
        self._pending: Future[None] | None = None
        asked = commit_interval()
        self._spacing = _SHARD_SECONDS if asked is None else asked
        self._begin()

    def add(self, keys: list[bytes], outputs: list[np.ndarray]) -> None:
        self._keys += keys
        for parts, output in zip(self._parts, outputs, strict=True):
            parts.append(output[: len(keys)])
        num_bytes = len(self._keys) * sum(store.row_bytes for store in self._stores)
        if num_bytes >= _SHARD_BYTES or time.monotonic() - self._begun >= self._spacing:
            self.commit()

    def commit(self) -> None:
        self.wait()
        if self._keys:
            self._pending = self._pool.submit(self._write, self._keys, self._parts)
            self._begin()

    def wait(self) -> None:
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
            "or cut the model where its maps are smaller.",
        )

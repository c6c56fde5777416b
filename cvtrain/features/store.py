"""Features on disk: rows of one model, found by the keys of their images.

A store is a folder of shards. A shard is committed as one file and never changed:

    a .npy of the values    shape (rows, ...); numpy.load(file, mmap_mode="r") reads it
    the keys                32 bytes each
    two CRC-32              of the values, and of the keys and the first CRC; little-endian

bfloat16, for which the .npy format has no name, is stored as the uint16 of the same bits. Any
number of processes may use one store: names of shards are random, and a row that two processes
have computed is stored twice, which does no harm.
"""

import contextlib
import io
import itertools
import os
import secrets
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from cvtrain.errors import ResourceError
from cvtrain.system.files import committed, disk_errors, make_folder, remove_abandoned
from cvtrain.system.text import escape

KEY_BYTES = 32

_DTYPES: dict[str, tuple[np.dtype[Any], np.dtype[Any]]] = {  # name -> in memory, on disk
    "bfloat16": (np.dtype(ml_dtypes.bfloat16), np.dtype("<u2")),
    "float32": (np.dtype(np.float32), np.dtype("<f4")),
}
_TAIL = struct.Struct("<II")
_CHUNK = 4 * 2**20


@dataclass
class _Shard:
    """A shard whose keys are known; `first` is the index of its first row in the store."""

    path: Path
    first: int
    num_rows: int
    values_at: int
    values_crc: int
    is_checked: bool


class FeatureStore:
    """The rows of one model in one folder.

    Opening reads the keys of every shard. The values of a shard are checked once, before the first
    use of its rows. A damaged shard is renamed to end in `.damaged`, and its rows are missing.

    Args:
        folder: Folder of the store, which is created when the first rows are written.
        shape: Shape of one row.
        dtype: Type of the values in memory and on disk, `bfloat16` or `float32`.
        warn: Function called with one line for each damaged shard.
    """

    def __init__(
        self,
        folder: Path,
        *,
        shape: Sequence[int],
        dtype: str = "bfloat16",
        warn: Callable[[str], None] = lambda _: None,
    ):
        self.folder = Path(folder)
        self.shape = tuple(shape)
        self.dtype, self._stored = _DTYPES[dtype]
        self.row_bytes = int(np.prod(self.shape)) * self.dtype.itemsize
        self._warn = warn
        self._shards: list[_Shard] = []
        self._indices: dict[bytes, int] = {}
        self._num_rows = 0
        for path in sorted(self.folder.glob("[!.]*.npy")):
            self._open(path)

    def __len__(self) -> int:
        """Number of images with a row."""
        return len(self._indices)

    @property
    def size(self) -> int:
        """Size of the rows on disk in bytes."""
        return len(self._indices) * (self.row_bytes + KEY_BYTES)

    def missing(self, keys: Sequence[bytes]) -> list[int]:
        """Indices in `keys`, ascending, of those without a row."""
        return np.flatnonzero(self._find(keys) < 0).tolist()

    def rows(self, keys: Sequence[bytes]) -> "Rows":
        """The rows of `keys`, in their order.

        Raises:
            KeyError: A row is missing.
        """
        indices = self._find(keys)
        if num_missing := int((indices < 0).sum()):
            raise KeyError(f"{num_missing} of {len(keys)} rows are not in {self.folder}")
        return Rows(tuple(self._shards), indices, self.shape, self.dtype)

    def make_ready(self) -> None:
        """Create the folder for `commit`, and remove temporary files of killed processes.

        Raises:
            ResourceError: The folder cannot be written.
        """
        with disk_errors(self.folder):
            make_folder(self.folder)
        remove_abandoned(self.folder)

    def commit(self, keys: Sequence[bytes], parts: Sequence[np.ndarray]) -> None:
        """Commit rows as one shard.

        Args:
            keys: The keys of the rows.
            parts: The rows, in any number of arrays of shape (n, *shape).

        Raises:
            ResourceError: The shard cannot be written; earlier shards are intact.
        """
        path = self.folder / f"{secrets.token_hex(8)}.npy"
        header, joined = self._header(len(keys)), b"".join(keys)
        crc = 0
        with committed(path) as temporary, temporary.open("wb") as file:
            file.write(header)
            for part in parts:
                values = np.ascontiguousarray(part, self.dtype).view(np.uint8).data
                file.write(values)
                crc = zlib.crc32(values, crc)
            file.write(joined)
            file.write(_TAIL.pack(crc, _keys_crc(joined, crc)))
        self._add(path, joined, len(header), crc, is_checked=True)

    def _header(self, num_rows: int) -> bytes:
        """The .npy header of a shard; its length does not depend on `num_rows`."""
        file = io.BytesIO()
        shape = (num_rows, *self.shape)
        header = {"descr": self._stored.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        return file.getvalue()

    def _open(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                # 0 rows for a file that is too small
                num_bytes = max(0, size - len(self._header(0)) - _TAIL.size)
                num_rows = num_bytes // (self.row_bytes + KEY_BYTES)
                header = self._header(num_rows)
                is_intact = file.read(len(header)) == header
                file.seek(len(header) + num_rows * self.row_bytes)
                keys = file.read(num_rows * KEY_BYTES)
                crc, keys_crc = _TAIL.unpack(file.read())
                is_intact &= keys_crc == _keys_crc(keys, crc)
        except (OSError, struct.error):
            is_intact = False
        if is_intact:
            self._add(path, keys, len(header), crc, is_checked=False)
        else:
            self._set_aside(path)

    def _add(self, path: Path, keys: bytes, values_at: int, crc: int, *, is_checked: bool) -> None:
        first, num_rows = self._num_rows, len(keys) // KEY_BYTES
        self._shards.append(_Shard(path, first, num_rows, values_at, crc, is_checked))
        for row in range(num_rows):
            self._indices[keys[row * KEY_BYTES : (row + 1) * KEY_BYTES]] = first + row
        self._num_rows += num_rows

    def _find(self, keys: Sequence[bytes]) -> np.ndarray:
        """The index of each row, int64; -1 where it is missing."""
        indices = np.fromiter((self._indices.get(key, -1) for key in keys), np.int64, len(keys))
        used = np.unique(_shard_numbers(self._shards, indices[indices >= 0]))
        unchecked = [self._shards[i] for i in used if not self._shards[i].is_checked]
        with ThreadPoolExecutor() as pool:
            for shard, is_sound in zip(unchecked, pool.map(self._is_sound, unchecked), strict=True):
                shard.is_checked = True
                if not is_sound:
                    self._set_aside(shard.path)
                    lost = range(shard.first, shard.first + shard.num_rows)
                    self._indices = {k: p for k, p in self._indices.items() if p not in lost}
                    indices[(indices >= lost.start) & (indices < lost.stop)] = -1
        return indices

    def _is_sound(self, shard: _Shard) -> bool:
        crc, left = 0, shard.num_rows * self.row_bytes
        try:
            with shard.path.open("rb") as file:
                file.seek(shard.values_at)
                while left and (chunk := file.read(min(left, _CHUNK))):
                    crc = zlib.crc32(chunk, crc)
                    left -= len(chunk)
        except OSError:
            return False
        return not left and crc == shard.values_crc

    def _set_aside(self, path: Path) -> None:
        self._warn(f"{escape(path)} is damaged and set aside; its features are computed again")
        # Another process may have renamed it, or the folder may be read-only.
        with contextlib.suppress(OSError):
            path.rename(path.with_suffix(".damaged"))


class Rows:
    """Rows of a store, in some order; `take` reads them from the disk at each call.

    Attributes:
        shape: (rows, ...).
        dtype: Type of the values.
    """

    def __init__(
        self, shards: Sequence[_Shard], indices: np.ndarray, shape: tuple[int, ...], dtype: np.dtype
    ):
        self.shape = (len(indices), *shape)
        self.dtype = dtype
        self._shards = shards
        self._indices = indices

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._indices)

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read some rows: (len(indices), ...), a new array.

        Raises:
            ResourceError: A file cannot be read.
        """
        indices = self._indices[np.asarray(indices, np.int64)]
        rows = np.empty((len(indices), *self.shape[1:]), self.dtype)
        into = rows.view(np.uint8).reshape(
            len(indices), int(np.prod(rows.shape[1:])) * rows.itemsize
        )
        order = np.argsort(indices)
        shards = _shard_numbers(self._shards, indices[order]).tolist()
        for shard, group in itertools.groupby(
            zip(shards, order.tolist(), strict=True), key=itemgetter(0)
        ):
            self._read(self._shards[shard], [i for _, i in group], indices, into)
        return rows

    def _read(
        self, shard: _Shard, positions: Sequence[int], indices: np.ndarray, into: np.ndarray
    ) -> None:
        # Not through a memory map: its pages count as memory of this process, its page faults block
        # all threads, and a file that is truncated meanwhile would kill the process.
        row_bytes = into.shape[1]
        try:
            with shard.path.open("rb", buffering=0) as file:
                for i in positions:
                    start = shard.values_at + (int(indices[i]) - shard.first) * row_bytes
                    file.seek(start)
                    if file.readinto(into[i]) != row_bytes:
                        raise OSError("it is too short")
        except OSError as error:
            raise ResourceError(
                f"{escape(shard.path)}: cannot be read: {error.strerror or error}",
                "Start the same command again: it computes the features that are missing.",
            ) from error


def _shard_numbers(shards: Sequence[_Shard], indices: np.ndarray) -> np.ndarray:
    return np.searchsorted([shard.first for shard in shards], indices, side="right") - 1


def _keys_crc(keys: bytes, values_crc: int) -> int:
    return zlib.crc32(values_crc.to_bytes(4, "little"), zlib.crc32(keys))

"""Decoded pixels of the files under one folder, kept in bounded memory."""

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cvtrain.errors import DataError
from cvtrain.images.decode import DecodeError, Decoder, read_image
from cvtrain.images.file_types import advice_in
from cvtrain.system.machine import available_memory
from cvtrain.system.text import escape


class PixelCache:
    """The pixels of each file, decoded at first use and kept up to a memory limit.

    Images beyond `memory_limit` are decoded again at each use. Instances are thread-safe.

    Args:
        root: Folder that paths are relative to.
        decoder: Decoder of the files.
        memory_limit: Bytes of pixels to keep; None is a quarter of the available memory.

    Attributes:
        kept_bytes: Number of bytes of the pixels that are kept.
        digests: SHA-256 of the pixels by path, set after a check of the files. A file that now
            decodes to other pixels is refused.
    """

    def __init__(self, root: Path, decoder: Decoder, *, memory_limit: int | None = None):
        self.root = Path(root)
        self.decoder = decoder
        self.memory_limit = available_memory() // 4 if memory_limit is None else memory_limit
        self.kept_bytes = 0
        self.digests: Mapping[str, bytes] = {}
        self._kept: dict[str, np.ndarray] = {}
        self._lock = threading.Lock()

    def __getitem__(self, path: str) -> np.ndarray:
        """Pixels of the file at `path`: uint8 RGB of shape (height, width, 3), read-only.

        Raises:
            DataError: The file cannot be read or decoded, or has changed since the check.
        """
        pixels = self._kept.get(path)
        if pixels is not None:
            return pixels
        try:
            pixels = self.decoder(read_image(self.root / path)).pixels
        except DecodeError as error:
            advice = advice_in(self.root, error.advice)
            raise DataError(f"{escape(path)}: {error.message}", advice) from error
        expected = self.digests.get(path)
        if expected is not None and hashlib.sha256(pixels.data).digest() != expected:
            raise DataError(
                f"{escape(path)}: changed since it was checked",
                "Do not change images while a command runs. Start the command again.",
            )
        self.keep(path, pixels)
        return pixels

    def keep(self, path: str, pixels: np.ndarray) -> None:
        """Keep the pixels of the file at `path` if the limit permits."""
        with self._lock:
            if path not in self._kept and self.kept_bytes + pixels.nbytes <= self.memory_limit:
                self._kept[path] = pixels
                self.kept_bytes += pixels.nbytes

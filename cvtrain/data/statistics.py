"""Statistics of a data set: sizes, formats, colours, copies and near duplicates."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from cvtrain.data.contrast import has_contrast
from cvtrain.data.near_duplicates import (
    SMALLEST,
    NearDuplicate,
    can_be_compared,
    difference_hash,
    find_near_duplicates,
    thumbnail,
)
from cvtrain.images.decode import DecodeError, Decoder, read_image
from cvtrain.system.machine import num_threads
from cvtrain.system.signals import NEVER, Stop

_FILES_AT_ONCE = 128


class ImageFacts(NamedTuple):
    """Properties of one file.

    Attributes:
        width, height: Size of the upright image in pixels.
        format: JPEG, PNG, BMP, GIF or WEBP.
        mode: Pillow's mode of the stored image: RGB, L, P, ...
        num_bytes: Size of the file.
        image: Digest that copies of one image share, see `FileCheck.image`.
    """

    width: int
    height: int
    format: str
    mode: str
    num_bytes: int
    image: bytes


@dataclass(frozen=True)
class Statistics:
    """Properties of all files of a data set.

    Attributes:
        facts: Properties by path, in the given order, of the files that can be decoded.
        unusable: The errors of the other files by path.
        histogram: int64 (3, 256), number of decoded pixels by value of red, green and blue.
        near_duplicates: Paths of pairs of different images that are similar.
        num_small: Number of images with too few pixels to be compared.
        num_plain: Number of images with too little contrast to be compared.
    """

    facts: Mapping[str, ImageFacts]
    unusable: Mapping[str, str]
    histogram: np.ndarray
    near_duplicates: tuple[tuple[str, str, NearDuplicate], ...]
    num_small: int
    num_plain: int

    def copies(self) -> list[list[str]]:
        """The paths of each image that occurs more than once."""
        groups: dict[bytes, list[str]] = {}
        for path, facts in self.facts.items():
            groups.setdefault(facts.image, []).append(path)
        return [paths for paths in groups.values() if len(paths) > 1]

    def channel_means(self) -> np.ndarray:
        """float64 (3,): mean of red, green and blue over all decoded pixels, 0..255."""
        return self.histogram @ np.arange(256) / self.histogram.sum(axis=1)

    def channel_deviations(self) -> np.ndarray:
        """float64 (3,): their standard deviations, of all pixels as one population."""
        squares = (np.arange(256) - self.channel_means()[:, None]) ** 2
        return np.sqrt((self.histogram * squares).sum(axis=1) / self.histogram.sum(axis=1))


def collect_statistics(
    root: Path,
    paths: Sequence[str],
    decoder: Decoder,
    *,
    stop: Stop = NEVER,
    on_progress: Callable[[int, int], None] | None = None,
) -> Statistics:
    """Read every file once; memory holds less than 2 KB for each.

    Args:
        root: Folder that paths are relative to.
        paths: Paths of the files.
        decoder: Decoder of the pixels that colours and copies are determined from.
        stop: Stop request, polled before every file.
        on_progress: Function called with the numbers of files that are done and in total.

    Raises:
        Stopped: A stop was requested.
    """
    facts: dict[str, ImageFacts] = {}
    unusable: dict[str, str] = {}
    histogram = np.zeros((3, 256), np.int64)
    compared: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    seen: set[bytes] = set()
    num_small = num_plain = 0

    def examine(path: str) -> _Examined | str:
        stop.raise_if_stopped("looking at the images")
        try:
            return _examine(root / path, decoder)
        except DecodeError as error:
            return error.message

    with ThreadPoolExecutor(num_threads()) as pool:
        for start in range(0, len(paths), _FILES_AT_ONCE):
            part = paths[start : start + _FILES_AT_ONCE]
            for path, found in zip(part, pool.map(examine, part), strict=True):
                if isinstance(found, str):
                    unusable[path] = found
                    continue
                facts[path] = found.facts
                histogram += found.histogram
                if found.facts.image in seen:
                    continue
                seen.add(found.facts.image)
                if min(found.facts.width, found.facts.height) < SMALLEST:
                    num_small += 1
                elif not can_be_compared(found.thumbnail):
                    num_plain += 1
                else:
                    compared[path] = found.hash, found.thumbnail
            if on_progress is not None:
                on_progress(start + len(part), len(paths))
    pairs: list[NearDuplicate] = []
    if len(compared) > 1:
        hashes, thumbnails = map(np.stack, zip(*compared.values(), strict=True))
        pairs = find_near_duplicates(hashes, thumbnails)
    names = list(compared)
    near_duplicates = tuple((names[pair.first], names[pair.second], pair) for pair in pairs)
    return Statistics(facts, unusable, histogram, near_duplicates, num_small, num_plain)


class _Examined(NamedTuple):
    facts: ImageFacts
    histogram: np.ndarray
    hash: np.ndarray
    thumbnail: np.ndarray


def _examine(path: Path, decoder: Decoder) -> _Examined:
    content = read_image(path)
    decoded = decoder(content)
    pixels = decoded.pixels
    # Counts are exact in float32 up to 2**24, the number of pixels of the largest image size.
    channels = [cv2.calcHist([pixels], [i], None, [256], [0, 256]) for i in range(3)]
    return _Examined(
        ImageFacts(
            decoded.width,
            decoded.height,
            decoded.format,
            decoded.mode,
            len(content),
            hashlib.sha256(pixels.data if has_contrast(decoded, decoder) else content).digest(),
        ),
        np.stack([counts.ravel() for counts in channels]).astype(np.int64),
        difference_hash(pixels),
        thumbnail(pixels),
    )

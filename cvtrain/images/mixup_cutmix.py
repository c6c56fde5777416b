"""MixUp and CutMix: mix each image of a batch with another one, and their labels as well.

MixUp blends (Zhang et al. 2017, arXiv:1710.09412), CutMix pastes a rectangle (Yun et al. 2019,
arXiv:1905.04899). Each image is mixed with the one before it in the batch, whose order is random;
so a mixed batch is a pure function of the batch, the seed and the number of the step.
"""

import contextlib
import math
from collections.abc import Generator

import cv2
import numpy as np

from cvtrain.sections import Augment


def mixed_batches(
    batches: Generator[tuple[np.ndarray, np.ndarray], None, None],
    augmentation: Augment,
    *,
    num_classes: int,
    seed: int,
    start_step: int = 0,
) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
    """Mix each batch of a generator, and close the generator at the end.

    Args:
        batches: Images and labels, as `data.batches.training_batches` yields them.
        augmentation: Settings. The weight of the first image is drawn once for each batch from
            Beta(a, a), where a is `mixup` or `cutmix`. If both are set, each batch is mixed in one
            of the two ways, with probability 1/2 each.
        num_classes: Number of classes.
        seed: Random seed, in 0..2**64 - 1.
        start_step: Number of the first batch, counted from the start of the whole training.

    Yields:
        images: uint8 (batch, height, width, 3).
        labels: float32 (batch, classes), rows sum to 1.
    """
    with contextlib.closing(batches):
        for step, (images, labels) in enumerate(batches, start_step):
            yield mix(images, labels, augmentation, num_classes=num_classes, seed=seed, step=step)


def mix(
    images: np.ndarray,
    labels: np.ndarray,
    augmentation: Augment,
    *,
    num_classes: int,
    seed: int,
    step: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Mix each image with the one before it, the first one with the last.

    Args:
        images: uint8 (batch, height, width, 3), contiguous; not modified.
        labels: integer (batch,).
        augmentation: Settings, with at least one of `mixup` and `cutmix`.
        num_classes, seed: As in `mixed_batches`.
        step: Number of the batch, counted from the start of the whole training.

    Returns:
        Images and labels as `mixed_batches` yields them.
    """
    # The counter's last word separates this stream from those of sample order and augmentation.
    key, counter = np.array([seed, step], np.uint64), np.array([0, 0, 0, 2], np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
    heads = generator.random() < 0.5
    if augmentation.mixup is not None and (augmentation.cutmix is None or heads):
        share = generator.beta(augmentation.mixup, augmentation.mixup)
        mixed = _blended(images, share)
    else:
        assert augmentation.cutmix is not None
        share = generator.beta(augmentation.cutmix, augmentation.cutmix)
        mixed, share = _pasted(images, share, generator)
    rows = np.eye(num_classes, dtype=np.float32)[labels]
    partners = np.roll(rows, 1, axis=0)
    return mixed, (share * rows + (1.0 - share) * partners).astype(np.float32)


def _blended(images: np.ndarray, share: float) -> np.ndarray:
    flat = images.reshape(len(images), -1)
    partners = np.roll(flat, 1, axis=0)
    return cv2.addWeighted(flat, share, partners, 1.0 - share, 0.0).reshape(images.shape)


def _pasted(
    images: np.ndarray, share: float, generator: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Paste a rectangle of the partner into each image; also return the share that is left."""
    height, width = images.shape[1:3]
    side = math.sqrt(1.0 - share)  # with the image's aspect ratio; parts outside are clipped
    y, x = generator.random(2).tolist()
    top, bottom = _span(height, side, y)
    left, right = _span(width, side, x)
    box = np.s_[:, top:bottom, left:right]
    mixed = images.copy()
    mixed[box] = np.roll(images[box], 1, axis=0)
    return mixed, 1.0 - (bottom - top) * (right - left) / (height * width)


def _span(length: int, share: float, centre: float) -> tuple[int, int]:
    """Start and end, in pixels, of a share of a side around `centre`; both in 0..1."""
    size = round(length * share)
    start = int(length * centre) - size // 2
    return max(0, start), min(length, start + size)

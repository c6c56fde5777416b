"""Check the contrast of decoded images and the range of the values in their files.

One value in 10,000 at either end is ignored, so that a hot pixel is not contrast. The limits
separate files of 16 bits that hold the values of 12-bit and 14-bit cameras. The lowest contrast of
3,781 photographs of clothing was 78 grey levels, at 64 x 64 pixels.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from cvtrain.data.check_cache import FileCheck, Issue, Values
from cvtrain.images.decode import Decoded, Decoder, stored_values

LOW = "hardly any contrast"
_LEAST = 16  # grey levels; of a file of 8 bits, or with a `data.range`
_LEAST_OF_16_BITS = 64
_NOISE = 64  # grey levels that noise may span in a file; decoding reduces them
_RARE = 10_000
_MOST_SAMPLES = 2000  # pixels across and down that are examined
_EMPTY = "Remove it if it shows nothing."


def has_contrast(decoded: Decoded, decoder: Decoder) -> bool:
    """Whether the decoded values of any channel span more than a few grey levels."""
    is_of_16_bits = decoded.full_scale > 255 and decoder.range == "auto"
    least = _LEAST_OF_16_BITS if is_of_16_bits else _LEAST
    return _span(_extremes(decoder.unpadded(decoded))) > least


def examine_contrast(
    content: bytes, decoded: Decoded, decoder: Decoder
) -> tuple[Issue | None, Values | None]:
    """An issue if the image has no contrast, and the range of the values in its file.

    The range is None for files of 8 bits with contrast, and if contrast is lost by decoding.

    Args:
        content: Bytes of the file.
        decoded: The image as decoded by `decoder`.
        decoder: The decoder.
    """
    shows = has_contrast(decoded, decoder)
    if shows and decoded.full_scale == 255:
        return None, None
    stored = _extremes(stored_values(content))
    values = Values(int(stored.min()), int(stored.max()), decoded.full_scale)
    if shows:
        return None, values
    low, high = (0, decoded.full_scale) if decoder.range == "auto" else decoder.range
    if _span(np.clip(stored, low, high)) * 255 > _NOISE * (high - low):
        return _hidden(content, decoder), None
    if _span(stored) == 0:
        return Issue("doubtful", "one colour all over", _EMPTY), values
    spans = dict.fromkeys(f"{first:,} to {last:,}" for first, last in stored.tolist())
    what = f"{LOW}: its values are {', '.join(spans)} of {low:,}..{high:,}"
    return Issue("doubtful", what, _EMPTY), values


def advised(findings: Iterable[Issue], limits: tuple[int, int] | None) -> Iterator[Issue]:
    """Yield findings; those of low contrast get the advice to set `data.range` to `limits`."""
    advice = f"Set the range of the values: --set 'data.range={list(limits or ())}'"
    for finding in findings:
        helps = limits is not None and finding.what.startswith(LOW)
        yield finding._replace(advice=advice) if helps else finding


def range_of_all(facts: Iterable[FileCheck]) -> tuple[int, int] | None:
    """The `data.range` for the values of all images, if most have no contrast without it.

    It is 0 to the largest value of the necessary number of bits; for values far from 0, their own
    range.
    """
    usable = [found for found in facts if found.pixels]
    values = [found.values for found in usable if found.values]
    num_empty = sum(found.is_empty for found in usable)
    # Only few ordinary files of 8 bits are tolerated, because the range would apply to them too.
    if not values or 2 * num_empty < len(usable) or 10 * len(values) < 9 * len(usable):
        return None
    low, high = min(each.low for each in values), max(each.high for each in values)
    whole = 2 ** high.bit_length() - 1
    if low < high and 4 * (high - low) <= whole:
        return low, high
    return (0, whole) if 0 < whole < max(each.full_scale for each in values) else None


def _hidden(content: bytes, decoder: Decoder) -> Issue | None:
    """The issue of an image that loses the contrast of its file by decoding."""
    side = 0 if sum(decoder.background) > 382 else 255
    other = replace(decoder, background=(side, side, side))
    seen, through = (each.unpadded(each(content)) for each in (decoder, other))
    if _span(_extremes(through)) > _LEAST:
        return Issue(
            "doubtful",
            "hardly differs from the background that shows through it, "
            f"{', '.join(map(str, decoder.background))}",
            f"Choose another background: --set 'data.background={list(other.background)}'",
        )
    if (seen == decoder.background).all() and (through == other.background).all():
        return Issue("doubtful", "transparent all over", "Store it opaque, or remove it.")
    if (seen == seen[0, 0]).all():
        return Issue(
            "doubtful",
            f"one colour all over at {decoder.size[0]}x{decoder.size[1]} pixels",
            "Choose another data.resize or a larger data.image_size, or remove it.",
        )
    return None


def _extremes(pixels: np.ndarray) -> np.ndarray:
    """int (channels, 2): the lowest and the highest value of each channel, without rare values."""
    steps = [-(-side // _MOST_SAMPLES) for side in pixels.shape[:2]]
    channels = pixels[:: steps[0], :: steps[1]].reshape(-1, pixels.shape[2]).T
    rare = channels.shape[1] // _RARE
    at_most = [np.bincount(channel).cumsum() for channel in channels]
    return np.array([np.searchsorted(n, (rare + 1, n[-1] - rare)) for n in at_most])


def _span(extremes: np.ndarray) -> int:
    return int(np.ptp(extremes, axis=1).max())

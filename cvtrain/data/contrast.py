"""Does an image show anything? The contrast of what it decodes to, and the values of its file.

One value in 10,000 at either end is left out of account: a hot pixel is no contrast. The limits are
those of what cameras of 12 and of 14 bits yield in files of 16. Of 3,781 photographs of clothing
the one of least contrast spans 78 grey levels at 64 x 64 pixels.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from cvtrain.data.check_cache import FileCheck, Issue, Values
from cvtrain.images.decode import Decoded, Decoder, stored_values

LOW = "hardly any contrast"
_LEAST = 16  # grey levels; of a file of 8 bits, or where `data.range` says what the values mean
_LEAST_OF_16_BITS = 64
_NOISE = 64  # grey levels that noise may span in a file, of which decoding leaves less
_RARE = 10_000
_MOST_PLACES = 2000  # across and down, where values are looked at
_EMPTY = "Remove it if it shows nothing."


def has_contrast(decoded: Decoded, decoder: Decoder) -> bool:
    """Do the decoded values of any channel span more than a few grey levels?"""
    is_of_16_bits = decoded.full_scale > 255 and decoder.range == "auto"
    least = _LEAST_OF_16_BITS if is_of_16_bits else _LEAST
    return _span(_extremes(decoder.unpadded(decoded))) > least


def examine_contrast(
    content: bytes, decoded: Decoded, decoder: Decoder
) -> tuple[Issue | None, Values | None]:
    """What to say of an image that shows nothing, and the values of its file.

    The values are those of files of 16 bits, and of images whose own values have no contrast.

    Args:
        content: of the file.
        decoded: what `decoder` made of it.
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
    """Findings, those of low contrast with the advice to set `data.range` to `limits`."""
    advice = f"Say which values the images have: --set 'data.range={list(limits or ())}'"
    for finding in findings:
        helps = limits is not None and finding.what.startswith(LOW)
        yield finding._replace(advice=advice) if helps else finding


def range_of_all(facts: Iterable[FileCheck]) -> tuple[int, int] | None:
    """The `data.range` that suits the values of all images, where most show nothing without it.

    It ends at the largest value that the fewest bits can hold; values far from 0 have their own.
    """
    usable = [found for found in facts if found.pixels]
    values = [found.values for found in usable if found.values]
    num_empty = sum(found.is_empty for found in usable)
    # Of ordinary files of 8 bits only few may be there: the range would count for them too.
    if not values or 2 * num_empty < len(usable) or 10 * len(values) < 9 * len(usable):
        return None
    low, high = min(each.low for each in values), max(each.high for each in values)
    whole = 2 ** high.bit_length() - 1
    if low < high and 4 * (high - low) <= whole:
        return low, high
    return (0, whole) if 0 < whole < max(each.full_scale for each in values) else None


def _hidden(content: bytes, decoder: Decoder) -> Issue | None:
    """Why nothing is seen of an image whose file has contrast."""
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
    """int (channels, 2): the lowest and the highest value of each channel, rare ones left out.

    Args:
        pixels: uint8 or uint16 (height, width, channels).
    """
    steps = [-(-side // _MOST_PLACES) for side in pixels.shape[:2]]
    channels = pixels[:: steps[0], :: steps[1]].reshape(-1, pixels.shape[2]).T
    rare = channels.shape[1] // _RARE
    at_most = [np.bincount(channel).cumsum() for channel in channels]
    return np.array([np.searchsorted(n, (rare + 1, n[-1] - rare)) for n in at_most])


def _span(extremes: np.ndarray) -> int:
    return int(np.ptp(extremes, axis=1).max())

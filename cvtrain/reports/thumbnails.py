"""Image files -> small pictures for a page of limited size."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from cvtrain.images.decode import DecodeError, Decoder, read_image
from cvtrain.system.html import picture
from cvtrain.system.signals import Stop

_AT_ONCE = 32
_PLAIN = Decoder((1, 1))


def thumbnails(
    files: Mapping[str, Path], *, longest: int, budget: int, stop: Stop, like: Decoder = _PLAIN
) -> dict[str, str]:
    """Small pictures as data URIs by name, in the order of `files`, until `budget` is used up.

    Args:
        files: image files by name.
        longest: longer side in pixels; images of less than half of it are enlarged.
        budget: total length of the data URIs in characters.
        stop: request to stop, checked between images.
        like: decoder whose background and range of values are used.

    Returns:
        Pictures by name; empty for a file that cannot be read.

    Raises:
        Stopped: a stop was requested.
    """
    made: dict[str, str] = {}
    names = list(files)
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(names), _AT_ONCE):
            stop.raise_if_stopped("reading images")
            some = names[start : start + _AT_ONCE]
            pictures = pool.map(
                partial(thumbnail, longest=longest, like=like), map(files.get, some)
            )
            for name, uri in zip(some, pictures, strict=True):
                budget -= len(uri)
                if budget < 0:
                    return made
                made[name] = uri
    return made


def thumbnail(file: Path, *, longest: int, like: Decoder = _PLAIN) -> str:
    """The picture of one file as data URI, see `thumbnails`; empty where it cannot be read."""
    try:
        content = read_image(file)
        decoder = replace(like, size=(longest, longest), resize="pad")
        decoded = decoder(content)
        pixels = decoder.unpadded(decoded)
        if max(size := (decoded.height, decoded.width)) <= longest:
            pixels = replace(decoder, size=size)(content).pixels
    except DecodeError:
        return ""
    return picture(pixels, shortest=longest // 2, longest=longest)

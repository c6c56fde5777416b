"""Read HDF5 files that contain only groups of plain arrays of numbers.

The format also has links to other files, arrays stored in other files, virtual arrays, compression
filters, and sizes without content. Keras writes none of these, and they are refused.
"""

from __future__ import annotations

import contextlib
import io
import math
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import h5py

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL\x01\0\0\0"


def is_hdf5(path: Path) -> bool:
    """Whether a file that can be read begins as HDF5 files do."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(len(_SIGNATURE)) == _SIGNATURE
    return False


@contextlib.contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file whose heaps and addresses are valid; groups and arrays are not checked.

    Raises:
        ValueError: the heaps or addresses are invalid or unusual.
        Exception: nearly any other, where it is damaged.
    """
    import h5py

    with (
        path.open("rb") as whole,
        mmap.mmap(whole.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        check_heaps(content)
    with h5py.File(path, "r") as file:
        check_addresses(file)
        yield file


def check_file(content: bytes) -> int:
    """Check every group and array of an HDF5 file before its numbers are read.

    Args:
        content: bytes of the file.

    Returns:
        Number of values in all arrays; together the arrays are not larger than the file.

    Raises:
        ValueError: the file holds anything but groups of plain arrays.
        Exception: nearly any other, where it is damaged.
    """
    import h5py

    check_heaps(content)
    num_values = num_bytes = 0
    with h5py.File(io.BytesIO(content), "r") as file:
        check_addresses(file)
        waiting, seen = [file["/"]], set()
        while waiting:
            group = waiting.pop()
            for name in group:
                found = child(group, name)
                address = h5py.h5o.get_info(found.id).addr
                if address in seen:
                    raise ValueError(f"{found.name} stands in it twice")
                seen.add(address)
                if isinstance(found, h5py.Group):
                    waiting.append(found)
                    continue
                check_array(found)
                num_values += math.prod(found.shape)
                num_bytes += found.id.get_storage_size()
    if num_bytes > len(content):
        raise ValueError("its arrays overlap")
    return num_values


def check_addresses(file: h5py.File) -> None:
    """Raise ValueError unless addresses and lengths have 64 bits, as in all usual files."""
    if file.id.get_create_plist().get_sizes() != (8, 8):
        raise ValueError("its addresses are not of 64 bits")


def check_heaps(content: bytes | mmap.mmap) -> None:
    """Check the entries of the string heaps; invalid ones send HDF5 1.14 into an endless loop.

    The HDF5 File Format Specification 3.0, III.E: 16 bytes, then entries of index, length, content.
    """
    heap = content.find(_HEAP)
    while heap >= 0:
        end = heap + int.from_bytes(content[heap + 8 : heap + 16], "little")
        entry = heap + 16
        while entry + 16 <= min(end, len(content)):
            index, length = struct.unpack("<H6xQ", content[entry : entry + 16])
            # Entry 0 is what is free; its length counts these 16 bytes.
            length = 16 + -(-length // 8) * 8 if index else length
            if not 16 <= length <= end - entry:
                raise ValueError("a heap of strings in it is damaged")
            entry += length
        heap = content.find(_HEAP, heap + 16)


def child(group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset:
    """The group or array at `path` below a group; ValueError if missing or a link."""
    import h5py

    for part in path.split("/"):
        key = part.encode("utf-8", errors="surrogateescape")
        links = group.id.links
        if not links.exists(key):
            raise ValueError(f"it has no {path}")
        if links.get_info(key).type != h5py.h5l.TYPE_HARD:
            raise ValueError(f"{path} is a link to somewhere else")
        group = group[part]
    return group


def check_array(array: object) -> None:
    """Raise ValueError unless `array` is a plain array of numbers inside the file."""
    import h5py

    # h5py has no bfloat16, and Keras stores its two bytes as they are.
    if (
        not isinstance(array, h5py.Dataset)
        or not (array.dtype.kind in "fiub" or array.dtype == "V2")
        or array.shape is None
    ):
        raise ValueError(f"{getattr(array, 'name', 'something')} is not an array of numbers")
    # As Keras writes them. Chunks and compression could unpack to anything, and virtual and
    # external storage is in other files.
    layouts = h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT
    if array.id.get_create_plist().get_layout() not in layouts or array.external:
        raise ValueError(f"{array.name} is not stored as a plain array")
    if array.id.get_storage_size() != math.prod(array.shape) * array.dtype.itemsize:
        raise ValueError(f"{array.name} was never written")

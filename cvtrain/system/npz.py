"""Read arrays from an untrusted .npz file: nothing runs, and the size is bounded.

`numpy.load` refuses pickles, but believes every size: a header of a few bytes makes it ask for any
amount of memory, and so does a compressed member.
"""

import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

# What the parsers of zipfile and NumPy say to nonsense. RuntimeError: to members that are encrypted
# or packed in an unknown way, and to headers that are nested too deeply.
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, EOFError, RuntimeError),
    *(TypeError, SyntaxError, tokenize.TokenError),
)
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(file: Path | IO[bytes], *, most_bytes: int) -> dict[str, np.ndarray]:
    """The arrays of a file that `numpy.savez` or `numpy.savez_compressed` wrote.

    Args:
        file: a path or an open file.
        most_bytes: maximum size of all arrays together.

    Raises:
        ValueError: the file is no .npz file, damaged, larger, or holds Python objects.
        OSError: the file cannot be read.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if (size := sum(member.file_size for member in members)) > most_bytes:
                raise ValueError(f"{size / 2**30:.1f} GiB of arrays")
            arrays = {}
            for member in members:
                with archive.open(member) as stream:
                    name = member.filename.removesuffix(".npy")
                    arrays[name] = _read_npy(stream, member.file_size)
            return arrays
    except _DAMAGED as error:
        raise ValueError(str(error) or "it ends too soon") from error


def _read_npy(stream: IO[bytes], size: int) -> np.ndarray:
    """One array of `size` bytes with its header (numpy.lib.format)."""
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"an array in format {version}")
    shape, is_fortran, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError("Python objects, which may run anything")
    if dtype.itemsize == 0 or math.prod(shape) * dtype.itemsize != size - stream.tell():
        raise ValueError(f"an array of shape {str(shape)[:80]} and other contents")
    values = np.frombuffer(bytearray(stream.read()), dtype)
    return values.reshape(shape, order="F" if is_fortran else "C")

"""What NumPy wrote comes back; what lies about itself is refused before memory is asked for."""

import io
import zipfile

import numpy as np
import pytest

from cvtrain.system.npz import read_npz

ARRAYS = {
    "a/0": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "scalar": np.array(7, np.uint8),
    "empty": np.zeros((0, 3), ">i2"),
    "text": np.array("é"),
}


def archive(members, compression=zipfile.ZIP_STORED):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as file:
        for name, member in members.items():
            file.writestr(name, member)
    content.seek(0)
    return content


def npy(header, content=b""):
    text = f"{header}\n".encode()
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + content


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_saves_comes_back(save, tmp_path):
    path = tmp_path / "arrays.npz"
    save(path, **ARRAYS)
    loaded = read_npz(path, most_bytes=10_000)
    assert loaded.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array, strict=True)
        assert loaded[name].flags.writeable


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (10**12,)}"), "malformed"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}"), "shape"),
        (
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}"),
            "shape",
        ),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", b"1234"), "shape"),
        (npy("{'descr': '|V0', 'fortran_order': False, 'shape': (99999999999,)}"), "shape"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"\x80\x04N."), "objects"),
        (npy("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': ()}", b"N."), "objects"),
        (npy("nonsense"), "malformed"),
        (b"\x93NUMPY\x09\x00", "format"),
        (b"\x80\x04.", "magic"),
        (b"", "EOF|magic"),
    ],
)
def test_an_array_that_is_not_what_it_says(member, words):
    with pytest.raises(ValueError, match=words):
        read_npz(archive({"x.npy": member}), most_bytes=10_000)


def test_more_than_the_bound_is_not_unpacked():
    content = io.BytesIO()
    np.savez_compressed(content, x=np.zeros(10**6))
    with pytest.raises(ValueError, match="GiB of arrays"):
        read_npz(content, most_bytes=10**6)


@pytest.mark.parametrize("damage", ["cut", "flip", "pickle", "encrypted"])
def test_a_damaged_archive(damage):
    content = bytearray(archive({"x.npy": npy("{}")}, zipfile.ZIP_DEFLATED).getvalue())
    directory = content.index(b"PK\1\2")
    if damage == "cut":
        del content[directory:]
    elif damage == "flip":
        content[40] ^= 255
    elif damage == "pickle":
        content[:] = b"\x80\x04."
    else:
        content[directory + 8] |= 1
        content[6] |= 1
    with pytest.raises(ValueError, match=r".+"):
        read_npz(io.BytesIO(content), most_bytes=10_000)

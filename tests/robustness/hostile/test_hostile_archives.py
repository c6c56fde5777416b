"""Archives of data sets that mean harm: nothing in them runs, and nothing is written elsewhere."""

import codecs
import io
import pickle
import tarfile
import zipfile

import numpy as np
import pytest

from cvtrain.data.array_datasets import load_cifar10
from cvtrain.data.array_files import load_npz
from cvtrain.data.cats_vs_dogs import write_cats_vs_dogs
from cvtrain.errors import DataError

BATCH = "cifar-10-batches-py/data_batch_1"


class Calls:
    """Pickled, a call of anything."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def grown(times):
    """A pickle of a few bytes that becomes 2**times as many: each step encodes the one before."""
    content = Calls(codecs.encode, b"x", "hex")
    for _ in range(times):
        content = Calls(codecs.encode, content, "hex")
    return {b"data": content, b"labels": [0]}


def cifar(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.linkname = content
                archive.addfile(info)


def file(content, name=BATCH):
    return name, content if isinstance(content, bytes) else pickle.dumps(content), tarfile.REGTYPE


def long_header(path):
    """A header says that a name of a gigabyte follows; packed, its zeros take a megabyte."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**30
    import gzip

    with gzip.open(path, "wb", compresslevel=1) as out:
        out.write(info.tobuf())
        for _ in range(80):
            out.write(bytes(2**20))


CIFAR = {
    "runs": lambda outside: [file({b"data": Calls(open, str(outside / "ran"), "w")})],
    "runs a module": lambda _: [file(b"cos\nsystem\n(S'id'\ntR.")],
    "gets an attribute": lambda _: [file(b"cbuiltins\ngetattr\n(cos\nsystem\nI1\ntR.")],
    "grows": lambda _: [file(grown(40))],
    "enormous array": lambda _: [file({b"data": Calls(np.ndarray, (2**50,), "u1"), b"labels": []})],
    "objects": lambda _: [file({b"data": np.array([object], object), b"labels": [0]})],
    "other labels": lambda _: [file({b"data": np.zeros((1, 3072), "u1"), b"labels": [99]})],
    "no pickle": lambda _: [file(b"x" * 100)],
    "link": lambda outside: [(BATCH, str(outside / "secret"), tarfile.SYMTYPE)],
    "hard link": lambda outside: [(BATCH, str(outside / "secret"), tarfile.LNKTYPE)],
    "traversal": lambda _: [file(b"x", "../../outside/ran")],
    "absolute": lambda outside: [file(b"x", str(outside / "ran"))],
    "device": lambda _: [(BATCH, "", tarfile.CHRTYPE)],
    "pipe": lambda _: [(BATCH, "", tarfile.FIFOTYPE)],
}


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("secret")
    yield folder
    assert [path.name for path in folder.iterdir()] == ["secret"]


@pytest.mark.parametrize("name", CIFAR)
def test_an_archive_of_cifar(name, tmp_path, outside):
    cifar(tmp_path / "x.tar.gz", CIFAR[name](outside))
    with pytest.raises((DataError, MemoryError)) as caught:
        load_cifar10(tmp_path / "x.tar.gz")
    assert "secret" not in str(caught.value)


def test_a_header_is_not_believed(tmp_path):
    long_header(tmp_path / "x.tar.gz")
    with pytest.raises(DataError, match="larger than all of a file"):
        load_cifar10(tmp_path / "x.tar.gz")


ARRAYS = {name: np.zeros((2, 2, 2), "u1") for name in ("x_train", "x_test")}
ARRAYS |= {name: np.zeros(2, "u1") for name in ("y_train", "y_test")}


def header(shape, dtype="|u1"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


NPZ = {
    "runs": lambda outside: _saved(np.array([Calls(open, str(outside / "ran"), "w")], object)),
    "enormous": lambda _: header((2**50,)),
    "negative": lambda _: header((-1, 2)),
    "code for a shape": lambda _: header("__import__('os').system('id')"),
    "objects": lambda _: header((1,), "|O") + b"cos\nsystem\n(S'id'\ntR.",
    "no array": lambda _: b"x" * 100,
}


def _saved(array):
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


@pytest.mark.parametrize("name", NPZ)
def test_arrays(name, tmp_path, outside):
    content = NPZ[name](outside)
    (outside / "ran").unlink(missing_ok=True)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for each, array in ARRAYS.items():
            archive.writestr(f"{each}.npy", content if each == "x_train" else _saved(array))
        archive.writestr("../../outside/ran.npy", b"x")
    with pytest.raises((DataError, MemoryError)):
        load_npz(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "member",
    ["../../outside/1.jpg", "/outside/1.jpg", "PetImages/Cat/../../../1.jpg", "PetImages/Cat/1"],
)
@pytest.mark.usefixtures("outside")
def test_an_archive_of_pets_names_no_place(member, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in (member, "PetImages/Cat/1.jpg", "PetImages/Dog/1.jpg"):
            archive.writestr(name, b"no image")
    new = tmp_path / "inside" / "new"
    new.mkdir(parents=True)
    left_out = write_cats_vs_dogs(new, tmp_path / "x.zip", None, lambda _done, _total: None)
    assert len(left_out) == 2
    assert list(new.rglob("*")) == []
    assert {path.name for path in tmp_path.iterdir()} == {"x.zip", "inside", "outside"}

import errno
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from cvtrain.errors import ResourceError
from cvtrain.features.store import FeatureStore
from cvtrain.system.files import committed

SHAPE = (2, 3, 5)
HERE = str(Path(__file__).parent)


def make_keys(count, first=0):
    return [sha256(str(i).encode()).digest() for i in range(first, first + count)]


def make_values(count, first=0):
    values = np.random.default_rng(0).normal(size=(first + count, *SHAPE))
    return values[first:].astype(np.float32)


def fill(folder, *counts, **options):
    """A store with one shard for each of `counts`."""
    store = FeatureStore(folder, shape=SHAPE, **options)
    first = 0
    for count in counts:
        store.commit(make_keys(count, first), [make_values(count, first)])
        first += count
    return store


def shards(folder):
    return sorted(folder.glob("*.npy"), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize(
    ("dtype", "kind"), [("bfloat16", ml_dtypes.bfloat16), ("float32", np.float32)]
)
def test_rows_come_back_in_any_order(tmp_path, dtype, kind):
    fill(tmp_path, 7, 1, 12, dtype=dtype)
    store = FeatureStore(tmp_path, shape=SHAPE, dtype=dtype)
    rows = store.rows(make_keys(20))
    expected = make_values(20).astype(kind)

    assert len(store) == 20
    assert rows.shape == (20, *SHAPE)
    assert rows.dtype == kind
    np.testing.assert_array_equal(rows.take(range(20)), expected)
    order = [19, 3, 3, 7, 0, 8]
    np.testing.assert_array_equal(rows.take(order), expected[order])
    backwards = store.rows(make_keys(20)[::-1])
    np.testing.assert_array_equal(backwards.take([0, 1]), expected[[19, 18]])
    assert rows.take([]).shape == (0, *SHAPE)


def test_bfloat16_is_float32_rounded_to_its_upper_half(tmp_path):
    values = np.array([1.0, -3.0e38, 1e-30, np.pi, 65536.0, np.inf], np.float32)
    store = FeatureStore(tmp_path, shape=(6,))
    store.commit(make_keys(1), [values[None]])
    bits = values.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)  # to nearest even
    taken = store.rows(make_keys(1)).take([0])[0]
    np.testing.assert_array_equal(taken.astype(np.float32), rounded.view(np.float32))


def test_parts_of_a_shard_may_be_several_arrays(tmp_path):
    store = FeatureStore(tmp_path, shape=SHAPE, dtype="float32")
    values = make_values(9)
    store.commit(make_keys(9), [values[:4], values[4:5], values[5:]])
    np.testing.assert_array_equal(store.rows(make_keys(9)).take(range(9)), values)


def test_numpy_maps_a_shard_as_it_is(tmp_path):
    fill(tmp_path, 6, dtype="float32")
    mapped = np.load(shards(tmp_path)[0], mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, make_values(6))


def test_what_is_missing_is_known(tmp_path):
    store = fill(tmp_path, 5)
    keys = make_keys(8)
    assert store.missing(keys) == [5, 6, 7]
    assert store.missing(keys[::-1]) == [0, 1, 2]
    assert store.missing([]) == []
    with pytest.raises(KeyError, match="3 of 8"):
        store.rows(keys)
    assert FeatureStore(tmp_path / "none", shape=SHAPE).missing(keys[:2]) == [0, 1]
    assert not (tmp_path / "none").exists()


def test_a_row_that_is_there_twice_does_no_harm(tmp_path):
    store = fill(tmp_path, 5)
    store.commit(make_keys(5), [make_values(5)])
    store = FeatureStore(tmp_path, shape=SHAPE, dtype="bfloat16")
    assert len(store) == 5
    expected = make_values(5).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(store.rows(make_keys(5)).take(range(5)), expected)


# Damage


def flip(content, position):
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


ROW = 2 * 3 * 5 * 2
DAMAGES = {
    "emptied": lambda content: content[:0],
    "cut": lambda content: content[:-1],
    "cut by a row": lambda content: content[: -ROW - 32],
    "only a header": lambda content: content[:128],
    "longer": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
    "header": lambda content: flip(content, 20),
    "first value": lambda content: flip(content, 128),
    "last value": lambda content: flip(content, 128 + 12 * ROW - 1),
    "key": lambda content: flip(content, 128 + 12 * ROW),
    "crc of values": lambda content: flip(content, len(content) - 8),
    "crc of keys": lambda content: flip(content, len(content) - 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_set_aside_and_its_rows_are_missing(tmp_path, damage):
    fill(tmp_path, 4, 12)
    shard = shards(tmp_path)[1]
    shard.write_bytes(DAMAGES[damage](shard.read_bytes()))
    warnings = []
    store = FeatureStore(tmp_path, shape=SHAPE, warn=warnings.append)

    assert store.missing(make_keys(16)) == list(range(4, 16))
    assert len(warnings) == 1
    assert shard.name in warnings[0]
    assert not shard.exists()
    assert shard.with_suffix(".damaged").exists()
    store.commit(make_keys(12, 4), [make_values(12, 4)])
    again = FeatureStore(tmp_path, shape=SHAPE, warn=warnings.append)
    expected = make_values(16).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(again.rows(make_keys(16)).take(range(16)), expected)
    assert len(warnings) == 1


def test_a_single_flipped_bit_anywhere_is_noticed(tmp_path):
    fill(tmp_path / "sound", 3)
    content = shards(tmp_path / "sound")[0].read_bytes()
    for position in range(len(content)):
        folder = tmp_path / "flipped"
        folder.mkdir(exist_ok=True)
        (folder / "shard.npy").write_bytes(flip(content, position))
        store = FeatureStore(folder, shape=SHAPE)
        assert store.missing(make_keys(3)) == [0, 1, 2], position


def test_a_shard_of_another_shape_or_type_is_not_believed(tmp_path):
    fill(tmp_path, 4)
    warnings = []
    store = FeatureStore(tmp_path, shape=(3, 2, 5), warn=warnings.append)
    assert len(store) == 0
    assert len(warnings) == 1


def test_a_shard_that_vanishes_or_shrinks_while_it_is_read_is_one_line(tmp_path):
    store = fill(tmp_path, 4)
    rows = store.rows(make_keys(4))
    (shard,) = shards(tmp_path)
    os.truncate(shard, 200)
    with pytest.raises(ResourceError, match="too short"):
        rows.take([3])
    shard.unlink()
    with pytest.raises(ResourceError, match="cannot be read"):
        rows.take([0])


def test_a_full_disk_leaves_earlier_shards_intact(tmp_path, monkeypatch):
    store = fill(tmp_path, 4)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ResourceError, match="the disk is full"):
            store.commit(make_keys(4, 4), [make_values(4, 4)])
    assert store.missing(make_keys(8)) == [4, 5, 6, 7]
    assert FeatureStore(tmp_path, shape=SHAPE).missing(make_keys(8)) == [4, 5, 6, 7]
    assert [path.suffix for path in tmp_path.iterdir()] == [".npy"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    store = FeatureStore(tmp_path / "file" / "store", shape=SHAPE)
    with pytest.raises(ResourceError, match="cannot write"):
        store.make_ready()


# Several processes


def test_unfinished_files_are_removed_but_for_those_that_someone_writes(tmp_path):
    store = fill(tmp_path, 1)
    left = tmp_path / ".cvtrain-tmp-left_one.npy"
    left.write_bytes(b"half")
    with committed(tmp_path / "other.npy") as written:
        written.write_bytes(b"of a writer who is alive")
        store.make_ready()
        assert written.exists()
    assert not left.exists()
    assert (tmp_path / "other.npy").read_bytes() == b"of a writer who is alive"


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_store import SHAPE, FeatureStore, make_keys, make_values
store = FeatureStore(Path(sys.argv[2]), shape=SHAPE)
first = int(sys.argv[3])
for start in range(first, first + 60, 3):
    store.commit(make_keys(3, start), [make_values(3, start)])
"""


def test_processes_that_write_at_once_do_not_disturb_each_other(tmp_path):
    commands = [
        [sys.executable, "-c", WRITER, HERE, str(tmp_path), str(first)] for first in (0, 30, 60)
    ]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait() for process in processes] == [0, 0, 0]
    warnings = []
    store = FeatureStore(tmp_path, shape=SHAPE, warn=warnings.append)
    expected = make_values(120).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(store.rows(make_keys(120)).take(range(120)), expected)
    assert not warnings
    assert len(shards(tmp_path)) == 60


READER = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_store import FeatureStore, make_keys
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
store = FeatureStore(Path(sys.argv[2]), shape=(32, 1024))
before = peak()
rows = store.rows(make_keys(2048))
for start in range(0, 2048, 64):
    rows.take(range(start, start + 64))
print(peak() - before)
"""


def test_memory_holds_the_rows_that_are_taken_and_not_the_store(tmp_path):
    store = FeatureStore(tmp_path, shape=(32, 1024))
    for first in range(0, 2048, 256):
        values = np.full((256, 32, 1024), first, ml_dtypes.bfloat16)
        store.commit(make_keys(256, first), [values])
    assert store.size > 2**27
    command = [sys.executable, "-c", READER, HERE, str(tmp_path)]
    grown = int(subprocess.run(command, check=True, capture_output=True).stdout)
    assert grown < 2**25  # a batch is 4 MiB


def test_opening_reading_and_writing_need_no_engine():
    code = "import sys, cvtrain.features.store; print('tensorflow' in sys.modules)"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, check=True, capture_output=True).stdout == b"False\n"

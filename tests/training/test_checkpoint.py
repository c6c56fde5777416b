import time

import numpy as np
import pytest

from cvtrain.errors import RunError
from cvtrain.training.checkpoint import Checkpoints, Snapshot


def _snapshot(number: int) -> Snapshot:
    arrays = {
        "model/0": np.full((3, 4), number, np.float32),
        "model/1": np.array([1, 2**32 - 1], np.uint32),
        "optimizer/0": np.array(number),
    }
    return Snapshot({"epoch": number, "loss": 0.1 + 0.2, "history": [{"epoch": 1}]}, arrays)


def _epoch(snapshot: Snapshot | None) -> int | None:
    return snapshot.values["epoch"] if snapshot else None


def test_what_is_saved_comes_back_exactly(tmp_path):
    Checkpoints(tmp_path / "checkpoints").save(_snapshot(1))
    loaded = Checkpoints(tmp_path / "checkpoints").load()
    assert loaded.values == _snapshot(1).values
    assert loaded.arrays.keys() == _snapshot(1).arrays.keys()
    for name, array in _snapshot(1).arrays.items():
        assert loaded.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded.arrays[name], array)


def test_plain_numpy_reads_the_file(tmp_path):
    Checkpoints(tmp_path).save(_snapshot(7))
    with np.load(tmp_path / "checkpoint-000001.npz", allow_pickle=False) as file:
        assert file["optimizer/0"] == 7


def test_no_checkpoint_is_none(tmp_path):
    assert Checkpoints(tmp_path / "none").load() is None


def test_the_newest_two_are_kept(tmp_path):
    for number in (1, 2, 3, 4):
        Checkpoints(tmp_path).save(_snapshot(number))
    assert [path.stem for path in sorted(tmp_path.iterdir())] == [
        "checkpoint-000003",
        "checkpoint-000004",
    ]
    assert _epoch(Checkpoints(tmp_path).load()) == 4


def _flip(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize("damage", [0, 40, 300, 700, -65, -1, "cut", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_older_one_used(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(_snapshot(1))
    checkpoints.save(_snapshot(2))
    newest = tmp_path / "checkpoint-000002.npz"
    content = newest.read_bytes()
    damaged = {"cut": content[:-100], "empty": b""}
    newest.write_bytes(damaged[damage] if damage in damaged else _flip(content, damage))
    warnings = []
    assert _epoch(Checkpoints(tmp_path, warn=warnings.append).load()) == 1
    assert warnings == ["checkpoint-000002.npz is damaged or unreadable, and passed over"]


def test_all_damaged_is_an_error(tmp_path):
    Checkpoints(tmp_path).save(_snapshot(1))
    (tmp_path / "checkpoint-000001.npz").write_bytes(b"\0" * 100)
    with pytest.raises(RunError, match="all 1 checkpoints are damaged"):
        Checkpoints(tmp_path).load()


def test_saving_takes_a_small_share_of_the_time(tmp_path, monkeypatch):
    clock = [0.0]
    write = np.savez

    def write_for_four_seconds(*args, **arrays):
        clock[0] += 4.0
        write(*args, **arrays)

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(np, "savez", write_for_four_seconds)
    checkpoints = Checkpoints(tmp_path)

    def first_due(*, at_epoch_end: bool) -> int:
        saved = clock[0]
        while not checkpoints.due(at_epoch_end=at_epoch_end):
            clock[0] += 1
        waited, clock[0] = clock[0] - saved, saved
        return waited

    assert first_due(at_epoch_end=True) == 0
    assert first_due(at_epoch_end=False) == 60
    checkpoints.save(_snapshot(1))
    assert first_due(at_epoch_end=True) == first_due(at_epoch_end=False) == 200
    checkpoints = Checkpoints(tmp_path, every_seconds=10)
    checkpoints.save(_snapshot(2))
    assert first_due(at_epoch_end=True) == first_due(at_epoch_end=False) == 10

"""What is written is what TensorFlow's own reader and messages say it is."""

import numpy as np
import pytest

from cvtrain.runs.run import Run
from cvtrain.tracking.tensorboard import TensorBoard, crc32c, record, scalars_event

ROW = {
    "epoch": 1,
    "step": 4,
    "learning_rate": 1e-3,
    "loss": 2.25,
    "accuracy": 0.5,
    "val_loss": 2.5,
    "val_accuracy": 0.25,
    "images_per_second": 120.0,
    "seconds": 3.0,
    "val_seconds": 1.0,
}


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", "fit")


def events(run):
    """Every event of the run, by TensorFlow, which checks the checksums; older files first."""
    tensorflow = pytest.importorskip("tensorflow")
    from tensorflow.core.util import event_pb2

    for path in sorted((run.path / "tensorboard").iterdir()):
        assert "tfevents" in path.name  # by which TensorBoard knows them
        for content in tensorflow.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = event_pb2.Event()
            event.ParseFromString(content)
            yield event


def scalars(run):
    """(step, tag, value) of every scalar."""
    return [
        (event.step, value.tag, value.simple_value)
        for event in events(run)
        for value in event.summary.value
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [  # RFC 3720, B.4, and the check value of the catalogue of CRCs
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"123456789", 0xE3069283),
    ],
)
def test_the_checksum_is_crc32c(data, expected):
    assert crc32c(data) == expected


def test_tensorflow_writes_the_same_records(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    contents = [b"", b"a", bytes(range(256)) * 3]
    with tensorflow.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for content in contents:
            writer.write(content)
    assert b"".join(map(record, contents)) == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize("step", [0, 1, 127, 128, 300, 2**40])
def test_an_event_is_tensorflows(step):
    pytest.importorskip("tensorflow")
    from tensorflow.core.util import event_pb2

    event = event_pb2.Event()
    event.ParseFromString(scalars_event(12.5, step, {"loss/train": 0.1, "ä" * 200: -3.0}))
    assert (event.wall_time, event.step) == (12.5, step)
    assert [(value.tag, value.simple_value) for value in event.summary.value] == [
        ("loss/train", np.float32(0.1)),
        ("ä" * 200, -3.0),
    ]


def test_each_epoch_is_there_at_once(run):
    tracker = TensorBoard(run)
    for epoch in (1, 2):
        tracker.log_epoch(ROW | {"epoch": epoch, "loss": 2.25 / epoch})
        kept = scalars(run)
        assert [step for step, tag, _ in kept if tag == "loss/train"] == [*range(1, epoch + 1)]
    assert {tag: value for step, tag, value in kept if step == 2} == {
        "loss/train": 1.125,
        "loss/validation": 2.5,
        "accuracy/train": 0.5,
        "accuracy/validation": 0.25,
        "learning_rate": np.float32(1e-3),
        "images_per_second": 120.0,
    }
    first = next(events(run))
    assert first.file_version == "brain.Event:2"  # without it TensorBoard reads nothing


def test_final_metrics_stand_at_the_last_epoch(run):
    tracker = TensorBoard(run)
    tracker.log_epoch(ROW | {"epoch": 7})
    run.update(
        status="finished", metrics={"test": {"accuracy": 0.75, "loss": 0.5, "per_class": {}}}
    )
    tracker.end()
    final = [each for each in scalars(run) if each[1].startswith("final/")]
    assert final == [(7, "final/test_accuracy", 0.75), (7, "final/test_loss", 0.5)]


def test_a_resumed_run_begins_a_second_file(run):
    TensorBoard(run).log_epoch(ROW)
    TensorBoard(run).log_epoch(ROW | {"epoch": 2})
    assert len(list((run.path / "tensorboard").iterdir())) == 2
    assert [step for step, tag, _ in scalars(run) if tag == "loss/train"] == [1, 2]
    assert sum(event.file_version == "brain.Event:2" for event in events(run)) == 2


def test_a_run_without_an_epoch_has_no_file(run):
    TensorBoard(run).end()
    assert not (run.path / "tensorboard").exists()

"""What is written is what TensorFlow's reader, and TensorBoard itself, find in it."""

import numpy as np
import pytest
from tiny_runs import SCORES

from cvtrain.runs.run import Run
from cvtrain.tracking import TensorBoard

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


def test_tensorboard_reads_what_is_written(run):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = TensorBoard(run)
    for epoch in (1, 300):
        tracker.log_epoch(ROW | {"epoch": epoch})
    resumed = TensorBoard(run)
    resumed.log_epoch(ROW | {"epoch": 301, "loss": 0.1})
    run.update(status="finished", metrics={"test": SCORES})
    resumed.end()
    read = EventAccumulator(str(run.path / "tensorboard")).Reload()
    losses = [(each.step, each.value) for each in read.Scalars("loss/train")]
    assert losses == [(1, 2.25), (300, 2.25), (301, np.float32(0.1))]
    assert [(e.step, e.value) for e in read.Scalars("final/test_accuracy")] == [(301, 0.75)]


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
    run.update(status="finished", metrics={"test": SCORES})
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

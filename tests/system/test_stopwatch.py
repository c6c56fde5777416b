"""Phases add up, and a resumed run goes on counting."""

import pytest

from cvtrain.system.stopwatch import Stopwatch


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return now


def test_phases_and_total(clock):
    watch = Stopwatch()
    for seconds in (2.0, 3.0):
        with watch.phase("train"):
            clock[0] += seconds
        clock[0] += 1.0
    assert watch.seconds == {"total": 7.0, "train": 5.0}


def test_a_phase_that_fails_counts(clock):
    watch = Stopwatch()

    def fail():
        clock[0] += 2.0
        raise KeyError

    with pytest.raises(KeyError), watch.phase("train"):
        fail()
    assert watch.seconds["train"] == 2.0


def test_what_was_before_is_added(clock):
    watch = Stopwatch({"total": 10.0, "train": 6.0, "data": 1.0})
    with watch.phase("train"):
        clock[0] += 2.0
    assert watch.seconds == {"total": 12.0, "train": 8.0, "data": 1.0}

"""Event files for TensorBoard; TensorFlow writes them for every engine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cvtrain.backend.engine import quiet

if TYPE_CHECKING:
    import tensorflow as tf


class EventFile:
    """A new event file, to which scalars are appended.

    Not `tf.summary`, which needs TensorBoard for scalars and the engine's device for writing.

    Args:
        path: the file; TensorBoard finds it by `tfevents` in its name.
    """

    def __init__(self, path: Path):
        with quiet():
            import tensorflow as tf

        self._event, self._summary = tf.compat.v1.Event, tf.compat.v1.Summary
        self._writer = tf.io.TFRecordWriter(str(path))
        # Without it TensorBoard reads nothing.
        self._append(self._event(file_version="brain.Event:2"))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Append `scalars`, by tag, at a step of the x axis; they are in the file at once."""
        values = [self._summary.Value(tag=tag, simple_value=scalars[tag]) for tag in scalars]
        self._append(self._event(step=step, summary=self._summary(value=values)))

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _append(self, event: tf.compat.v1.Event) -> None:
        event.wall_time = time.time()
        self._writer.write(event.SerializeToString())
        self._writer.flush()

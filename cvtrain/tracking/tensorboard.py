"""Epochs as event files, which TensorBoard reads; neither TensorBoard nor TensorFlow is needed.

A file is a sequence of records (tensorflow/core/lib/io/record_writer.h): the length of the data as
uint64, its masked CRC-32C, the data, their masked CRC-32C, all little-endian. The data are protocol
buffers `Event` (tensorflow/core/util/event.proto), of which a scalar needs four fields.
"""

import struct
import time
from collections.abc import Mapping

from cvtrain.runs.run import Run
from cvtrain.system.files import disk_errors
from cvtrain.tracking.tracker import final_metrics

_TAGS = {
    "loss": "loss/train",
    "val_loss": "loss/validation",
    "accuracy": "accuracy/train",
    "val_accuracy": "accuracy/validation",
    "learning_rate": "learning_rate",
    "images_per_second": "images_per_second",
}


class TensorBoard:
    """Writes RUN/tensorboard/: `tensorboard --logdir runs` shows all runs as they go.

    Unlike other files of a run this one is appended to, a record at a time, because TensorBoard
    keeps it open. A run that is resumed begins a second file, as TensorBoard expects.
    """

    def __init__(self, run: Run):
        self._run = run
        self._epoch = 0
        # TensorBoard reads the files of a folder in the order of their names.
        name = f"events.out.tfevents.{time.time_ns() // 1000:016d}.cvtrain"
        self._path = run.path / "tensorboard" / name

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Append the scalars of an epoch."""
        self._epoch = int(row["epoch"])
        self._append({tag: row[key] for key, tag in _TAGS.items() if key in row})

    def end(self) -> None:
        """Append the final metrics of a run that is finished."""
        scalars = {f"final/{name}": value for name, value in final_metrics(self._run).items()}
        # A run that was stopped after its last epoch has none in this process.
        self._epoch = max(self._epoch, self._run.record.get("epochs") or 0)
        if scalars:
            self._append(scalars)

    def _append(self, scalars: Mapping[str, float]) -> None:
        with disk_errors(self._path):
            self._path.parent.mkdir(exist_ok=True)
            with self._path.open("ab") as file:
                if not file.tell():
                    file.write(record(_event(time.time(), _bytes(3, b"brain.Event:2"))))
                file.write(record(scalars_event(time.time(), self._epoch, scalars)))


def scalars_event(wall_time: float, step: int, scalars: Mapping[str, float]) -> bytes:
    """An `Event` with one `Summary.Value` for each scalar, float32.

    Args:
        wall_time: seconds since 1970.
        step: of the x axis, at least 0.
        scalars: by tag.
    """
    values = [
        _bytes(1, _bytes(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
        for tag, value in scalars.items()
    ]
    return _event(wall_time, b"\x10" + _varint(step) + _bytes(5, b"".join(values)))


def record(data: bytes) -> bytes:
    """`data` as a record of an event file."""
    length = struct.pack("<Q", len(data))
    return length + _masked_crc(length) + data + _masked_crc(data)


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), as in RFC 3720, section 12.1."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _event(wall_time: float, fields: bytes) -> bytes:
    return b"\x09" + struct.pack("<d", wall_time) + fields


def _bytes(field: int, content: bytes) -> bytes:
    """A field of text, bytes or a message."""
    return bytes([field << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def _masked_crc(data: bytes) -> bytes:
    """Masked, because a checksum of data that hold checksums is weak."""
    crc = crc32c(data)
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF)


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc_table()

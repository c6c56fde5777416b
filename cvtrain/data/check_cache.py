"""Cache of the results of checks, by the state of each file."""

import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import PIL

from cvtrain.images.decode import DECODER_VERSION, Decoder
from cvtrain.system.files import cache_dir

FINDINGS_VERSION = 3
"""Increase it with every change to the results of a check: older results are then ignored."""

_MOST_ROWS = 2_000_000
_WAIT_SECONDS = 2
_SCHEMA = """
CREATE TABLE IF NOT EXISTS findings (
    path BLOB, decoder BLOB, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
    content BLOB, pixels BLOB, findings TEXT,
    PRIMARY KEY (path, decoder)
)
"""


class Issue(NamedTuple):
    """A problem of a file; its severity is "bad" or "doubtful"."""

    severity: str
    what: str
    advice: str


class Values(NamedTuple):
    """The lowest and the highest value in a file, and the largest that it can store."""

    low: int
    high: int
    full_scale: int


class FileCheck(NamedTuple):
    """The result of the check of one file.

    Attributes:
        content: SHA-256 of its bytes; empty if it cannot be read.
        pixels: SHA-256 of its decoded pixels; empty if it cannot be decoded.
        findings: Issues for the user; empty for an ordinary image.
        values: The range of its stored values if it has 16 bits or no contrast; else None.
        is_empty: Whether the decoded image has no contrast.
    """

    content: bytes
    pixels: bytes
    findings: tuple[Issue, ...] = ()
    values: Values | None = None
    is_empty: bool = False

    @property
    def image(self) -> bytes:
        """Digest that copies of one image share; images without contrast need equal files."""
        return self.content if self.pixels and self.is_empty else self.pixels


class FileState(NamedTuple):
    """The state by which a file counts as unchanged; users cannot set ctime_ns."""

    path: Path
    size: int
    mtime_ns: int
    ctime_ns: int


def file_state(path: Path) -> FileState | None:
    """State of the file at `path` (absolute); None if it cannot be read."""
    try:
        status = path.stat()
    except OSError:
        return None
    return FileState(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class CheckCache:
    """Results by file state, for one decoder, in an SQLite file of the cache folder.

    If the file is damaged, locked or read-only, nothing is cached and nothing fails. Use it as a
    context manager and in one thread.
    """

    def __init__(self, decoder: Decoder):
        identity = f"{FINDINGS_VERSION} {DECODER_VERSION} {PIL.__version__} {decoder}"
        self._decoder = hashlib.sha256(identity.encode()).digest()[:16]
        self._path = cache_dir() / "findings.sqlite"
        self._database: sqlite3.Connection | None = None

    def __enter__(self) -> "CheckCache":
        with contextlib.suppress(OSError, sqlite3.Error):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._open()
            except sqlite3.OperationalError:  # locked or read-only
                raise
            except sqlite3.DatabaseError:  # damaged
                self._path.unlink()
                self._open()
        return self

    def __exit__(self, *_: object) -> None:
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute(
                    "DELETE FROM findings WHERE rowid <= (SELECT max(rowid) FROM findings) - ?",
                    (_MOST_ROWS,),
                )
                self._database.commit()
            self._database.close()

    def get(self, state: FileState) -> FileCheck | None:
        """The cached result for a file in this state, if any."""
        if self._database is None:
            return None
        try:
            row = self._database.execute(
                "SELECT content, pixels, findings FROM findings WHERE path = ? AND decoder = ? "
                "AND size = ? AND mtime_ns = ? AND ctime_ns = ?",
                (os.fsencode(state.path), self._decoder, *state[1:]),
            ).fetchone()
            if row is None:
                return None
            content, pixels, more = row
            findings, values, is_empty = json.loads(more)
            findings = tuple(Issue(*finding) for finding in findings)
            return FileCheck(content, pixels, findings, values and Values(*values), is_empty)
        except (sqlite3.Error, ValueError, TypeError):
            return None

    def put(self, found: Iterable[tuple[FileState, FileCheck]]) -> None:
        """Store results by the states that the files had before they were read."""
        if self._database is None:
            return
        rows = [
            (os.fsencode(state.path), self._decoder, *state[1:], *facts[:2], json.dumps(facts[2:]))
            for state, facts in found
        ]
        with contextlib.suppress(sqlite3.Error):
            self._database.executemany(
                "INSERT OR REPLACE INTO findings VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows
            )
            self._database.commit()

    def _open(self) -> None:
        database = sqlite3.connect(self._path, timeout=_WAIT_SECONDS)
        try:
            # Results that are lost in a power failure are computed again.
            database.execute("PRAGMA synchronous = OFF")
            database.execute(_SCHEMA)
            database.commit()
        except sqlite3.Error:
            database.close()
            raise
        self._database = database

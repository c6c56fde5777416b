"""Get published files from a local copy or by a download that can be resumed, and verify them.

pooch is not used, because it cannot resume an interrupted download (up to 0.8 GB here).
"""

import contextlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cvtrain.errors import DataError
from cvtrain.system.files import cache_dir, disk_errors, file_digest
from cvtrain.system.locks import IS_POSIX, lock
from cvtrain.system.text import escape

Show = Callable[[int, int], None]
"""Function called with the amounts that are done and in total."""
Task = Callable[[str], AbstractContextManager[Show]]
"""Context manager that shows the progress of a named task, such as `Console.task`."""

_CHUNK = 2**20  # bytes
_MOST_BYTES = 2**31
_TIMEOUT = 10  # seconds without a byte, which a stop request may have to wait


@dataclass(frozen=True)
class RemoteFile:
    """A file as its publisher offers it.

    Attributes:
        name: Name of the file.
        url: Its address.
        digest: `sha256:` or `md5:` and the hexadecimal digits.
        keras: Path of Keras' own copy, relative to `~/.keras/datasets`; empty: none.
    """

    name: str
    url: str
    digest: str
    keras: str = ""


@dataclass(frozen=True)
class Copy:
    """A local copy of a published file.

    Attributes:
        path: Path of the copy.
        digest: Its digest, by the algorithm of the published one.
        is_published: Whether it equals the published digest.
    """

    path: Path
    digest: str
    is_published: bool


def download_file(file: RemoteFile, *, local: Path | None, advice: str, task: Task) -> Copy:
    """Get a copy of `file`: `local`, or a copy of an earlier command or of Keras, or a download.

    Only `local` may differ from the published file.

    Args:
        file: The published file.
        local: A file, or a folder that has one of this name; None: no local file.
        advice: Advice to the user for an error.
        task: Shows the progress of a download, in MiB.

    Raises:
        DataError: The local file does not exist, or the download failed.
        ResourceError: The download cannot be written.
    """
    if local is not None:
        path = local / file.name if local.is_dir() else local
        if not path.is_file():
            raise DataError(f"{escape(path)}: there is no such file", advice)
        return _copy(path, file)
    downloaded = cache_dir() / "downloads" / file.name
    for path in (downloaded, *_of_keras(file)):
        if path.is_file() and (copy := _copy(path, file)).is_published:
            return copy
    with task(f"downloading {file.name}, MiB") as show:
        _download(file, downloaded, advice, show)
    return _copy(downloaded, file)


def _of_keras(file: RemoteFile) -> Iterator[Path]:
    if file.keras:
        home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
        yield Path(home) / "datasets" / file.keras


def _copy(path: Path, file: RemoteFile) -> Copy:
    algorithm = file.digest.partition(":")[0]
    digest = f"{algorithm}:{file_digest(path, algorithm)}"
    return Copy(path, digest, digest == file.digest)


def _download(file: RemoteFile, target: Path, advice: str, show: Show) -> None:
    """Download to `target`, which is created when the file is complete and verified."""
    part = target.with_name(f"{target.name}.part")
    with disk_errors(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as out:
            _require_single_writer(out, part)
            _receive(file, out, advice, show)
            if not IS_POSIX:
                out.close()  # an open file can be neither removed nor renamed
            if not (copy := _copy(part, file)).is_published:
                part.unlink()
                raise DataError(
                    f"{file.url}: not the published file: its digest is {copy.digest}, "
                    f"not {file.digest}",
                    f"Try again later. {advice}",
                )
            part.replace(target)


def _require_single_writer(out: BinaryIO, part: Path) -> None:
    """Raise DataError if another process downloads to `part`, or has just finished it."""
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        lock(out.fileno())
        if os.path.samestat(os.fstat(out.fileno()), part.stat()):
            return
    raise DataError(
        f"{escape(part)}: another process is downloading this file",
        "Wait for it to end, then repeat the command.",
    )


def _receive(file: RemoteFile, out: BinaryIO, advice: str, show: Show) -> None:
    """Append the rest of the file to `out`."""
    response = _open(file, out.tell(), advice)
    if response is None:
        return
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            out.seek(0)
            out.truncate()
        total = out.tell() + int(response.headers.get("Content-Length") or 0)
        for chunk in _chunks(file, response, advice):
            out.write(chunk)
            show(out.tell() // _CHUNK, max(total, out.tell()) // _CHUNK)
            if out.tell() > _MOST_BYTES:
                break  # the digest will differ
        out.flush()
        if out.tell() < total:
            raise _failure(file, "the connection ended early", advice)
        os.fsync(out.fileno())


def _open(file: RemoteFile, start: int, advice: str) -> http.client.HTTPResponse | None:
    """The response of the server from byte `start` on; None if there are no more bytes."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        request = urllib.request.Request(file.url, headers=headers)
        return urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None
        raise _failure(file, f"the server says {error.code} {error.reason}", advice) from error
    except (OSError, http.client.HTTPException) as error:
        raise _failure(file, getattr(error, "reason", error), advice) from error


def _chunks(file: RemoteFile, response: http.client.HTTPResponse, advice: str) -> Iterator[bytes]:
    try:
        while chunk := response.read1(_CHUNK):  # without waiting for a full chunk
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _failure(file, error, advice) from error


def _failure(file: RemoteFile, what: object, advice: str) -> DataError:
    return DataError(f"{file.name} cannot be downloaded from {file.url}: {escape(what)}", advice)


@contextlib.contextmanager
def silent_task(_: str) -> Iterator[Show]:
    """A task that shows nothing."""
    yield lambda _done, _total: None

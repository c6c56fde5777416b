"""Published files: a copy that is here already, or a download that can be resumed, checked.

pooch is not used, because it starts a download that was cut off, of 0.8 GB at most, from the start.
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
"""Is told what is done, and of how much."""
Task = Callable[[str], AbstractContextManager[Show]]
"""Shows a phase by its name while it lasts, as `Console.task` does."""

_CHUNK = 2**20  # bytes
_MOST_BYTES = 2**31
_TIMEOUT = 10  # seconds without a byte; a request to stop waits as long


@dataclass(frozen=True)
class RemoteFile:
    """A file as its publisher offers it.

    Attributes:
        name: of the file.
        url: where it is.
        digest: `sha256:` or `md5:` and the hexadecimal digits, as far as they are published.
        keras: where Keras keeps its copy, relative to `~/.keras/datasets`; empty: nowhere.
    """

    name: str
    url: str
    digest: str
    keras: str = ""


@dataclass(frozen=True)
class Copy:
    """A local copy of a published file.

    Attributes:
        path: of the copy.
        digest: its own, by the algorithm of the published one.
        is_published: whether the digests are equal.
    """

    path: Path
    digest: str
    is_published: bool


def download_file(file: RemoteFile, *, local: Path | None, advice: str, task: Task) -> Copy:
    """A copy of `file`: `local`, else one that an earlier command or Keras kept, else a download.

    Only `local` may be another file than the published one: whoever names it, vouches for it.

    Args:
        file: that is wanted.
        local: a file, or a folder that has one of this name; None: none is named.
        advice: what to do when it cannot be had.
        task: shows the progress of a download, in MiB.

    Raises:
        DataError: there is no such local file, or the download failed.
        ResourceError: the download cannot be written.
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
    """Download to `target`, which appears when it is whole and its digest is right."""
    part = target.with_name(f"{target.name}.part")
    with disk_errors(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as out:
            _require_single_writer(out, part)
            _receive(file, out, advice, show)
            if not IS_POSIX:
                out.close()  # or it could be neither removed nor renamed
            if not (copy := _copy(part, file)).is_published:
                part.unlink()
                raise DataError(
                    f"{file.url}: not the published file: its digest is {copy.digest}, "
                    f"not {file.digest}",
                    f"Try again later. {advice}",
                )
            part.replace(target)


def _require_single_writer(out: BinaryIO, part: Path) -> None:
    """Raise DataError when another process downloads to `part`, or has just finished it."""
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        lock(out.fileno())
        if os.path.samestat(os.fstat(out.fileno()), part.stat()):
            return
    raise DataError(
        f"{escape(part)}: another process is downloading this file",
        "Wait for it to end, then repeat the command.",
    )


def _receive(file: RemoteFile, out: BinaryIO, advice: str, show: Show) -> None:
    """Append to `out` what it has not got yet."""
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
                break  # the digest will not be right
        out.flush()
        if out.tell() < total:
            raise _failure(file, "the connection ended early", advice)
        os.fsync(out.fileno())


def _open(file: RemoteFile, start: int, advice: str) -> http.client.HTTPResponse | None:
    """The answer of the server from byte `start` on; None when there are no more bytes."""
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
        while chunk := response.read1(_CHUNK):  # what there is: a slow line fills no chunk
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _failure(file, error, advice) from error


def _failure(file: RemoteFile, what: object, advice: str) -> DataError:
    return DataError(f"{file.name} cannot be downloaded from {file.url}: {escape(what)}", advice)


@contextlib.contextmanager
def silent_task(_: str) -> Iterator[Show]:
    """Shows nothing."""
    yield lambda _done, _total: None

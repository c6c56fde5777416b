import contextlib
import functools
import hashlib
import http.server
import threading

import pytest

from cvtrain.data import download
from cvtrain.data.download import RemoteFile, download_file, silent_task
from cvtrain.errors import DataError
from cvtrain.system.locks import lock

CONTENT = bytes(range(256)) * 20_000  # five chunks


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves CONTENT, in parts too; cuts off, lies, refuses or has no parts by the path."""

    requests: list  # of (path, Range)

    def do_GET(self):
        self.requests.append((self.path, self.headers.get("Range")))
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        if self.path == "/whole":
            start = 0
        if self.path == "/missing":
            self.send_error(404)
        elif start >= len(CONTENT):
            self.send_error(416)
        else:
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            body = CONTENT[start:] if self.path != "/other" else bytes(len(CONTENT))
            self.wfile.write(body[: 3 * 2**20] if self.path == "/cut" and not start else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("CVTRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = type("Served", (Handler,), {"requests": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}", handler.requests
        served.shutdown()
        thread.join()


DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
get = functools.partial(download_file, local=None, advice="Name it.", task=silent_task)


def test_a_file_is_downloaded_once(server, tmp_path):
    address, requests = server
    file = RemoteFile("set.bin", f"{address}/set", DIGEST)
    copy = get(file)
    assert copy.path == tmp_path / "cache" / "downloads" / "set.bin"
    assert copy.path.read_bytes() == CONTENT
    assert copy.is_published
    assert get(file) == copy
    assert requests == [("/set", None)]
    copy.path.write_bytes(b"damaged since")
    assert get(file).path.read_bytes() == CONTENT
    assert len(requests) == 2


def test_a_download_that_was_cut_off_goes_on(server):
    address, requests = server
    file = RemoteFile("set.bin", f"{address}/cut", DIGEST)
    with pytest.raises(DataError, match="cannot be downloaded") as caught:
        get(file)
    assert caught.value.advice == "Name it."
    assert get(file).path.read_bytes() == CONTENT
    assert requests == [("/cut", None), ("/cut", f"bytes={3 * 2**20}-")]


def test_a_whole_part_is_taken(server, tmp_path):
    folder = tmp_path / "cache" / "downloads"
    folder.mkdir(parents=True)
    (folder / "set.bin.part").write_bytes(CONTENT)
    assert get(RemoteFile("set.bin", f"{server[0]}/set", DIGEST)).path.read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == ["set.bin"]


def test_a_server_without_parts_sends_all_again(server, tmp_path):
    folder = tmp_path / "cache" / "downloads"
    folder.mkdir(parents=True)
    (folder / "set.bin.part").write_bytes(CONTENT[:1000])
    shown = []
    file = RemoteFile("set.bin", f"{server[0]}/whole", DIGEST)
    copy = get(file, task=lambda _: contextlib.nullcontext(lambda *done: shown.append(done)))
    assert copy.path.read_bytes() == CONTENT
    assert {total for _, total in shown} == {len(CONTENT) // 2**20}


def test_a_file_is_downloaded_by_one_process_at_a_time(server, tmp_path, monkeypatch):
    file = RemoteFile("set.bin", f"{server[0]}/set", DIGEST)
    folder = tmp_path / "cache" / "downloads"
    folder.mkdir(parents=True)
    with (folder / "set.bin.part").open("ab") as other:
        lock(other.fileno())
        with pytest.raises(DataError, match="another process is downloading this file"):
            get(file)

    def finished_by_another(*_):
        (folder / "set.bin.part").replace(folder / "set.bin")

    with monkeypatch.context() as patch:
        patch.setattr(download, "lock", finished_by_another)
        with pytest.raises(DataError, match="another process"):
            get(file)
    assert (folder / "set.bin").read_bytes() == b""  # the other's, which was not touched
    assert get(file).path.read_bytes() == CONTENT


def test_another_file_than_the_published_one_is_not_kept(server, tmp_path):
    with pytest.raises(DataError, match=f"not the published file.*, not {DIGEST}"):
        get(RemoteFile("set.bin", f"{server[0]}/other", DIGEST))
    assert list((tmp_path / "cache" / "downloads").iterdir()) == []


def test_what_the_server_refuses_is_told(server):
    with pytest.raises(DataError, match="the server says 404"):
        get(RemoteFile("set.bin", f"{server[0]}/missing", DIGEST))
    with pytest.raises(DataError, match=r"cannot be downloaded from http://127\.0\.0\.1:9/x"):
        get(RemoteFile("set.bin", "http://127.0.0.1:9/x", DIGEST))


def test_a_copy_of_keras_counts_when_it_is_whole(server, tmp_path):
    kept = tmp_path / "keras" / "datasets" / "sub" / "set.bin"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(CONTENT)
    file = RemoteFile("set.bin", f"{server[0]}/set", DIGEST, keras="sub/set.bin")
    assert get(file).path == kept
    kept.write_bytes(CONTENT[:-1])
    assert get(file).path == tmp_path / "cache" / "downloads" / "set.bin"


def test_only_a_copy_that_is_named_may_be_another_file(server, tmp_path):
    (tmp_path / "set.bin").write_bytes(b"mine")
    file = RemoteFile("set.bin", f"{server[0]}/set", "md5:" + hashlib.md5(CONTENT).hexdigest())
    for local in (tmp_path, tmp_path / "set.bin"):
        copy = download_file(file, local=local, advice="", task=silent_task)
        assert (copy.path, copy.is_published) == (tmp_path / "set.bin", False)
        assert copy.digest == "md5:" + hashlib.md5(b"mine").hexdigest()
    with pytest.raises(DataError, match="no such file"):
        download_file(file, local=tmp_path / "other", advice="", task=silent_task)
    assert server[1] == []

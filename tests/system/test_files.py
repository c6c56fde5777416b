"""Commits are atomic."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cvtrain.errors import ConfigError, DataError, ResourceError
from cvtrain.system.files import (
    COMMIT_SECONDS,
    append_checksum,
    cache_dir,
    commit_bytes,
    commit_interval,
    commit_json,
    commit_text,
    committed,
    committed_folder,
    file_digest,
    read_checksummed,
    remove_abandoned,
)


def test_commit_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "file.txt"
    commit_text(path, "one")
    commit_text(path, "zwei ä")
    assert path.read_text(encoding="utf-8") == "zwei ä"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_failed_block_leaves_the_old_content(tmp_path):
    path = tmp_path / "file.txt"
    commit_text(path, "old")
    with pytest.raises(ZeroDivisionError), committed(path) as temporary:
        temporary.write_text(str(1 / 0))
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_committed_files_have_the_usual_permissions(tmp_path):
    commit_text(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_file_limit_is_a_resource_error_and_keeps_the_old(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "file.bin"
    commit_bytes(path, b"old")
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from cvtrain.errors import ResourceError\n"
        "from cvtrain.system.files import commit_bytes\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    commit_bytes(Path(sys.argv[1]), bytes(100_000))\n"
        "except ResourceError as error:\n"
        "    print(error.message)\n"
    )
    out = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert "cannot write" in out.stdout, out.stderr
    assert "size limit" in out.stdout
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_a_path_through_a_file_is_a_resource_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ResourceError, match="a file is in the way"):
        commit_text(tmp_path / "file" / "below", "x")


def test_json_refuses_what_is_not_json(tmp_path):
    commit_json(tmp_path / "a.json", {"ä": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ä": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        commit_json(tmp_path / "a.json", {"loss": float("nan")})


def test_any_name_goes_through_json(tmp_path):
    names = ["caf\udce9", "é猫\U0001f600", 'a\x1b\n\u2028"\\udce9']
    commit_json(tmp_path / "a.json", names)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == names


def write_folder(path, name, content=""):
    with committed_folder(path, mark="mark") as temporary:
        (temporary / "mark").write_text(content)
        (temporary / "sub").mkdir()
        (temporary / "sub" / name).write_text(content)


def names_below(path):
    return sorted(str(each.relative_to(path)) for each in path.rglob("*"))


@pytest.mark.parametrize("before", ["missing", "empty", "written"])
def test_a_folder_takes_the_place_of_the_one_before_as_a_whole(tmp_path, before):
    path = tmp_path / "new" / "folder"
    if before == "empty":
        path.mkdir(parents=True)
    if before == "written":
        write_folder(path, "old", "1")
    write_folder(path, "new", "2")
    assert names_below(tmp_path / "new") == [
        "folder",
        "folder/mark",
        "folder/sub",
        "folder/sub/new",
    ]
    assert (path / "mark").read_text() == "2"
    (tmp_path / "usual").mkdir()
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_failed_block_leaves_the_old_folder(tmp_path):
    write_folder(tmp_path / "folder", "old")
    for name in ("folder", "none-yet"):
        # A `/` makes the name of a file in a folder that is not there.
        with pytest.raises(ResourceError, match="no such file"):
            write_folder(tmp_path / name, "not/there")
    with pytest.raises(KeyboardInterrupt), committed_folder(tmp_path / "folder", mark="mark"):
        raise KeyboardInterrupt
    assert names_below(tmp_path) == ["folder", "folder/mark", "folder/sub", "folder/sub/old"]


def test_two_that_fill_one_folder_at_once_both_succeed(tmp_path):
    with committed_folder(tmp_path / "folder", mark="mark") as first:
        write_folder(tmp_path / "folder", "second")
        (first / "mark").write_text("")
    assert names_below(tmp_path) == ["folder", "folder/mark"]


def test_a_failed_replacement_brings_the_old_folder_back(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    write_folder(path, "old")
    rename = Path.rename

    def refuse_the_new(self, target):
        if target == path and "before" not in self.name:
            raise OSError(errno.EACCES, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new)
    with pytest.raises(ResourceError, match="permission denied"):
        write_folder(path, "new")
    assert names_below(tmp_path) == ["folder", "folder/mark", "folder/sub", "folder/sub/old"]


def test_a_replacement_that_was_killed_in_the_middle_is_undone_by_the_next(tmp_path):
    write_folder(tmp_path / "folder", "old")
    (tmp_path / "folder").rename(tmp_path / ".cvtrain-before-folder")
    with pytest.raises(KeyboardInterrupt), committed_folder(tmp_path / "folder", mark="mark"):
        raise KeyboardInterrupt
    assert names_below(tmp_path) == ["folder", "folder/mark", "folder/sub", "folder/sub/old"]


def test_only_abandoned_files_and_folders_are_removed(tmp_path):
    folder = ".cvtrain-tmp-of_files"
    (tmp_path / "sub" / folder / "in").mkdir(parents=True)
    mine = "kept", ".tmp-file", ".cvtrain-tmp-longer-than-ours", ".sub-before"
    for left in (
        ".cvtrain-tmp-a_file_0",
        "sub/.cvtrain-tmp-abcd1234.png",
        f"sub/{folder}/in/a",
        *mine,
    ):
        (tmp_path / left).write_text("x")
    (tmp_path / ".cvtrain-tmp-aa_link0").symlink_to("kept")
    os.mkfifo(tmp_path / ".cvtrain-tmp-aa_pipe0")
    with (
        committed(tmp_path / "file.txt") as file,
        committed_folder(tmp_path / "sub" / "folder", mark="mark") as folder,
    ):
        (folder / "mark").write_text("x")
        remove_abandoned(tmp_path)
        assert file.exists()
        assert (folder / "mark").exists()
    others = [".cvtrain-tmp-aa_link0", "file.txt", "sub", "sub/folder", "sub/folder/mark"]
    assert names_below(tmp_path) == sorted([*mine, *others])


def test_a_seal_tells_what_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert read_checksummed(path) is None
    append_checksum(path)
    assert path.read_bytes() == b"content" + hashlib.sha256(b"content").hexdigest().encode()
    assert read_checksummed(path) == b"content"
    for damaged in (b"", path.read_bytes()[:-1], b"C" + path.read_bytes()[1:]):
        path.write_bytes(damaged)
        assert read_checksummed(path) is None
    assert read_checksummed(tmp_path / "none") is None


def test_what_somebody_else_has_written_is_not_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("x")
    (tmp_path / "file").write_text("x")
    # A folder called like the mark is not the mark.
    (tmp_path / "other" / "mark").mkdir(parents=True)
    (tmp_path / "loop").symlink_to("loop")
    before = names_below(tmp_path)
    for name in ("photos", "file", "other", "loop", "file/below"):
        with pytest.raises(ResourceError):
            write_folder(tmp_path / name, "new")
    assert names_below(tmp_path) == before


def test_a_link_stays_and_the_folder_that_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "link").symlink_to("real")
    for name in ("old", "new"):
        write_folder(tmp_path / "link", name)
        assert (tmp_path / "link").is_symlink()
        expected = ["link", "real", "real/mark", "real/sub", f"real/sub/{name}"]
        assert names_below(tmp_path) == expected


def test_cache_dir_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CVTRAIN_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other folders")
def test_cache_dir_is_the_users_own(monkeypatch, tmp_path):
    monkeypatch.delenv("CVTRAIN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "cvtrain"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "cvtrain"


def test_a_digest_of_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    assert file_digest(tmp_path / "file") == hashlib.sha256(b"content").hexdigest()
    for name in ("none", "."):
        with pytest.raises(DataError, match=r"cannot be read: (no such file|is a directory)"):
            file_digest(tmp_path / name)


def test_only_the_environment_asks(monkeypatch):
    monkeypatch.delenv(COMMIT_SECONDS, raising=False)
    assert commit_interval() is None
    monkeypatch.setenv(COMMIT_SECONDS, "2.5")
    assert commit_interval() == 2.5
    monkeypatch.setenv(COMMIT_SECONDS, "0")
    assert commit_interval() == 0


@pytest.mark.parametrize("text", ["", "often", "-1", "nan", "inf"])
def test_what_is_no_number_of_seconds_is_refused(monkeypatch, text):
    monkeypatch.setenv(COMMIT_SECONDS, text)
    with pytest.raises(
        ConfigError, match=f"{COMMIT_SECONDS}: must be seconds, 0 or more; received"
    ):
        commit_interval()

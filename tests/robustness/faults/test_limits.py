"""A limit on the size of files, a full disk and a read-only one, as the system makes them."""

import csv
import shlex
import subprocess
import sys

import pytest
from commits import CASES
from programs import HERE

MOUNT = "mount -t tmpfs -o size=900k tmpfs {folder} && exec {command}"


def test_nothing_is_lost_at_any_limit(tmp_path):
    command = [sys.executable, str(HERE / "limits.py"), str(tmp_path)]
    script = MOUNT.format(folder=shlex.quote(str(tmp_path)), command=shlex.join(command))
    try:
        # In a mount namespace of its own, which ends with the process.
        may = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs unshare(1)")
    if may.returncode:
        pytest.skip("needs the right to mount a small file system")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    rows = list(csv.DictReader(done.stdout.splitlines(), delimiter="\t"))
    assert len(rows) == 3
    for row in rows:
        assert int(row["refused"]) >= len(CASES), row
        assert row["lost"] == "0", row

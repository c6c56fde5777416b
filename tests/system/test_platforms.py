"""Everything works on systems that have only what Windows has, as far as Linux can tell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="simulated on Linux alone")

COMMAND_LINE = "from cvtrain.__main__ import main; main()"
MODULES = """
import importlib
root = Path(importlib.util.find_spec("cvtrain").origin).parent
sys.modules |= {"keras": None, "tensorflow": None}  # so that their imports fail
for path in root.rglob("*.py"):
    name = ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
    try:
        importlib.import_module(name)
    except Exception as error:
        missing = ("halted; None in sys.modules", "named 'jax'", "named 'torch'")
        assert any(words in str(error) for words in missing), (name, error)
    else:
        print(name)
"""
HOLDER = """
import time
from cvtrain.runs.lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def command(*arguments):
    return [sys.executable, Path(__file__).with_name("without_posix.py"), *arguments]


def run(*arguments, cwd):
    done = subprocess.run(command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_that_needs_no_engine_is_imported(tmp_path):
    modules = run(MODULES, cwd=tmp_path).split()
    assert {"cvtrain.cli", "cvtrain.config", "cvtrain.data.check", "cvtrain.runs.run"} <= {*modules}


def test_commands_that_need_no_engine(image_folder, tmp_path):
    assert "Usage:" in run(COMMAND_LINE, "--help", cwd=tmp_path)
    assert "0 bad" in run(COMMAND_LINE, "data", "check", str(image_folder), cwd=tmp_path)
    run(COMMAND_LINE, "data", "convert", str(image_folder), "--output", "copies", cwd=tmp_path)
    assert len(list((tmp_path / "copies").rglob("*.png"))) == 63


def test_one_writer_at_a_time(tmp_path):
    with subprocess.Popen(
        command(HOLDER, str(tmp_path)), stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        refused = subprocess.run(
            command(HOLDER, str(tmp_path)), capture_output=True, text=True, check=False
        )
        assert f"is being written by process {holder.pid}" in refused.stderr
        holder.kill()


def test_what_was_left_is_removed_after_a_day(tmp_path):
    for name, age in ((".cvtrain-tmp-left_old", 90_000), (".cvtrain-tmp-written_", 60)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time := (tmp_path / name).stat().st_mtime - age, time))
    run(f"from cvtrain.system.files import *; remove_abandoned(Path({str(tmp_path)!r}))", cwd="/")
    assert [path.name for path in tmp_path.iterdir()] == [".cvtrain-tmp-written_"]


@pytest.mark.slow
def test_a_model_is_trained(image_folder, tmp_path):
    (tmp_path / "config.yaml").write_text(
        f"data: {{source: {image_folder}, image_size: [16, 20]}}\n"
        "fit: {model: {filters: [4]}, epochs: 1, batch_size: 8}\n"
    )
    run(COMMAND_LINE, "fit", "config.yaml", "--run-dir", "run", cwd=tmp_path)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
    assert not list(tmp_path.rglob("*:*"))

"""Run folders that mean harm, opened by every command that opens one."""

import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hostile_runs import RUNS
from keras_archives import SHAPE, archive
from PIL import Image
from run_folders import make_run
from watched import SECRET, Case, Sandbox

from cvtrain.errors import RunError
from cvtrain.runs.run import Run
from cvtrain.system.files import sha256_bytes
from cvtrain.training.checkpoint import Checkpoints

COMMANDS = {
    "predict": "predict run ../photo.png",
    "evaluate": "evaluate run",
    "evaluate --tta": "evaluate run --tta 2",
    "visualize": "visualize run --method saliency",
    "report": "report run",
    "compare": "compare run ../template",
    "calibrate": "calibrate run --coverage 0.9",
    "finetune": "finetune ../template/config.yaml --from run --run-dir new",
    "fit --resume": "fit run --resume",
    "summary": "summary summary.yaml --stage extract-features",
}
_MOST_MEGABYTES = 500


class Opened:
    """A sandbox in which every command has been started on every run."""

    def __init__(self, path):
        sandbox = Sandbox(path)
        here = sandbox.inside
        Image.fromarray(np.full((*SHAPE[:2], 3), 99, np.uint8)).save(here / "photo.png")
        run = make_run(here / "template", image_size=SHAPE[:2], num_test=6).path
        archive(run / "model.keras")
        summary = (
            "data: {source: x, image_size: [16, 20]}\n"
            "extract_features: {backbone: {weights: run}}\n"
        )
        cases = []
        for name, row in RUNS.items():
            folder = here / name
            shutil.copytree(run, folder / "run")
            row.write(folder / "run", sandbox.outside)
            (folder / "summary.yaml").write_text(summary)  # its paths start where it lies
            cases += [
                Case(f"{command}: {name}", folder, arguments.split())
                for command, arguments in COMMANDS.items()
                if command in row.by or not row.by
            ]
        warm_up = [
            Case("", here, ["predict", "template", "photo.png"]),
            Case("", here, ["visualize", "template", "photo.png", "--method", "saliency"]),
            Case("", here, ["report", "template"]),
            Case("", here, ["evaluate", "template"]),
            Case("", here, ["calibrate", "template"]),
        ]
        self.before = sandbox.snapshot()
        self.watched = sandbox.watch(warm_up, cases)
        self.after = sandbox.snapshot()
        self.inside, self.outcomes = here, self.watched.outcomes


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return Opened(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("name", RUNS)
def test_a_hostile_run_is_told_in_a_line(opened, name):
    row = RUNS[name]
    for command in row.by or COMMANDS:
        outcome = opened.outcomes[f"{command}: {name}"]
        where = f"{command}: {outcome.code} {outcome.told}"
        assert "Traceback" not in outcome.told, where
        assert (outcome.out + outcome.err).translate(None, b"\n\t").decode().isprintable(), where
        if name == "images elsewhere":
            assert outcome.code in (0, 3), where
            continue
        assert outcome.code in (2, 3, 4), where
        errors = outcome.told.strip().splitlines()
        assert len(errors) <= 3, where
        assert len(outcome.told) < 1000, where
        # These take a folder without a readable run.json for something else, and say so.
        if row.by or command not in ("predict", "visualize", "fit --resume"):
            assert row.says in outcome.told, where


def test_nothing_outside_is_touched(opened):
    assert opened.after == opened.before
    assert {name: each.events for name, each in opened.outcomes.items() if each.events} == {}
    if opened.watched.traced is None:
        pytest.skip("no strace, which would tell what the libraries below Python did")
    assert opened.watched.traced == []


def test_no_secret_is_told(opened):
    told = b"".join(each.out + each.err for each in opened.outcomes.values())
    assert SECRET.encode() not in told
    assert Path("/etc/passwd").read_bytes().splitlines()[0] not in told
    written = [path for path in opened.inside.rglob("*") if path.is_file() and path.stat().st_size]
    small = [path for path in written if path.stat().st_size < 2**30 and not path.is_symlink()]
    assert not any(SECRET.encode() in path.read_bytes() for path in small)


def test_memory_stays_bounded(opened):
    # What is done for a harmless one takes what it takes; being refused must take little.
    refused = {name: each for name, each in opened.outcomes.items() if each.code}
    assert refused
    rises = {name: round(each.megabytes) for name, each in refused.items()}
    assert {name: rise for name, rise in rises.items() if rise > _MOST_MEGABYTES} == {}


class _Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_checkpoint_with_a_right_digest_runs_nothing(tmp_path):
    content, canary = io.BytesIO(), tmp_path / "ran"
    text = json.dumps({"identity": {}, "values": {}})
    objects = np.array([_Runs(str(canary))], dtype=object)
    np.savez(content, allow_pickle=True, json=np.array(text), a=objects)
    assert pickle.dumps(objects)
    body = content.getvalue()
    (tmp_path / "checkpoint-000001.npz").write_bytes(body + sha256_bytes(body).encode())
    canary.unlink(missing_ok=True)
    with pytest.raises((RunError, ValueError)):
        Checkpoints(tmp_path).load()
    assert not canary.exists()


def test_a_run_may_be_named_by_a_link(tmp_path):
    run = make_run(tmp_path / "run", num_test=6)
    (tmp_path / "newest").symlink_to(run.path)
    assert Run.open(tmp_path / "newest").content["name"] == "tiny"

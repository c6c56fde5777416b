"""The harness finds what it is there to find, and a few kills of each command find nothing."""

import json
import os
import subprocess
import sys
import zipfile
from collections import Counter

import h5py
import numpy as np
import pytest
from robustness.crash.attempts import TESTS, Attempt, phase_of
from robustness.crash.chains import Chain, load_chains, run_chain, run_through, save_chains, tables
from robustness.crash.outcomes import run_outcome
from robustness.crash.scenarios import COMMANDS, Scenario

# Counts to 30 and commits each number. Told so, it makes a mistake of its own on a resume.
COUNTING = """
import os, pathlib, sys, time

def main():
    state = pathlib.Path("state")
    resumed = state.exists()
    if resumed and "refuse" in sys.argv:
        sys.exit("the state cannot be read")
    number = int(state.read_text()) if resumed else 0
    while number < 30:
        number += 1
        time.sleep(0.02)
        pathlib.Path("new").write_text(str(number + (resumed and "drift" in sys.argv)))
        os.replace("new", state)
"""


@pytest.fixture
def counting(tmp_path):
    """counting(*flags) -> Scenario of a program that is killed in a second."""
    (tmp_path / "counting.py").write_text(COUNTING)

    def scenario(*flags):
        return Scenario(
            name="counting",
            seed=0,
            program="counting",
            arguments=lambda _folder, _generator: list(flags),
            environment=lambda _folder: {"PYTHONPATH": f"{TESTS}{os.pathsep}{tmp_path}"},
            outcome=lambda folder: {"state": (folder / "state").read_text()},
        )

    return scenario


def chains_of(scenario, work):
    # New interpreters alone: this process may have threads, which a fork would lose.
    reference = run_through(scenario, work, fresh_share=1)
    return [run_chain(scenario, work, n, reference, fresh_share=1) for n in range(3)]


@pytest.mark.parametrize(
    ("flag", "verdict"), [("", "identical"), ("drift", "different"), ("refuse", "lost")]
)
def test_a_program_that_resumes_wrongly_is_found_out(counting, tmp_path, flag, verdict):
    verdicts = {chain.verdict for chain in chains_of(counting(flag), tmp_path) if chain.kills}
    # One that was killed before it had counted at all has nothing to resume wrongly.
    assert verdict in verdicts <= {verdict, "identical"}


def test_the_phase_is_that_of_the_innermost_work(tmp_path):
    stack = tmp_path / "stack.txt"
    assert phase_of(stack) == "start"
    frames = (
        ("/x/numpy/lib/npyio.py", "savez"),
        ("/x/cvtrain/training/checkpoint.py", "save"),
        ("/x/cvtrain/training/loop.py", "train"),
        ("/x/cvtrain/commands/fit.py", "fit"),
    )
    for first, phase in ((0, "checkpoint"), (2, "training"), (3, "building"), (4, "start")):
        lines = [f'  File "{file}", line 7 in {function}' for file, function in frames[first:]]
        stack.write_text("\n".join(["Current thread 0x00 (most recent call first):", *lines]))
        assert phase_of(stack) == phase


@pytest.fixture
def run(tmp_path):
    """A run folder with all that an outcome reads."""
    folder = tmp_path / "run"
    folder.mkdir()
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["layers/conv/vars/0"] = np.arange(6, dtype=np.float32)
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        archive.write(tmp_path / "weights.h5", "model.weights.h5")
    (folder / "history.csv").write_text("epoch,loss,seconds\n1,0.5,7.1\n")
    (folder / "run.json").write_text(json.dumps({"best_epoch": 1, "started": "today"}))
    (folder / "log.txt").write_text("said")
    return folder


def test_times_are_no_difference(run):
    before = run_outcome(run)
    (run / "history.csv").write_text("epoch,loss,seconds\n1,0.5,9.9\n")
    (run / "run.json").write_text(json.dumps({"best_epoch": 1, "started": "then", "seconds": {}}))
    (run / "log.txt").write_text("said more")
    assert run_outcome(run) == before


@pytest.mark.parametrize("change", ["weight", "history", "record", "left behind"])
def test_whatever_was_learnt_or_left_is_a_difference(run, tmp_path, change):
    before = run_outcome(run)
    if change == "weight":
        with h5py.File(tmp_path / "weights.h5", "a") as file:
            file["layers/conv/vars/0"][3] = np.nextafter(np.float32(3), np.float32(4))
        with zipfile.ZipFile(run / "model.keras", "w") as archive:
            archive.write(tmp_path / "weights.h5", "model.weights.h5")
    elif change == "history":
        (run / "history.csv").write_text("epoch,loss,seconds\n1,0.5000001,7.1\n")
    elif change == "record":
        (run / "run.json").write_text(json.dumps({"best_epoch": 2, "started": "today"}))
    else:
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / ".cvtrain-tmp-12345678.npz").write_bytes(b"")
    after = run_outcome(run)
    assert sum(before.get(name) != after.get(name) for name in before | after) == 1


@pytest.mark.slow
def test_killed_at_random_moments_every_command_ends_as_if_it_had_run_through(tmp_path):
    path = tmp_path / "chains.jsonl"
    few = ["--kills", "2", "--most", "2", "--seeds", "0", "--fresh", "0"]
    command = [sys.executable, "-m", "robustness.crash", *few]
    done = subprocess.run(
        [*command, "--json", path, "--work", tmp_path / "work"],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    kills = Counter(chain.name for chain in load_chains(path) for _ in chain.kills)
    assert set(kills) == set(COMMANDS)
    assert min(kills.values()) >= 2


def test_chains_are_kept_and_counted(tmp_path):
    killed, ended = Attempt(None, 1.0, "training", True), Attempt(0, 2.0, "", False)
    chains = [
        Chain("fit", 0, 0, [killed, killed, ended]),
        Chain("fit", 0, 1, [killed, ended], differences=["history.csv"]),
        Chain("fit", 1, 0, [ended], lost="exit code 1"),
    ]
    save_chains(tmp_path / "chains.jsonl", chains)
    assert load_chains(tmp_path / "chains.jsonl") == chains
    table = tables(chains)
    assert "| fit | 0 | 2 | 3 | 1 | 3 | 1 | 0 | 1 | 1 |" in table
    assert "| fit | all | 3 | 3 | 1 | 3 | 1 | 1 | 1 | 1 |" in table
    assert "| training | 3 |" in table

"""Each finding on machines that are made up, and the whole on this one."""

import json
import os
import subprocess
import sys
from importlib import metadata

import pytest

from cvtrain.commands import doctor as doctor_module
from cvtrain.commands.doctor import Check, doctor
from cvtrain.errors import ResourceError
from cvtrain.system import machine
from cvtrain.system.console import Console

ENGINE = {
    "engine": "tensorflow",
    "versions": {"tensorflow": "2.21.0", "keras": "3.15.1"},
    "has_gpu_build": False,
    "device": "cpu: a machine, 2 threads",
    "chosen": ["bfloat16", "bfloat16", "float32"],
    "float32": 400.0,
    "bfloat16": 800.0,
}


@pytest.fixture
def engine(monkeypatch):
    """engine(facts, problem="") -> the findings about an engine of these facts."""

    def findings(facts, problem=""):
        monkeypatch.setattr(
            doctor_module, "run_json_subprocess", lambda *_args, **_kwargs: (facts, problem)
        )
        return {finding.what: finding for finding in doctor_module.engine()}

    return findings


def test_an_engine_that_works(engine, monkeypatch):
    monkeypatch.setattr(machine, "has_nvidia_gpu", lambda: False)
    found = engine(ENGINE)
    assert {finding.state for finding in found.values()} == {"ok"}
    assert "2.0 times as fast in bfloat16" in found["precision: auto"].found
    assert "2 bfloat16, 1 float32" in found["precision: auto"].found


def test_a_broken_engine_is_a_finding(engine):
    (finding,) = engine({}, "it was ended by SIGILL").values()
    assert (finding.what, finding.state) == ("engine", "bad")
    assert "SIGILL" in finding.found
    assert "pip install" in finding.advice


@pytest.mark.parametrize(("has_build", "words"), [(False, "this build"), (True, "does not see")])
def test_an_idle_gpu_is_told_with_why(engine, monkeypatch, has_build, words):
    monkeypatch.setattr(machine, "has_nvidia_gpu", lambda: True)
    finding = engine(ENGINE | {"has_gpu_build": has_build})["device"]
    assert finding.state == "warn"
    assert words in finding.found
    assert "tensorflow[and-cuda]" in finding.advice


def test_an_engine_that_measures_too_slowly(engine):
    facts = {key: value for key, value in ENGINE.items() if key != "bfloat16"}
    assert engine(facts, "it took more than 90 s")["convolutions"].state == "warn"


def test_threads_beyond_the_quota(monkeypatch):
    monkeypatch.setattr(machine, "num_threads", lambda: 8)
    monkeypatch.setattr(machine, "processor_quota", lambda: 1.5)
    found = {finding.what: finding for finding in doctor_module.processor()}
    assert found["threads"].state == "warn"
    assert "OMP_NUM_THREADS=2" in found["threads"].advice


@pytest.mark.parametrize(("gib", "state"), [(8, "ok"), (1, "warn"), (0.25, "bad")])
def test_memory(monkeypatch, gib, state):
    monkeypatch.setattr(machine, "available_memory", lambda: int(gib * 2**30))
    assert [finding.state for finding in doctor_module.memory()] == [state]


def test_what_is_required_is_what_the_package_says():
    lines = [line.partition(";")[0] for line in metadata.requires("cvtrain") if "extra" not in line]
    names = {line.split(">=")[0].strip(" (") for line in lines}
    assert set(doctor_module._required()) == names


def test_packages_that_are_old_missing_or_rivals(monkeypatch):
    versions = {"keras": "3.9.2", "opencv-python": "4.10", "opencv-python-headless": "4.10"}
    monkeypatch.setattr(doctor_module, "_required", lambda: {"keras": "3.15.1", "numpy": "1.26"})
    monkeypatch.setattr(doctor_module, "_version", versions.get)
    found = {finding.what: finding for finding in doctor_module.software()}
    assert found["packages"].state == "bad"
    assert found["packages"].found == "missing or too old: keras>=3.15.1, numpy>=1.26"
    assert found["opencv-python-headless"].state == "warn"


def test_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("CVTRAIN_CACHE", str(tmp_path / "not" / "yet"))
    cache, here = doctor_module.disks()
    assert "0 files, 0.00 GiB" in cache.found
    assert here.state in ("ok", "warn")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "a").write_bytes(bytes(2**20))
    monkeypatch.setenv("CVTRAIN_CACHE", str(tmp_path / "cache"))
    assert "1 files, 0.00 GiB" in next(doctor_module.disks()).found
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert next(doctor_module.disks()).state == "bad"


def test_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(doctor_module, "problem_fetching", lambda _address: "no network")
    (finding,) = doctor_module.weights()
    assert finding.state == "warn"
    assert "--weights" in finding.advice
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5").touch()
    (finding,) = doctor_module.weights()
    assert finding.state == "ok"
    assert "on this machine: vgg16" in finding.found


def test_something_bad_is_printed_first_and_is_an_error_then(monkeypatch, capsys):
    for name in ("software", "processor", "memory", "engine", "input_path", "disks", "weights"):
        finding = Check(name, "bad" if name == "disks" else "ok", "the result", "the advice")
        monkeypatch.setattr(doctor_module, name, lambda finding=finding: [finding])
    with pytest.raises(ResourceError, match="failed: disks") as caught:
        doctor(as_json=True, console=Console(quiet=True))
    assert caught.value.exit_code == 5
    printed = json.loads(capsys.readouterr().out)
    assert [finding["state"] for finding in printed["findings"]].count("bad") == 1


def run_doctor(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "cvtrain", "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | environment,
    )


@pytest.mark.slow
def test_the_whole_on_this_machine():
    done = run_doctor("--json")
    found = {each["what"]: each for each in json.loads(done.stdout)["findings"]}
    assert done.returncode == (5 if "bad" in {each["state"] for each in found.values()} else 0)
    assert found["engine"]["state"] == "ok"
    assert "GFLOP/s" in found["convolutions"]["found"]
    assert not [each for each in found.values() if each["state"] != "ok" and not each["advice"]]


def test_an_engine_that_does_not_exist_is_no_crash():
    done = run_doctor(KERAS_BACKEND="nonsense")
    assert done.returncode == 5
    assert "Traceback" not in done.stderr
    assert "failed: engine" in done.stderr
    assert "KERAS_BACKEND must be one of tensorflow, jax, torch" in done.stdout

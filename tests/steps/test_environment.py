"""What numbers depend on besides config and images is seen, and nothing else is."""

import os

import keras
import numpy as np
import pytest

import cvtrain
from cvtrain.steps import environment as module
from cvtrain.steps.environment import (
    differences,
    environment,
    installed_versions,
    library_versions,
    processor_as_device,
)
from cvtrain.system import machine


@pytest.mark.parametrize(
    "name",
    [
        *("TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
        *("TF_XLA_FLAGS", "XLA_FLAGS", "TF_SET_ONEDNN_FPMATH_MODE", "TF_CUDNN_USE_AUTOTUNE"),
        *("ONEDNN_MAX_CPU_ISA", "DNNL_DEFAULT_FPMATH_MODE", "OMP_NUM_THREADS", "MKL_CBWR"),
        *("OPENBLAS_CORETYPE", "NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG", "GLIBC_TUNABLES"),
        *("KERAS_BACKEND", "KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "OPENCV_CPU_DISABLE"),
    ],
)
def test_variables_that_change_numbers_are_recorded(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    assert environment()["variables"][name] == "1"


@pytest.mark.parametrize(
    "name",
    [
        *("HOME", "PATH", "CVTRAIN_CACHE", "CVTRAIN_COMMIT_SECONDS", "TF_CPP_MIN_LOG_LEVEL"),
        *(
            "TF2_BEHAVIOR",
            "KMP_INIT_AT_FORK",
            "ONEDNN_VERBOSE",
            "KERAS_HOME",
            "MLFLOW_TRACKING_URI",
        ),
    ],
)
def test_others_are_not(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    assert name not in environment()["variables"]


def test_the_environment_is_what_the_system_says(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})
    found = environment()
    assert found["threads"]["available"] == 3
    assert found["threads"]["opencv"] >= 1
    assert found["instructions"] == machine.instructions()


def test_versions_are_those_of_the_modules():
    names = ("python", "cvtrain", "keras", "numpy", "opencv", "nothing-of-that-name")
    found = installed_versions(names)
    assert (found["keras"], found["numpy"]) == (keras.__version__, np.__version__)
    assert found["cvtrain"] == cvtrain.__version__
    assert "nothing-of-that-name" not in found
    assert library_versions().keys() == {"opencv", "pillow", "scikit-learn"}


BEFORE = {
    "versions": {"keras": "3.15.1", "tensorflow": "2.21.0"},
    "device": "cpu: EPYC, 8 threads",
    "environment": {
        "instructions": ["avx2", "avx512f", "fma"],
        "threads": {"available": 8, "opencv": 8},
        "variables": {"OMP_NUM_THREADS": "4"},
    },
}


def _now(**environment):
    return BEFORE | {"environment": BEFORE["environment"] | environment}


@pytest.mark.parametrize(
    ("now", "lines"),
    [
        (BEFORE, []),
        ({}, []),
        (BEFORE | {"environment": None}, []),
        (
            BEFORE | {"versions": {"keras": "3.15.1", "tensorflow": "2.22.0"}},
            ["tensorflow: 2.21.0 -> 2.22.0"],
        ),
        (BEFORE | {"versions": {"keras": "3.15.1"}}, []),
        (BEFORE | {"device": "cpu: EPYC, 4 threads"}, []),  # said once, by the threads
        (BEFORE | {"device": "cpu: Xeon, 8 threads"}, ["device: cpu: EPYC -> cpu: Xeon"]),
        (BEFORE | {"device": "gpu: NVIDIA H200"}, ["device: cpu: EPYC -> gpu: NVIDIA H200"]),
        (_now(threads={"available": 4, "opencv": 8}), ["threads: 8 -> 4"]),
        (_now(threads={"available": 8, "opencv": 2}), ["threads of OpenCV: 8 -> 2"]),
        (_now(instructions=None), []),
        (
            _now(instructions=["amx_tile", "avx2", "fma"]),
            [
                "instructions of the processor, lost: avx512f",
                "instructions of the processor, new: amx_tile",
            ],
        ),
        (
            _now(variables={"XLA_FLAGS": "--a"}),
            ["OMP_NUM_THREADS: 4 -> not set", "XLA_FLAGS: not set -> --a"],
        ),
    ],
)
def test_each_difference_is_one_line(now, lines):
    assert differences(BEFORE, now) == lines


@pytest.mark.parametrize(
    ("recorded", "wanted", "has_gpu", "expected"),
    [
        ("cpu: EPYC, 8 threads", "auto", False, "cpu: Xeon"),
        ("cpu: EPYC, 8 threads", "cpu", True, "cpu: Xeon"),
        ("cpu: EPYC, 8 threads", "auto", True, "cpu: EPYC, 8 threads"),
        ("gpu: H200", "auto", False, "gpu: H200"),
        ("", "auto", False, ""),
    ],
)
def test_a_processor_is_known_without_the_engine(recorded, wanted, has_gpu, expected, monkeypatch):
    monkeypatch.setattr(module.machine, "processor", lambda: "Xeon")
    monkeypatch.setattr(module.machine, "has_nvidia_gpu", lambda: has_gpu)
    assert processor_as_device(recorded, wanted) == expected

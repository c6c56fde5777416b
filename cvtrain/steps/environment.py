"""The environment that affects results: versions, processor, threads and variables.

It is read without loading the engine, so that a run that must not be resumed is refused at once.
"""

import os
import platform
import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

import cv2
import PIL

from cvtrain.system import machine
from cvtrain.version import __version__

_VARIABLES = re.compile(
    r"TF_\w*(ONEDNN|ZENDNN|MKL|CUDNN|CUBLAS|XLA|THREADS)\w*"
    r"|(ONEDNN|DNNL|XLA|JAX|TORCH|CUBLAS)_(?!VERBOSE)\w+"
    r"|(OMP|MKL|OPENBLAS|NUMEXPR)_NUM_THREADS|MKL_(CBWR|ENABLE_INSTRUCTIONS|DYNAMIC)"
    r"|OMP_(DYNAMIC|THREAD_LIMIT|SCHEDULE)|OPENBLAS_CORETYPE|OPENCV_CPU_DISABLE|GLIBC_TUNABLES"
    r"|NVIDIA_TF32_OVERRIDE|KERAS_(BACKEND|MAX_EPOCHS|MAX_STEPS_PER_EPOCH)"
)
"""Variables that choose kernels or how many threads share a sum, and those that cut training short.
None of them is set by a library that is loaded here."""
_THREADS_OF_DEVICE = re.compile(r", \d+ threads$")


def environment() -> dict[str, Any]:
    """The field `environment` of run.json.

    Returns:
        `instructions`: the sorted instruction sets by which engines choose their kernels; None if
        the system does not report them. `threads`: the number for this process (`available`) and
        for OpenCV (`opencv`). `variables`: the environment variables that affect results.
    """
    return {
        "instructions": machine.instructions(),
        "threads": {"available": machine.num_threads(), "opencv": cv2.getNumThreads()},
        "variables": {
            name: os.environ[name] for name in sorted(os.environ) if _VARIABLES.fullmatch(name)
        },
    }


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decode images and fit linear heads."""
    return {
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "scikit-learn": metadata.version("scikit-learn"),
    }


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """The installed versions of `names`, as far as they are known without loading the engine."""
    known = library_versions() | {"python": platform.python_version(), "cvtrain": __version__}
    return {name: version for name in names if (version := known.get(name) or _installed(name))}


def processor_as_device(recorded: str, wanted: str) -> str:
    """The `device` that a run on a processor would record here; else `recorded`.

    Args:
        recorded: `device` of the run.
        wanted: `device` of the config.
    """
    if not recorded.startswith("cpu") or (wanted != "cpu" and machine.has_nvidia_gpu()):
        return recorded
    return f"cpu: {machine.processor()}"


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for each difference of two environments: `tensorflow: 2.20.0 -> 2.21.0`.

    Args:
        before, now: `versions`, `environment` and `device` as in run.json; missing fields are not
            compared.
    """
    versions = now.get("versions", {})
    lines = [
        f"{name}: {version} -> {versions[name]}"
        for name, version in before.get("versions", {}).items()
        if versions.get(name, version) != version
    ]
    devices = [_THREADS_OF_DEVICE.sub("", each.get("device", "")) for each in (before, now)]
    if all(devices) and devices[0] != devices[1]:
        lines.append(f"device: {devices[0]} -> {devices[1]}")
    if before.get("environment") and now.get("environment"):
        lines += _environment_differences(before["environment"], now["environment"])
    return lines


def _environment_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    lines = []
    had, has = before["instructions"], now["instructions"]
    if had is not None and has is not None:
        changes = {"lost": set(had) - set(has), "new": set(has) - set(had)}
        lines += [
            f"instructions of the processor, {what}: {', '.join(sorted(names))}"
            for what, names in changes.items()
            if names
        ]
    names = {"available": "threads", "opencv": "threads of OpenCV"}
    lines += _value_differences(before["threads"], now["threads"], names)
    return lines + _value_differences(before["variables"], now["variables"], {})


def _value_differences(
    before: Mapping[str, Any], now: Mapping[str, Any], names: Mapping[str, str]
) -> list[str]:
    return [
        f"{names.get(key, key)}: {before.get(key, 'not set')} -> {now.get(key, 'not set')}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # it may come under another name: tensorflow-cpu
        return None

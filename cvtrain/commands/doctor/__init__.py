"""`cvtrain doctor`: check versions, devices, speed, disk and weights, and suggest fixes."""

import contextlib
import io
import json
import math
import os
import platform
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cvtrain.errors import ResourceError
from cvtrain.images.augment import augment
from cvtrain.images.decode import Decoder
from cvtrain.models.imagenet import BACKBONES, keras_home, network_of, problem_fetching
from cvtrain.sections import Augment
from cvtrain.system import machine
from cvtrain.system.console import Console
from cvtrain.system.files import cache_dir
from cvtrain.system.json_subprocess import run_json_subprocess
from cvtrain.system.text import escape
from cvtrain.version import __version__

_GIB = 2**30
_ENGINE_SECONDS = 90.0
_INPUT_SECONDS = 1.0
_ENGINES = ("tensorflow", "jax", "torch")
_RIVALS = {
    "tensorflow": ("tensorflow-cpu", "tensorflow-intel", "tf-nightly"),
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python"),
    "pillow": ("pillow-simd",),
}
"""Packages that install the same files, so that it is undefined which one is imported."""


class Check(NamedTuple):
    """The result of one check; `state` is "ok", "warn" or "bad"."""

    what: str
    state: str
    found: str
    advice: str = ""


def doctor(*, as_json: bool, console: Console) -> None:
    """Run all checks, and print their results with advice.

    Raises:
        ResourceError: a check failed; all results have been printed.
    """
    console.info("checking and measuring, for at most half a minute")
    checks = (software, processor, memory, engine, input_path, disks, weights)
    findings = [finding for check in checks for finding in check()]
    if as_json:
        listed = [finding._asdict() for finding in findings]
        console.print(json.dumps({"findings": listed}, indent=2))
    else:
        for finding in findings:
            console.print(f"{finding.state:<4}  {finding.what:<15}  {escape(finding.found)}")
            if finding.advice:
                console.print(f"{'':<23}{escape(finding.advice)}")
    if bad := [finding.what for finding in findings if finding.state == "bad"]:
        raise ResourceError(f"failed: {', '.join(bad)}", "The advice is printed below each check.")


def software() -> Iterator[Check]:
    """Check the versions of the requirements, and find packages that conflict."""
    yield Check("cvtrain", "ok", f"{__version__}, Python {platform.python_version()}")
    required, missing = _required(), []
    for name, least in required.items():
        version = _version(name)
        if version is None or _numbers(version) < _numbers(least):
            missing.append(f"{name}>={least}")
    if missing:
        yield Check(
            "packages",
            "bad",
            f"missing or too old: {', '.join(missing)}",
            f"pip install --upgrade {' '.join(map(repr, missing))}",
        )
    elif required:
        yield Check("packages", "ok", f"all {len(required)} are recent enough")
    else:
        found = "cvtrain is not installed as a package, so its requirements cannot be checked"
        yield Check("packages", "warn", found, "pip install . in its folder")
    for name, rivals in _RIVALS.items():
        if clashing := [rival for rival in rivals if _version(name) and _version(rival)]:
            yield Check(
                name,
                "warn",
                f"{', '.join(clashing)} installs the same files",
                f"pip uninstall {' '.join(clashing)}; pip install --force-reinstall {name}",
            )


def processor() -> Iterator[Check]:
    """Check the instructions of the processor, and the number of threads."""
    features = machine.features()
    if features is None:
        instructions = "the instructions are unknown on this system"
    else:
        instructions = ", ".join(features) or "no vector instructions such as AVX2"
    is_slow = features == []
    yield Check(
        "processor",
        "warn" if is_slow else "ok",
        f"{machine.processor()}: {instructions}",
        "Use a machine with AVX2 or a GPU." if is_slow else "",
    )
    threads, quota = machine.num_threads(), machine.processor_quota()
    if quota is not None and quota < threads:
        few = math.ceil(quota)
        yield Check(
            "threads",
            "warn",
            f"{threads}, but the container is limited to {quota:g} processors, so threads wait",
            f"export TF_NUM_INTRAOP_THREADS={few} OMP_NUM_THREADS={few}",
        )
    else:
        yield Check("threads", "ok", f"{threads} of {os.cpu_count()}")
    load = machine.load()
    if load is not None and load > threads / 2:
        yield Check(
            "load",
            "warn",
            f"{load:.1f} processes are running, so the measured speeds are too low",
            "Run the command again when the machine is idle.",
        )


def memory() -> Iterator[Check]:
    """Check the available memory."""
    available = machine.available_memory()
    state = "ok" if available >= 2 * _GIB else "warn" if available >= _GIB / 2 else "bad"
    advice = "" if state == "ok" else "Close other programs, or lower batch_size and image_size."
    yield Check("memory", state, f"{available / _GIB:.1f} GiB available", advice)


def engine() -> Iterator[Check]:
    """Check the Keras backend, its device and its speed, in another process."""
    facts, problem = run_json_subprocess(
        "cvtrain.commands.doctor.engine_probe", seconds=_ENGINE_SECONDS
    )
    if "engine" not in facts:
        name = os.environ.get("KERAS_BACKEND", "tensorflow")
        advice = (
            f"pip install --force-reinstall keras {name}; for details: python -c 'import {name}'"
        )
        if name not in _ENGINES:
            advice = f"KERAS_BACKEND must be one of {', '.join(_ENGINES)}, or not be set"
        yield Check("engine", "bad", f"Keras and {name} cannot be loaded: {problem}", advice)
        return
    name, versions = facts["engine"], facts["versions"]
    yield Check("engine", "ok", f"{name} {versions[name]}, Keras {versions['keras']}")
    if "device" not in facts:
        yield Check(
            "device",
            "bad",
            f"cannot be set up: {problem}",
            "For details: TF_CPP_MIN_LOG_LEVEL=0 cvtrain doctor",
        )
        return
    yield from _device(name, facts["device"], facts["has_gpu_build"])
    rates: dict[str, float] = {key: facts[key] for key in ("float32", "bfloat16") if key in facts}
    if len(rates) < 2:
        yield Check("convolutions", "warn", f"not measured: {problem}", "Run the command again.")
        return
    yield Check(
        "convolutions",
        "ok",
        ", ".join(f"{key} {rate:,.0f}" for key, rate in rates.items()) + " GFLOP/s",
    )
    yield _precision(rates, facts["chosen"])


def input_path() -> Iterator[Check]:
    """Measure the number of photographs that are decoded and augmented per second."""
    content, decode = _photograph(), Decoder((224, 224))
    change = Augment(flip="horizontal", rotate=10, shift=0.1, zoom=0.1)
    ends = time.perf_counter() + _INPUT_SECONDS

    def work(thread: int) -> int:
        number = 0
        while time.perf_counter() < ends:
            augment(decode(content).pixels, change, seed=0, epoch=thread, sample=number)
            number += 1
        return number

    threads = machine.num_threads()
    with ThreadPoolExecutor(threads) as pool:
        number = sum(pool.map(work, range(threads)))
    speed = number / _INPUT_SECONDS
    yield Check(
        "decoding", "ok", f"{speed:,.0f} JPEGs/s of 600 x 400 pixels, augmented at 224 x 224"
    )


def disks() -> Iterator[Check]:
    """Check the disks of the cache and of the current folder."""
    cache, sizes = cache_dir(), []
    for path in cache.rglob("*"):
        with contextlib.suppress(OSError):  # another command may remove files
            if path.is_file():
                sizes.append(path.stat().st_size)
    found = f"{escape(cache)}: {len(sizes):,} files, {sum(sizes) / _GIB:.2f} GiB"
    yield _folder("cache", cache, found, "set CVTRAIN_CACHE to another folder")
    yield _folder("current folder", Path.cwd(), escape(Path.cwd()), "use another folder")


def weights() -> Iterator[Check]:
    """Check which pretrained weights are available, and whether others can be downloaded."""
    folder = keras_home() / "models"
    here = sorted({str(backbone) for file in folder.glob("*.h5") if (backbone := network_of(file))})
    kept = f"on this machine: {', '.join(here)}" if here else "none on this machine yet"
    address = BACKBONES[0].address(224)
    problem = problem_fetching(address)
    if not problem:
        yield Check("weights", "ok", f"can be downloaded; {kept}")
    else:
        yield Check(
            "weights",
            "ok" if here else "warn",
            f"cannot be downloaded ({problem}); {kept}",
            f"Download {address} elsewhere and put it into {escape(folder)}, or name the file: "
            "cvtrain init PATH --weights FILE",
        )


def _device(engine: str, device: str, has_gpu_build: bool) -> Iterator[Check]:
    if device.startswith("gpu") or not machine.has_nvidia_gpu():
        yield Check("device", "ok", device)
    elif not has_gpu_build:
        yield Check(
            "device",
            "warn",
            f"{device}; there is an NVIDIA GPU, but this build of {engine} cannot use it",
            "pip install 'tensorflow[and-cuda]'",
        )
    else:
        yield Check(
            "device",
            "warn",
            f"{device}; there is an NVIDIA GPU that {engine} does not see",
            "The CUDA libraries may be missing (pip install 'tensorflow[and-cuda]'), the driver "
            "may be too old (nvidia-smi), or CUDA_VISIBLE_DEVICES may be empty.",
        )


def _precision(rates: dict[str, float], chosen: list[str]) -> Check:
    faster = rates["bfloat16"] / rates["float32"]
    counts = ", ".join(f"{count} {name}" for name, count in Counter(chosen).most_common())
    measured = f"chosen so far: {counts}" if counts else "no model was measured yet"
    return Check(
        "precision: auto",
        "ok",
        f"measures each model once ({escape(cache_dir() / 'precision.json')}); {measured}; "
        f"convolutions are {faster:.1f} times as fast in bfloat16",
    )


def _folder(what: str, folder: Path, found: str, otherwise: str) -> Check:
    existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(existing).free
    found = f"{found}, {free / _GIB:.1f} GiB free"
    if not os.access(existing, os.W_OK | os.X_OK):
        return Check(
            what, "bad", f"{found}, not writable", f"Change its permissions, or {otherwise}."
        )
    state = "ok" if free >= 2 * _GIB else "warn" if free >= _GIB / 4 else "bad"
    return Check(what, state, found, "" if state == "ok" else f"Free some space, or {otherwise}.")


def _required() -> dict[str, str]:
    """The requirements of cvtrain, with their minimal versions."""
    try:
        lines = metadata.requires("cvtrain") or []
    except metadata.PackageNotFoundError:
        return {}
    found = (re.match(r"([\w.-]+)\s*\(?>=([\d.]+)\)?$", line) for line in lines)
    return {each[1]: each[2] for each in found if each}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _photograph() -> bytes:
    """A JPEG of 600 x 400 pixels, about as smooth as a photograph."""
    from PIL import Image

    coarse = np.random.default_rng(0).integers(0, 256, (50, 75, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((600, 400), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()

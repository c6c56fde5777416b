"""What this machine is, as far as the operating system tells without loading anything."""

import os
import platform
import re
from pathlib import Path

_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
"""Instructions that decide how fast a network is, by Linux' names: the first four of x86, the
others of ARM."""
_KERNELS = re.compile(r"(sse4|avx|fma|f16c|amx|asimd|sve|sme(?!p)|bf16|i8mm)\w*")
"""Those by which an engine chooses a kernel, and so the order of its sums."""
_CGROUPS = Path("/sys/fs/cgroup")


def processor() -> str:
    """The name of the processor, as well as the system knows it."""
    return _of_cpuinfo("model name") or platform.processor() or platform.machine()


def features() -> list[str] | None:
    """Which of the instructions that matter the processor has; None where nobody says."""
    flags = _flags()
    return [feature for feature in _FEATURES if feature in flags] if flags else None


def instructions() -> list[str] | None:
    """All by which engines choose their kernels, sorted; None where nobody says."""
    flags = _flags()
    return sorted(filter(_KERNELS.fullmatch, flags)) if flags else None


def num_threads() -> int:
    """Threads that this process may run at once, by its affinity."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Linux alone says
        return os.cpu_count() or 1


def processor_quota() -> float | None:
    """How many processors the container of this process may use; None where there is no limit."""
    quotas = []
    for folder in _cgroup_folders():
        match _words(folder / "cpu.max"):  # version 2
            case [quota, period] if quota.isdigit():
                quotas.append(int(quota) / int(period))
        match _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us"):
            case [quota, period] if quota.isdigit():  # version 1; -1 is no limit
                quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def has_nvidia_gpu() -> bool:
    """Is there a graphics card of NVIDIA, whoever can use it?"""
    return any(Path(path).exists() for path in ("/dev/nvidia0", "/proc/driver/nvidia/version"))


def _cgroup_folders() -> set[Path]:
    """Where the limits of this process may stand, in either version of control groups."""
    folders = {_CGROUPS, _CGROUPS / "cpu"}
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        name = "cpu" if "cpu" in controllers.split(",") else ""
        if name or not controllers:
            folders.add(_CGROUPS / name / path.lstrip("/"))
    return folders


def _flags() -> list[str]:
    return (_of_cpuinfo("flags") or _of_cpuinfo("Features")).split()


def _of_cpuinfo(key: str) -> str:
    for line in _lines(Path("/proc/cpuinfo")):
        name, _, value = line.partition(":")
        if name.strip() == key:
            return " ".join(value.split())
    return ""


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []

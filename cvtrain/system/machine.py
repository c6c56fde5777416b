"""Facts about this machine that the operating system reports."""

import ctypes
import os
import platform
import re
from pathlib import Path

_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
"""Instruction sets that decide how fast a network is, by their names in Linux: four of x86, then
those of ARM."""
_KERNELS = re.compile(r"(sse4|avx|fma|f16c|amx|asimd|sve|sme(?!p)|bf16|i8mm)\w*")
"""Those by which an engine chooses a kernel, and so the order of its sums."""
_CGROUPS = Path("/sys/fs/cgroup")
_ASSUMED_MEMORY = 4 * 2**30


def processor() -> str:
    """The name of the processor."""
    return _of_cpuinfo("model name") or platform.processor() or platform.machine()


def features() -> list[str] | None:
    """The important instruction sets of the processor; None if unknown."""
    flags = _flags()
    return [feature for feature in _FEATURES if feature in flags] if flags else None


def instructions() -> list[str] | None:
    """All instruction sets by which engines choose kernels, sorted; None if unknown."""
    flags = _flags()
    return sorted(filter(_KERNELS.fullmatch, flags)) if flags else None


def num_threads() -> int:
    """Number of threads that this process may run at once, by its affinity."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def load() -> float | None:
    """Mean number of running processes in the last minute; None if unknown."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def processor_quota() -> float | None:
    """Number of processors that the container of this process may use; None without a limit."""
    quotas = []
    for folder in _cgroup_folders("cpu"):
        match _words(folder / "cpu.max"):  # version 2
            case [quota, period] if quota.isdigit():
                quotas.append(int(quota) / int(period))
        match _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us"):
            case [quota, period] if quota.isdigit():  # version 1; -1 is no limit
                quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def available_memory() -> int:
    """Bytes of memory that this process may still use, in the machine or its container."""
    memory = _memory()
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            memory = int(line.split()[1]) * 1024
    for folder in _cgroup_folders("memory"):
        for limit, used, unused in (
            ("memory.max", "memory.current", "inactive_file"),  # version 2
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
        ):
            match _words(folder / limit) + _words(folder / used):
                case [most, now] if most.isdigit() and now.isdigit():
                    # Files that the system keeps at hand count as used, and give way.
                    kept = _number_of(unused, _lines(folder / "memory.stat"))
                    memory = min(memory, max(0, int(most) - int(now) + kept))
    return memory


def has_nvidia_gpu() -> bool:
    """Whether the machine has an NVIDIA GPU, usable or not."""
    return any(Path(path).exists() for path in ("/dev/nvidia0", "/proc/driver/nvidia/version"))


def _memory() -> int:
    """Bytes of memory: that of the machine, on Windows what is free of it."""
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if hasattr(ctypes, "windll"):
        # MEMORYSTATUSEX: its own length of 64 bytes, all memory, free memory, five other numbers.
        status = (ctypes.c_uint64 * 8)(64)
        ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return status[2]
    return _ASSUMED_MEMORY


def _cgroup_folders(controller: str) -> set[Path]:
    """Where the limits of this process may stand, in either version of control groups."""
    folders = {_CGROUPS, _CGROUPS / controller}
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        name = controller if controller in controllers.split(",") else ""
        if name or not controllers:
            own = Path(path.lstrip("/"))
            folders |= {_CGROUPS / name / each for each in (own, *own.parents)}
    return folders


def _flags() -> list[str]:
    return (_of_cpuinfo("flags") or _of_cpuinfo("Features")).split()


def _of_cpuinfo(key: str) -> str:
    for line in _lines(Path("/proc/cpuinfo")):
        name, _, value = line.partition(":")
        if name.strip() == key:
            return " ".join(value.split())
    return ""


def _number_of(key: str, lines: list[str]) -> int:
    words = (line.split() for line in lines)
    return next((int(value) for name, value in words if name == key), 0)


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []

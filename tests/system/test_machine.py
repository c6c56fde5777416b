"""What the operating system tells, against files laid out as it does."""

import os

import pytest

from cvtrain.system import machine

CPUINFO = """processor\t: 0
model name\t: AMD EPYC 7B13   64-Core Processor
flags\t\t: fpu avx avx2 avx512f avx512_bf16 amx_bf16x
processor\t: 1
"""


@pytest.fixture
def cpuinfo(monkeypatch):
    """cpuinfo(text): what /proc/cpuinfo says."""

    def say(text):
        monkeypatch.setattr(
            machine, "_lines", lambda path: text.splitlines() if path.name == "cpuinfo" else []
        )

    return say


def test_features_are_whole_words_of_the_flags(cpuinfo):
    cpuinfo(CPUINFO)
    assert machine.features() == ["avx2", "avx512f", "avx512_bf16"]
    assert machine.processor() == "AMD EPYC 7B13 64-Core Processor"


def test_instructions_are_those_that_choose_kernels(cpuinfo):
    cpuinfo("flags: fpu smep sse2 sse4_1 fma avx avx_vnni avx512_bf16 amx_tile f16c aes mmx\n")
    names = ["amx_tile", "avx", "avx512_bf16", "avx_vnni", "f16c", "fma", "sse4_1"]
    assert machine.instructions() == names
    cpuinfo("Features: fp asimd asimddp bf16 sve2 crc32\n")
    assert machine.instructions() == ["asimd", "asimddp", "bf16", "sve2"]
    cpuinfo("")
    assert machine.instructions() is None


def test_arm_has_other_names(cpuinfo):
    cpuinfo("processor: 0\nFeatures: fp asimd bf16 sve\n")
    assert machine.features() == ["asimd", "bf16"]


def test_systems_that_do_not_tell_are_not_guessed_about(cpuinfo):
    cpuinfo("")
    assert machine.features() is None
    assert machine.processor()


def test_threads_are_those_of_the_affinity():
    assert 1 <= machine.num_threads() <= os.cpu_count()


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """cgroups(files): the control groups of a process in `/deep/er`, of a machine with 500 KiB."""
    known = {
        "/proc/self/cgroup": ["4:memory:/v1/own", "0::/deep/er"],
        "/proc/meminfo": ["MemTotal: 900 kB", "MemAvailable: 500 kB"],
    }
    own = machine._lines
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "_lines", lambda path: known.get(str(path)) or own(path))

    def lay_out(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")

    return lay_out


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "400000 100000", "deep/er/cpu.max": "50000 100000"}, 0.5),
        ({"deep/cpu.max": "50000 100000", "deep/er/cpu.max": "max 100000"}, 0.5),
        ({}, None),
    ],
)
def test_the_tightest_quota_counts(cgroups, files, quota):
    cgroups(files)
    assert machine.processor_quota() == quota


V1 = "memory/v1/own/memory."


@pytest.mark.parametrize(
    ("files", "available"),
    [
        ({}, 512_000),
        ({"memory.max": "max", "memory.current": "70000"}, 512_000),
        ({"memory.max": "100000", "memory.current": "70000"}, 30_000),
        ({"memory.max": "100000", "memory.current": "100001"}, 0),
        ({"deep/memory.max": "100000", "deep/memory.current": "70000",
          "deep/memory.stat": "anon 50000\ninactive_file 20000"}, 50_000),
        ({f"{V1}limit_in_bytes": "90000", f"{V1}usage_in_bytes": "70000",
          f"{V1}stat": "inactive_file 1\ntotal_inactive_file 5000"}, 25_000),
        ({f"{V1}limit_in_bytes": "9223372036854771712", f"{V1}usage_in_bytes": "70000"}, 512_000),
    ],
)  # fmt: skip
def test_available_is_what_the_machine_and_the_container_leave(cgroups, files, available):
    cgroups(files)
    assert machine.available_memory() == available

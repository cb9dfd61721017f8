from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from longlens.machine import Machine, MemoryPressure, detect_machine, memory_pressure, query_nvidia_smi
from longlens.units import GIB, KIB, MIB

TWO_CORES_FOUR_THREADS = "\n\n".join(
    f"processor\t: {number}\nmodel name\t: Testium 9000\nphysical id\t: 0\ncore id\t\t: {number // 2}\n"
    "flags\t\t: fpu sse2 avx2 fma avx512f avx512_vnni"
    for number in range(4)
)
MEMINFO = "MemTotal:       8388608 kB\nMemFree: 1048576 kB\nMemAvailable:   4194304 kB\n"
ALL_CPUS = frozenset(range(4))


def write_root(root: Path, **files: str) -> Path:
    """Lay out a system root: `proc__cpuinfo` is proc/cpuinfo."""
    for name, content in {"proc__cpuinfo": TWO_CORES_FOUR_THREADS, "proc__meminfo": MEMINFO, **files}.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def write_group(root: Path, folder: str, **files: str) -> None:
    path = root / "sys/fs/cgroup" / folder
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name.replace("__", ".")).write_text(content)


def detect(root: Path, cpus: frozenset[int] = ALL_CPUS, gpus: str = "") -> Machine:
    return detect_machine(root=root, cpus=cpus, query_gpus=lambda: gpus)


def test_threads_of_one_core_count_once(tmp_path: Path) -> None:
    machine = detect(write_root(tmp_path))
    assert (machine.num_physical_cores, machine.num_logical_cores, machine.num_threads) == (2, 4, 2)
    assert machine.cpu_name == "Testium 9000"


def test_affinity_takes_cores_away(tmp_path: Path) -> None:
    machine = detect(write_root(tmp_path), cpus=frozenset({2, 3}))
    assert (machine.num_physical_cores, machine.num_logical_cores) == (1, 2)


def test_only_instruction_sets_that_kernels_know_are_listed(tmp_path: Path) -> None:
    assert detect(write_root(tmp_path)).instruction_sets == ("fma", "avx2", "avx512f", "avx512_vnni")


def test_an_arm_processor_lists_features_and_no_core_numbers(tmp_path: Path) -> None:
    cpuinfo = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n\nprocessor\t: 1\nFeatures\t: fp asimd asimddp i8mm\n"
    machine = detect(write_root(tmp_path, proc__cpuinfo=cpuinfo), cpus=frozenset({0, 1}))
    assert machine.instruction_sets == ("asimd", "asimddp", "i8mm")
    assert 1 <= machine.num_physical_cores <= machine.num_logical_cores == 2
    assert machine.cpu_name


def test_without_a_control_group_the_machine_is_the_limit(tmp_path: Path) -> None:
    machine = detect(write_root(tmp_path))
    assert machine.cpu_quota is None
    assert (machine.memory_total_bytes, machine.memory_available_bytes) == (8 * GIB, 4 * GIB)


def test_the_tightest_control_group_on_the_way_up_limits(tmp_path: Path) -> None:
    write_root(tmp_path, proc__self__cgroup="0::/shop/till\n")
    write_group(tmp_path, "", cpu__max="max 100000\n", memory__max="max\n", memory__current="1\n")
    write_group(tmp_path, "shop", cpu__max="150000 100000\n", memory__max=f"{2 * GIB}\n", memory__current=f"{GIB}\n")
    write_group(tmp_path, "shop/till", cpu__max="250000 100000\n", memory__max=f"{3 * GIB}\n", memory__current="0\n")
    machine = detect(tmp_path)
    assert machine.cpu_quota == 1.5
    assert machine.num_threads == 2
    assert (machine.memory_total_bytes, machine.memory_available_bytes) == (2 * GIB, GIB)


def test_a_quota_below_one_processor_still_gives_one_thread(tmp_path: Path) -> None:
    write_root(tmp_path, proc__self__cgroup="0::/\n")
    write_group(tmp_path, "", cpu__max="20000 100000\n")
    machine = detect(tmp_path)
    assert (machine.cpu_quota, machine.num_threads) == (0.2, 1)


def test_a_group_named_by_the_host_is_found_at_the_top_inside_a_container(tmp_path: Path) -> None:
    write_root(tmp_path, proc__self__cgroup="0::/on/the/host/only\n")
    write_group(tmp_path, "", memory__max=f"{GIB}\n", memory__current="0\n")
    assert detect(tmp_path).memory_total_bytes == GIB


def test_cached_files_that_nobody_uses_do_not_count_as_used(tmp_path: Path) -> None:
    write_root(tmp_path, proc__self__cgroup="0::/\n")
    statistics = f"anon 5\ninactive_file {GIB // 2}\n"
    write_group(tmp_path, "", memory__max=f"{GIB}", memory__current=f"{GIB}", memory__stat=statistics)
    assert detect(tmp_path).memory_available_bytes == GIB // 2


def test_a_group_over_its_limit_has_nothing_left(tmp_path: Path) -> None:
    write_root(tmp_path, proc__self__cgroup="0::/\n")
    write_group(tmp_path, "", memory__max=f"{GIB}", memory__current=f"{2 * GIB}")
    assert detect(tmp_path).memory_available_bytes == 0


def test_control_groups_of_version_1_limit_too(tmp_path: Path) -> None:
    write_root(tmp_path, proc__self__cgroup="4:memory:/box\n2:cpu,cpuacct:/box\n0::/\n")
    write_group(tmp_path, "cpu/box", cpu__cfs_quota_us="100000\n", cpu__cfs_period_us="100000\n")
    limits = {"memory__limit_in_bytes": f"{GIB}", "memory__usage_in_bytes": f"{GIB // 2}"}
    write_group(tmp_path, "memory/box", **limits, memory__stat=f"total_inactive_file {GIB // 4}\n")
    write_group(tmp_path, "memory", memory__limit_in_bytes="9223372036854771712", memory__usage_in_bytes="0")
    machine = detect(tmp_path)
    assert (machine.cpu_quota, machine.num_threads) == (1.0, 1)
    assert (machine.memory_total_bytes, machine.memory_available_bytes) == (GIB, 3 * GIB // 4)


def test_version_1_says_minus_one_for_no_quota(tmp_path: Path) -> None:
    write_root(tmp_path, proc__self__cgroup="2:cpu:/\n")
    write_group(tmp_path, "cpu", cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    assert detect(tmp_path).cpu_quota is None


def test_a_system_without_proc_is_asked_in_another_way(tmp_path: Path) -> None:
    machine = detect(tmp_path)
    assert machine.memory_total_bytes >= machine.memory_available_bytes > 0
    assert machine.instruction_sets == ()
    assert machine.num_threads >= 1


def test_devices_are_listed_in_the_drivers_order(tmp_path: Path) -> None:
    listing = "GPU-a, NVIDIA H100 80GB HBM3, 9.0, 81559, 81000\nGPU-b, NVIDIA B200, 10.0, 183359, 12\n"
    machine = detect(write_root(tmp_path), gpus=listing)
    assert [gpu.uuid for gpu in machine.gpus] == ["GPU-a", "GPU-b"]
    assert machine.gpus[0].name == "NVIDIA H100 80GB HBM3"
    assert machine.gpus[1].compute_capability == (10, 0)
    assert (machine.gpus[1].memory_total_bytes, machine.gpus[1].memory_free_bytes) == (183359 * MIB, 12 * MIB)
    assert machine.gpu_fault is None


def test_no_driver_is_no_fault(tmp_path: Path) -> None:
    machine = detect(write_root(tmp_path))
    assert (machine.gpus, machine.gpu_fault) == ((), None)


def refuse() -> str:
    raise subprocess.CalledProcessError(9, "nvidia-smi")


def hang() -> str:
    raise subprocess.TimeoutExpired("nvidia-smi", 20)


@pytest.mark.parametrize("query", [refuse, hang, lambda: "GPU-a, name, 9.0, [N/A], [N/A]", lambda: "an error\n"])
def test_a_driver_that_cannot_be_asked_is_said_and_not_fatal(tmp_path: Path, query) -> None:
    machine = detect_machine(root=write_root(tmp_path), cpus=ALL_CPUS, query_gpus=query)
    assert machine.gpus == ()
    assert machine.gpu_fault is not None
    assert "nvidia-smi" in machine.gpu_fault


def test_the_drivers_tool_is_found_on_the_path_and_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\necho "GPU-a, name, 9.0, 1, 1"\necho "$@" >&2\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert query_nvidia_smi() == "GPU-a, name, 9.0, 1, 1\n"


def test_without_the_drivers_tool_there_is_nothing_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert query_nvidia_smi() == ""


def test_this_machine_has_a_name_cores_and_memory() -> None:
    machine = detect_machine(query_gpus=str)
    assert machine.cpu_name
    assert 1 <= machine.num_threads <= machine.num_physical_cores <= machine.num_logical_cores
    assert machine.memory_total_bytes >= machine.memory_available_bytes > 0


def test_swap_and_faults_are_read_past_a_name_with_blanks_and_parentheses(tmp_path: Path) -> None:
    write_root(
        tmp_path,
        proc__self__status="Name:\ta) b\nVmRSS:\t  10 kB\nVmSwap:\t     12 kB\n",
        proc__self__stat="77 (a) b (c) S 1 2 3 4 5 6 1000 0 42 0 9 9\n",
    )
    assert memory_pressure(root=tmp_path) == MemoryPressure(vm_swap_bytes=12 * KIB, major_faults=42)


def test_what_the_system_does_not_say_is_none(tmp_path: Path) -> None:
    assert memory_pressure(root=tmp_path) == MemoryPressure(vm_swap_bytes=None, major_faults=None)


def test_a_kernel_without_swap_accounting_still_counts_faults(tmp_path: Path) -> None:
    write_root(tmp_path, proc__self__status="Name:\ta\n", proc__self__stat="77 (a) S 1 2 3 4 5 6 1000 0 42 0 9 9\n")
    assert memory_pressure(root=tmp_path) == MemoryPressure(vm_swap_bytes=None, major_faults=42)


def test_the_pressure_on_this_process_can_be_read() -> None:
    pressure = memory_pressure()
    assert pressure.major_faults is None or pressure.major_faults >= 0

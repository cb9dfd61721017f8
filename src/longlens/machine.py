"""What this machine is: processor, memory and graphics processors, as this process may use them.

Detects and measures nothing: every number is one that the operating system or the driver states.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path

import psutil

from longlens.units import KIB, MIB

# The ones that a kernel may ask for; /proc/cpuinfo's spelling.
_INSTRUCTION_SETS = (
    *("f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_vbmi"),
    *("avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2"),
)
_GPU_FIELDS = "uuid,name,compute_cap,memory.total,memory.free"
_GPU_QUERY_SECONDS = 20


@dataclass(frozen=True)
class Gpu:
    """One graphics processor as its driver lists it; `uuid` tells it apart from its twins."""

    uuid: str
    name: str
    compute_capability: tuple[int, int]
    memory_total_bytes: int
    memory_free_bytes: int


@dataclass(frozen=True)
class Machine:
    """The machine as this process may use it.

    Attributes:
        cpu_name: the processor's name.
        num_physical_cores: cores that the process may run on; two threads of one core count once.
        num_logical_cores: processors in the operating system's sense that the process may run on.
        cpu_quota: processors' worth of time that the control group grants; None without a limit.
        instruction_sets: the vector extensions that kernels know about, as the kernel spells them.
        memory_total_bytes: memory of the machine, or the control group's limit where that is lower.
        memory_available_bytes: what can be allocated without swapping, within that limit.
        gpus: in the driver's order; empty without one.
        gpu_fault: why a driver that is there could not be asked; None if all is well or there is none.
    """

    cpu_name: str
    num_physical_cores: int
    num_logical_cores: int
    cpu_quota: float | None
    instruction_sets: tuple[str, ...]
    memory_total_bytes: int
    memory_available_bytes: int
    gpus: tuple[Gpu, ...] = ()
    gpu_fault: str | None = None

    @property
    def num_threads(self) -> int:
        """Threads worth starting for arithmetic: one per core, and no more than the quota feeds."""
        if self.cpu_quota is None:
            return self.num_physical_cores
        return min(self.num_physical_cores, math.ceil(self.cpu_quota))


@dataclass(frozen=True)
class MemoryPressure:
    """Signs that this process does not fit; None for what the operating system does not say.

    Attributes:
        vm_swap_bytes: memory of this process that lies in swap.
        major_faults: page faults since the start that had to wait for a disk. Reading a mapped file causes them too.
    """

    vm_swap_bytes: int | None
    major_faults: int | None


def query_nvidia_smi() -> str:
    """Ask NVIDIA's driver for its devices, one line of comma-separated values each; empty without a driver.

    Raises:
        OSError: the driver's tool could not be started.
        subprocess.SubprocessError: it failed, or did not answer in time.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    command = [tool, f"--query-gpu={_GPU_FIELDS}", "--format=csv,noheader,nounits"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=_GPU_QUERY_SECONDS, check=True)
    return answer.stdout


def detect_machine(
    *, root: Path = Path("/"), cpus: Set[int] | None = None, query_gpus: Callable[[], str] = query_nvidia_smi
) -> Machine:
    """Describe the machine as this process may use it: affinity and control-group limits count.

    Args:
        root: where /proc and /sys are found.
        cpus: numbers of the processors that the process may run on; the operating system is asked if None.
        query_gpus: answers with the driver's list of devices.

    Source:
        proc(5); Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
    """
    usable = _usable_cpus() if cpus is None else cpus
    processors = [p for p in _processors(root) if int(p["processor"]) in usable]
    first = processors[0] if processors else {}
    cores = {(p["physical id"], p["core id"]) for p in processors if "physical id" in p and "core id" in p}
    flags = set(first.get("flags", first.get("Features", "")).split())
    total, available = _memory(root)
    gpus, gpu_fault = _gpus(query_gpus)
    return Machine(
        cpu_name=first.get("model name") or platform.processor() or platform.machine(),
        num_physical_cores=len(cores) or min(len(usable), psutil.cpu_count(logical=False) or len(usable)),
        num_logical_cores=len(usable),
        cpu_quota=min(_cpu_quotas(root), default=None),
        instruction_sets=tuple(name for name in _INSTRUCTION_SETS if name in flags),
        memory_total_bytes=total,
        memory_available_bytes=available,
        gpus=gpus,
        gpu_fault=gpu_fault,
    )


def memory_pressure(*, root: Path = Path("/")) -> MemoryPressure:
    """Read how much of this process lies in swap, and how often it had to wait for a disk.

    Source:
        proc(5): VmSwap in /proc/self/status; field 12, majflt, of /proc/self/stat.
    """
    swap = _fields(root / "proc/self/status").get("VmSwap")
    stat = _read(root / "proc/self/stat")
    if stat is None:  # not Linux: macOS counts page-ins, and swap per process is nowhere to be read
        return MemoryPressure(vm_swap_bytes=None, major_faults=getattr(psutil.Process().memory_info(), "pageins", None))
    # The command's name in parentheses may hold blanks and parentheses; after it comes field 3.
    fields = stat.rpartition(")")[2].split()
    return MemoryPressure(
        vm_swap_bytes=None if swap is None else _kib(swap),
        major_faults=int(fields[12 - 3]),
    )


def _usable_cpus() -> Set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(psutil.cpu_count() or 1))


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _fields(path: Path) -> dict[str, str]:
    lines = (_read(path) or "").splitlines()
    return {name.strip(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}


def _kib(value: str) -> int:
    return int(value.split()[0]) * KIB


def _processors(root: Path) -> Iterator[dict[str, str]]:
    for paragraph in (_read(root / "proc/cpuinfo") or "").split("\n\n"):
        lines = (line.partition(":") for line in paragraph.splitlines())
        fields = {name.strip(): value.strip() for name, colon, value in lines if colon}
        if "processor" in fields:
            yield fields


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control group and of all groups around it, which limit it as well.

    Inside a container the group's path is often one of the host; the folders that do not exist are passed over,
    and the top of the hierarchy, which the container sees as its own group, is always looked at.
    """
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            hierarchy = root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            hierarchy = root / "sys/fs/cgroup" / controller
        else:
            continue
        group = hierarchy / path.strip().lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_dir():
                yield folder
            if folder == hierarchy:
                break


def _number(path: Path) -> int | None:
    text = (_read(path) or "").strip()
    return int(text) if text.lstrip("-").isdigit() else None  # "max" says that there is no limit


def _cpu_quotas(root: Path) -> Iterator[float]:
    for folder in _control_groups(root, "cpu"):
        match (_read(folder / "cpu.max") or "").split():
            case [quota, period] if quota != "max":
                yield int(quota) / int(period)
        quota_us, period_us = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota_us is not None and period_us and quota_us > 0:
            yield quota_us / period_us


def _memory(root: Path) -> tuple[int, int]:
    """Return total and available bytes, each the lowest that the machine or a control group states."""
    meminfo = _fields(root / "proc/meminfo")
    if "MemTotal" in meminfo and "MemAvailable" in meminfo:
        total, available = _kib(meminfo["MemTotal"]), _kib(meminfo["MemAvailable"])
    else:
        memory = psutil.virtual_memory()
        total, available = memory.total, memory.available
    for folder in _control_groups(root, "memory"):
        for limit_name, usage_name, cache_name in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, usage = _number(folder / limit_name), _number(folder / usage_name)
            if limit is None or usage is None:
                continue
            statistics = (line.split() for line in (_read(folder / "memory.stat") or "").splitlines())
            # Pages of files that nobody used lately count as used, yet the kernel drops them first.
            droppable = next((int(fields[1]) for fields in statistics if fields[:1] == [cache_name]), 0)
            total, available = min(total, limit), min(available, max(0, limit - usage + droppable))
    return total, available


def _gpus(query_gpus: Callable[[], str]) -> tuple[tuple[Gpu, ...], str | None]:
    try:
        return tuple(_parse_gpu(line) for line in query_gpus().splitlines() if line.strip()), None
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return (), f"nvidia-smi could not be read: {error}"


def _parse_gpu(line: str) -> Gpu:
    uuid, name, capability, total, free = (field.strip() for field in line.split(","))
    major, minor = capability.split(".")
    return Gpu(uuid, name, (int(major), int(minor)), int(total) * MIB, int(free) * MIB)

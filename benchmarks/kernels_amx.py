"""AMX against AVX512-VNNI, and how both scale with threads: one JSON object on the standard output.

    OMP_WAIT_POLICY=passive python -m benchmarks.kernels_amx [THREADS,THREADS,...]

Run from the repository's root on a quiet machine; it takes under four minutes. Every part is a process of its own, so
that one that ends badly (an instruction that the processor has not, say) leaves the others:

- machine: the processor and the units that run on it;
- check: the AMX unit (emulated where there is none) against the plain loops on random shapes of every type;
- gemm: a 6144 x 6144 matrix times 32, 128 and 512 rows, units in turn, GOP/s (2 a product);
- gemv: one row, over more matrices than fit into a cache, GB/s of weights beside what as many threads can read;
- dequantise: Gweights/s of one thread, to bf16.

Threads are 1, 2, 4, 8, 16 as far as there are cores, if none are named.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from statistics import median

import numpy as np
import torch

from longlens.bench.provenance import checkout_commit
from longlens.kernels import _native
from longlens.kernels.dequantise import FAST_TYPES, expand
from longlens.kernels.native import NativeKernels
from longlens.kernels.packed import PackedTensor
from longlens.machine import detect_machine
from tests.kernels.random_matrices import TYPES, distance, random_matrix, random_rows

_AMX, _EMULATED, _AVX512, _PLAIN = "AMX", "AMX emulated", "AVX512-VNNI", "plain loops"
_TYPES = ("Q4_K", "Q6_K", "Q8_0")
_SIDE = 6144
_ROUNDS = 7
_CACHE_BYTES = 600 * 2**20  # more than any last cache of today
_PART_SECONDS = 100
_CLOSE = 2e-5


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def machine() -> dict[str, object]:
    info = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout.splitlines()
    names = ("Model name", "CPU(s)", "Thread(s) per core", "Socket(s)", "NUMA node(s)", "L2 cache", "L3 cache")
    facts = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in info}
    flags = [flag for flag in facts.get("Flags", "").split() if flag.startswith(("amx", "avx512_vnni", "avx512_bf16"))]
    return {
        **{name: facts.get(name, "") for name in names},
        "flags": flags,
        "units": _native.unit_names(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
    }


def check() -> dict[str, object]:
    """Relative errors against the plain loops; `worst` must stay below `bound`."""
    unit = _AMX if _AMX in _native.unit_names() else _EMULATED
    ours, plain = NativeKernels(2, unit), NativeKernels(2, _PLAIN)
    generator = np.random.default_rng(0)
    worst: dict[str, float] = {}
    num_shapes = 0
    until = time.monotonic() + 40
    while time.monotonic() < until and num_shapes < 400:
        for name in _native.type_names():
            block = TYPES[name].block_elements
            shape = (int(generator.integers(1, 200)), block * int(generator.integers(1, 2048 // block + 1)))
            weight = random_matrix(name, shape, num_shapes)
            x = random_rows(int(generator.integers(1, 140)), shape[1], num_shapes)
            off = distance(ours.project(x, weight), plain.project(x, weight))
            worst[name] = max(worst.get(name, 0.0), off if off == off else float("inf"))
            num_shapes += 1
    return {
        "unit": unit,
        "shapes": num_shapes,
        "worst": worst,
        "bound": _CLOSE,
        "is_right": max(worst.values()) <= _CLOSE,
    }


def rate(work: float, taken: list[float]) -> dict[str, object]:
    """Work a second: the median, and of every sample."""
    return {"median": work / median(taken), "samples": [work / one for one in taken]}


def gemm(num_threads: int) -> list[dict[str, object]]:
    units = [name for name in (_AVX512, _AMX) if name in _native.unit_names()]
    kernels = {unit: NativeKernels(num_threads, unit) for unit in units}
    found = []
    for name in _TYPES:
        weight = random_matrix(name, (_SIDE, _SIDE))
        for tokens in (32, 128, 512):
            x = random_rows(tokens, _SIDE)
            times: dict[str, list[float]] = {unit: [] for unit in units}
            for _ in range(_ROUNDS + 1):
                for unit in units:
                    times[unit].append(seconds(lambda unit=unit, x=x, weight=weight: kernels[unit].project(x, weight)))
            work = 2e-9 * tokens * _SIDE * _SIDE
            for unit in units:
                taken = times[unit][1:]
                kind = {"unit": unit, "type": name, "tokens": tokens, "threads": num_threads}
                found.append(kind | {"gop_s": rate(work, taken)})
    return found


def read_speed(num_threads: int) -> dict[str, object]:
    """GB/s that as many threads can read, by a dot product of numbers that are not in a cache."""
    numbers = np.ones(_CACHE_BYTES // 4, np.float32)
    pieces = np.array_split(numbers, 8 * num_threads)

    def read(piece: np.ndarray) -> float:
        half = piece.size // 2
        return float(np.dot(piece[:half], piece[half : 2 * half]))

    with ThreadPoolExecutor(num_threads) as pool:
        taken = [seconds(lambda: list(pool.map(read, pieces))) for _ in range(_ROUNDS)]
    return rate(numbers.nbytes / 1e9, taken)


def copies_of(weight: PackedTensor) -> list[PackedTensor]:
    count = _CACHE_BYTES // weight.num_bytes + 1
    return [PackedTensor(weight.data.copy(), weight.element_type, weight.shape) for _ in range(count)]


def gemv(num_threads: int) -> dict[str, object]:
    kernels = NativeKernels(num_threads)
    speeds: dict[str, object] = {"unit": kernels.unit_name, "threads": num_threads, "read": read_speed(num_threads)}
    x = random_rows(1, _SIDE)
    for name in _TYPES:
        weights = copies_of(random_matrix(name, (2 * _SIDE, _SIDE)))
        for weight in weights:
            kernels.project(x, weight)
        taken = [
            seconds(lambda weights=weights: [kernels.project(x, weight) for weight in weights]) for _ in range(_ROUNDS)
        ]
        speeds[name] = rate(sum(weight.num_bytes for weight in weights) / 1e9, taken)
    return speeds


def dequantise() -> dict[str, object]:
    num_weights = 2**18
    speeds: dict[str, object] = {}
    for name in sorted(FAST_TYPES):
        kind = TYPES[name]
        data = random_matrix(name, (num_weights,)).data
        taken = [seconds(lambda data=data, kind=kind: expand(data, kind, torch.bfloat16)) for _ in range(20)]
        speeds[name] = rate(num_weights / 1e9, taken)
    return speeds


PARTS: dict[str, Callable[..., object]] = {
    "machine": machine,
    "check": check,
    "gemm": gemm,
    "gemv": gemv,
    "dequantise": dequantise,
}


def in_a_process(words: list[str], threads: int) -> object:
    """The part's result, or how it ended."""
    command = [sys.executable, "-m", "benchmarks.kernels_amx", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=_PART_SECONDS, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": "took too long", "threads": threads}
    if run.returncode != 0:
        return {"error": run.returncode, "threads": threads, "last": run.stderr[-500:]}
    return json.loads(run.stdout)


def main() -> None:
    words = sys.argv[1:]
    if words and words[0] in PARTS:
        print(json.dumps(PARTS[words[0]](*map(int, words[1:]))))
        return
    cores = len(os.sched_getaffinity(0))
    wanted = [int(word) for word in words[0].split(",")] if words else [1, 2, 4, 8, 16]
    counts = [count for count in wanted if count <= cores]
    start = time.monotonic()
    found: dict[str, object] = {
        "what": "AMX beside AVX512-VNNI, and both by threads: matrix products, rows, expansion of blocks",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": checkout_commit(),
        "machine": detect_machine().cpu_name,
        "command": "python -m benchmarks.kernels_amx " + " ".join(words),
        "processor": in_a_process(["machine"], 1),
        "check": in_a_process(["check"], 1),
        "dequantise": in_a_process(["dequantise"], 1),
    }
    found["gemm"] = [in_a_process(["gemm", str(count)], count) for count in counts]
    found["gemv"] = [in_a_process(["gemv", str(count)], count) for count in counts]
    print(json.dumps(found | {"seconds": time.monotonic() - start}, indent=1))


if __name__ == "__main__":
    main()

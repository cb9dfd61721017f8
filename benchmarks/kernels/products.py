"""How near quantised products come to the machine's limits: one JSON record on standard output.

    python -m benchmarks.kernels.products [--types Q4_K,Q6_K,Q8_0] [--tokens 1,2,4,8,128,512] [--rows 6144]
        [--width 6144] [--threads 1] [--rounds 9] [--unit NAME] [--against OTHER/_native.so]

Every round reads the matrix's own bytes, runs vpdpbusd in registers and then each build's product, in an order that
turns from round to round, so that a machine that slows down slows all of them down. A matrix should be larger than the
last cache. `--against` measures a second build of the library beside the installed one. Needs g++ and AVX512-VNNI.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median, quantiles

import numpy as np

from benchmarks.kernels.build import Build, Product, installed_build

_PEAK_ROUNDS = 500_000
_OPERATIONS = 12 * 128  # of a round


def build_limits(folder: Path) -> ctypes.CDLL:
    """Compile limits.cpp for this processor."""
    target = folder / "limits.so"
    source = Path(__file__).with_name("limits.cpp")
    subprocess.run(["g++", "-O3", "-march=native", "-shared", "-fPIC", "-o", target, source], check=True)
    library = ctypes.CDLL(str(target))
    library.read_bytes.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.multiply_in_registers.argtypes = [ctypes.c_int64]
    library.multiply_in_registers.restype = ctypes.c_int64
    return library


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def spread(samples: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, _, high = quantiles(samples, n=4)
    return {"median": round(median(samples), 4), "low": round(low, 4), "high": round(high, 4)}


@dataclass
class Samples:
    """Seconds of every round: reading the matrix, vpdpbusd in registers, and each build's product."""

    reading: list[float] = field(default_factory=list)
    peaking: list[float] = field(default_factory=list)
    products: dict[str, list[float]] = field(default_factory=dict)


class Bench:
    """The builds to measure and the machine's limits."""

    def __init__(self, words: argparse.Namespace, limits: ctypes.CDLL) -> None:
        paths = {"installed": installed_build()} | ({"against": words.against} if words.against else {})
        self._builds = {name: Build(path) for name, path in paths.items()}
        self._rounds = words.rounds
        self._limits = limits

    def measure(self, product: Product) -> dict[str, object]:
        """GOP/s, GB/s and shares of the same round's limits, per build."""
        weights = product.weights()
        samples = self._sample(product, weights)
        read = [weights.nbytes / taken / 1e9 for taken in samples.reading]
        peak = [_PEAK_ROUNDS * _OPERATIONS / taken / 1e9 for taken in samples.peaking]
        figures = {}
        for build, seconds_taken in samples.products.items():
            gops = [2 * product.rows * product.width * product.tokens / taken / 1e9 for taken in seconds_taken]
            gbps = [weights.nbytes / taken / 1e9 for taken in seconds_taken]
            figures[build] = {
                "gops": spread(gops),
                "gigabytes_per_second": spread(gbps),
                "share_of_read": spread([mine / most for mine, most in zip(gbps, read, strict=True)]),
                "share_of_peak": spread([mine / most for mine, most in zip(gops, peak, strict=True)]),
            }
        ours, theirs = samples.products["installed"], samples.products.get("against")
        limits = {"read_gigabytes_per_second_1_thread": spread(read), "peak_gops_1_thread": spread(peak)}
        record: dict[str, object] = {"product": asdict(product), **limits, "builds": figures}
        if theirs is not None:
            record["times_as_fast"] = spread([their / our for our, their in zip(ours, theirs, strict=True)])
        return record

    def _sample(self, product: Product, weights: np.ndarray) -> Samples:
        order = list(self._builds)
        samples = Samples(products={build: [] for build in order})
        for build in self._builds.values():
            build.prepare(product)
        for turn in range(self._rounds + 1):
            reading = seconds(lambda: self._limits.read_bytes(weights.ctypes.data, weights.nbytes))
            peaking = seconds(lambda: self._limits.multiply_in_registers(_PEAK_ROUNDS))
            shift = turn % len(order)
            products = {build: self._builds[build].seconds() for build in order[shift:] + order[:shift]}
            if turn == 0:
                continue  # scratch memory grows, pages are touched
            samples.reading.append(reading)
            samples.peaking.append(peaking)
            for build, taken in products.items():
                samples.products[build].append(taken)
        return samples


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--types", default="Q4_K,Q6_K,Q8_0")
    parser.add_argument("--tokens", default="1,2,4,8,128,512")
    parser.add_argument("--rows", type=int, default=6144)
    parser.add_argument("--width", type=int, default=6144)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--unit", default="")
    parser.add_argument("--against", help="another build's _native library")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measure, and print the record."""
    words = parse(arguments)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(words, build_limits(Path(folder)))
        figures = [
            bench.measure(Product(name, words.rows, words.width, int(tokens), words.threads, words.unit))
            for name in words.types.split(",")
            for tokens in words.tokens.split(",")
        ]
    settings = {name: value for name, value in vars(words).items() if name != "against"}
    print(json.dumps({"settings": settings, "load_before": load_before, "figures": figures}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])

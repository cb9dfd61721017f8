"""Figures and records made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from longlens.bench.figure import Figure, MemoryUse, Sample
from longlens.bench.record import Record


def figure(name: str = "pp512", values: tuple[float, ...] = (100, 101, 99, 100, 102), **changes: Any) -> Figure:
    """A figure with one second of wall and two of processor time a sample."""
    made = Figure(
        name=name,
        kind=name.partition(" @ ")[0],
        depth=int(name.partition(" @ d")[2] or 0),
        unit="tok/s",
        label="warm" if " @ " in name else "cold",
        cached_tokens=0,
        read_tokens=512,
        digest="0123456789abcdef",
        samples=tuple(Sample(value, 1.0, 2.0) for value in values),
        memory=MemoryUse(2**30, 2**29),
    )
    return replace(made, **changes)


def record(*figures: Figure, **changes: Any) -> Record:
    """A record of a quiet, imaginary machine."""
    made = Record(
        code={"longlens": "0.1.0", "commit": "abc", "torch": "2.13.0"},
        date="2026-11-24T12:00:00+00:00",
        command=("longlens", "bench", "-p", "512"),
        machine={"cpu_name": "one", "num_physical_cores": 2, "memory_available_bytes": 5, "load_average": [0.1, 0, 0]},
        model={"name": "mid", "parameters": 886_037_168},
        plan={"model": "mid", "num_threads": 2, "chunk_tokens": 128, "compute_element": "f32", "kv_bytes": 7},
        settings={"seed": 0, "repetitions": 5},
        figures=figures or (figure(),),
    )
    return replace(made, **changes)

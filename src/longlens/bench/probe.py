"""Measures this machine once: what `plan/cost.py` needs to know to predict times of plain torch.

Every piece of work is timed once a pass, and passes are repeated, so that a neighbour who takes the processor away for
a moment spoils one time of many pieces and not all times of one. The median of the passes is kept: a run is a sum of
many calls, so its usual time is made of their usual times. A lower quantile would foretell the best run and not the
usual one; a mean would keep what one neighbour did in one pass.
"""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path

import torch

from longlens.bench.probe_launch import MIXED_CALLS, MIXED_VIEWS
from longlens.bench.probe_pieces import (
    BATCHED_INNER,
    BATCHED_OUTER,
    BATCHED_ROWS,
    HEAD_INNER,
    HEAD_OUTER,
    HEAD_ROWS,
    LONE_INNER,
    LONE_OUTER,
    LONE_ROWS,
    WEIGHT_INNER,
    WEIGHT_OUTER,
    WEIGHT_ROWS,
    Piece,
    batched_pieces,
    head_pieces,
    launch_pieces,
    lone_pieces,
    sweep_pieces,
    weight_pieces,
)
from longlens.kernels.host_memory import keep_freed_memory
from longlens.machine import Machine, detect_machine
from longlens.plan.profile import MachineProfile
from longlens.plan.rates import Curve, PlainRates, ProductGrid
from longlens.units import MIB

BUDGET_SECONDS = 18.0
LEAST_PASSES = 3
# A piece is repeated within a pass until it has taken this long, and timed on the average.
_PIECE_SECONDS = 300e-6
_MOST_CALLS, _QUEUED_CALLS = 6, 32
# Slower pieces are timed in the first passes only.
_SLOW_SECONDS = 0.1
_DISK_BYTES = 128 * MIB


@dataclass
class _Clock:
    """Wall and processor time of work that should keep all threads busy."""

    wall: float = 0.0
    processor: float = 0.0

    def stolen_share(self, num_threads: int) -> float:
        """Share of the threads' time that somebody else had."""
        return max(0.0, 1 - self.processor / (self.wall * num_threads)) if self.wall else 0.0


def measure_machine(
    device: str = "cpu",
    *,
    folder: Path | None = None,
    num_threads: int | None = None,
    budget_seconds: float = BUDGET_SECONDS,
    machine: Machine | None = None,
) -> MachineProfile:
    """Time plain torch on this machine.

    Args:
        device: "cpu", or a CUDA device.
        folder: where a file may be written to measure the disk; None leaves the disk out.
        num_threads: threads for arithmetic; as many as a plan would choose if None.
        budget_seconds: no pass begins after this; three are always made.
        machine: what to call it; detected if None.

    Returns:
        A dated profile. `stolen_share` says how much of the time somebody else had the processor.
    """
    found = machine or detect_machine()
    threads = num_threads or found.num_threads
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    target = torch.device(device)
    clock = _Clock()
    keep_freed_memory()
    try:
        with torch.inference_mode():
            rates = _rates(target, clock, budget_seconds)
            link = _link(target)
    finally:
        torch.set_num_threads(before)
    read, write = (None, None) if folder is None else _disk(folder)
    return MachineProfile(
        machine=found.cpu_name if target.type == "cpu" else torch.cuda.get_device_name(target),
        date=date.today().isoformat(),
        device=target.type,
        num_threads=threads,
        source=f"measured with torch {torch.__version__}, Python {platform.python_version()}",
        rates=rates,
        disk_read_bytes_per_s=read,
        disk_write_bytes_per_s=write,
        link_bytes_per_s=link,
        stolen_share=round(clock.stolen_share(threads), 4) if target.type == "cpu" else None,
    )


def _rates(device: torch.device, clock: _Clock, budget_seconds: float) -> PlainRates:
    pieces = list(_pieces(device))
    started = time.perf_counter()
    num_passes = 0
    while num_passes < LEAST_PASSES or time.perf_counter() - started < budget_seconds:
        for piece in pieces:
            if num_passes < LEAST_PASSES or piece.seconds[-1] * piece.members < _SLOW_SECONDS:
                piece.seconds.append(_time(piece, device, num_passes))
        _keep_busy(device, clock)
        num_passes += 1
    times = {piece.name: statistics.median(piece.seconds) for piece in pieces}
    weight_axes = (WEIGHT_ROWS, WEIGHT_INNER, WEIGHT_OUTER)
    weights = {element: _grid(times, element, weight_axes) for element in ("f32", "bf16")}
    return PlainRates(
        weights={
            **weights,
            "heads": _grid(times, "heads", (HEAD_ROWS, HEAD_INNER, HEAD_OUTER)),
            "lone": _grid(times, "lone", (LONE_ROWS, LONE_INNER, LONE_OUTER)),
        },
        batched=_grid(times, "batched", (BATCHED_ROWS, BATCHED_INNER, BATCHED_OUTER)),
        sweeps=_curves(times),
        call_s=max(1e-9, (times["mixed",] - MIXED_VIEWS * times["views",]) / MIXED_CALLS),
        view_s=times["views",],
    )


def _pieces(device: torch.device) -> Iterator[Piece]:
    yield from weight_pieces("f32", torch.float32, device)
    yield from weight_pieces("bf16", torch.bfloat16, device)
    yield from head_pieces(device)
    yield from batched_pieces(device)
    yield from lone_pieces(device)
    yield from sweep_pieces(device)
    yield from launch_pieces(device)


def _time(piece: Piece, device: torch.device, number: int) -> float:
    """Seconds of one part, averaged over a few calls."""
    number *= 1009
    return _time_alone(piece, number) if device.type == "cpu" else _time_queued(piece, device, number)


def _time_alone(piece: Piece, number: int) -> float:
    """On the processor: before each call something else runs, as in a model, where no call meets its own traces."""
    calls, elapsed = 0, 0.0
    while elapsed < _PIECE_SECONDS and calls < _MOST_CALLS:
        piece.before(number + calls)
        started = time.perf_counter()
        piece.run(number + calls)
        elapsed += time.perf_counter() - started
        calls += 1
    return elapsed / (calls * piece.members)


def _time_queued(piece: Piece, device: torch.device, number: int) -> float:
    """On a device that works through a queue: enough calls that waiting for the last one does not count."""
    calls = 0
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    while True:
        for _ in range(_QUEUED_CALLS):
            piece.run(number + calls)
            calls += 1
        torch.cuda.synchronize(device)
        elapsed = time.perf_counter() - started
        if elapsed > _PIECE_SECONDS:
            return elapsed / (calls * piece.members)


def _keep_busy(device: torch.device, clock: _Clock) -> None:
    """A product that keeps all threads busy for some milliseconds, by both clocks."""
    if device.type != "cpu":
        return
    x = torch.ones(1024, 1024)
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(3):
        torch.mm(x, x)
    clock.wall += time.perf_counter() - wall
    clock.processor += time.process_time() - processor


def _grid(times: Mapping[tuple[object, ...], float], name: str, axes: Sequence[tuple[int, ...]]) -> ProductGrid:
    seconds = tuple(times[(name, *place)] for place in product(*axes))
    rows, inner, outer = (tuple(float(size) for size in axis) for axis in axes)
    return ProductGrid(rows, inner, outer, seconds)


def _curves(times: Mapping[tuple[object, ...], float]) -> dict[str, Curve]:
    points: dict[str, list[tuple[float, float]]] = {}
    for place, seconds in times.items():
        match place:
            case (str(name), int(size)):
                points.setdefault(name, []).append((float(size), seconds))
    curves = {}
    for name, measured in sorted(points.items()):
        sizes, seconds_of = zip(*sorted(measured), strict=True)
        curves[name] = Curve(sizes, seconds_of)
    return curves


def _link(device: torch.device) -> float | None:
    """Bytes a second from pinned memory to the device."""
    if device.type != "cuda":
        return None
    host = torch.empty(256 * MIB, dtype=torch.uint8).pin_memory()
    there = torch.empty(256 * MIB, dtype=torch.uint8, device=device)
    times = []
    for _ in range(4):
        torch.cuda.synchronize(device)
        started = time.perf_counter()
        there.copy_(host, non_blocking=True)
        torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return 256 * MIB / min(times)


def _disk(folder: Path) -> tuple[float | None, float | None]:
    """Bytes a second that a file is read and written with; the file's pages are dropped from the cache in between."""
    data = os.urandom(4 * MIB)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, buffering=0) as file:
        started = time.perf_counter()
        for _ in range(_DISK_BYTES // len(data)):
            file.write(data)
        os.fsync(file.fileno())
        written = time.perf_counter() - started
        if not hasattr(os, "posix_fadvise"):
            return None, _DISK_BYTES / written
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        buffer = bytearray(4 * MIB)
        file.seek(0)
        started = time.perf_counter()
        while file.readinto(buffer):
            pass
        return _DISK_BYTES / (time.perf_counter() - started), _DISK_BYTES / written

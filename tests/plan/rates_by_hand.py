"""A machine by hand: products at 100 GFLOP/s, memory at 10 GB/s, 5 microseconds a call."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import get_args

from longlens.plan.cost_limit import PlacedBytes
from longlens.plan.profile import MachineProfile
from longlens.plan.rates import Curve, PlainRates, ProductGrid
from longlens.plan.work import SweepName

_ROWS, _INNER, _OUTER = (1.0, 16.0, 1024.0), (4.0, 256.0, 4096.0), (32.0, 512.0, 4096.0)
_SIZES = (256.0, 65_536.0, 8_388_608.0)


def grid(flops: float = 1e11, *, overhead: float = 2e-6) -> ProductGrid:
    seconds = tuple(
        overhead + 2 * rows * inner * outer / flops + inner * outer * 4 / 2e10
        for rows, inner, outer in product(_ROWS, _INNER, _OUTER)
    )
    return ProductGrid(_ROWS, _INNER, _OUTER, seconds)


def plain_rates(**changes: object) -> PlainRates:
    curve = Curve(_SIZES, tuple(1e-6 + size * 4 / 1e10 for size in _SIZES))
    values: dict[str, object] = {
        "weights": {"f32": grid(), "bf16": grid(2e11), "heads": grid(), "lone": grid(5e10)},
        "batched": grid(overhead=1e-7),
        "sweeps": dict.fromkeys(get_args(SweepName), curve),
        "call_s": 5e-6,
        "view_s": 1e-6,
    }
    return PlainRates(**(values | changes))  # type: ignore[arg-type]


def plain_profile(**changes: object) -> MachineProfile:
    values: dict[str, object] = {
        "machine": "by hand",
        "date": "2026-11-24",
        "device": "cpu",
        "num_threads": 2,
        "source": "made up",
        "rates": plain_rates(),
        "disk_read_bytes_per_s": 1e9,
        "stolen_share": 0.0,
    }
    return MachineProfile(**(values | changes))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Placed:
    name: str
    tier: str
    num_bytes: int


@dataclass(frozen=True)
class Run:
    """A plan's fields that predictions ask for."""

    device: str = "cpu"
    compute_element: str = "f32"
    cache_element: str = "f32"
    chunk_tokens: int = 256
    gather_above_tokens: int | None = None
    kernels: str = "plain"
    kv_bytes_per_token: int = 1000
    kv_bytes: int = 1_000_000
    index_bytes: int = 100_000
    components: tuple[PlacedBytes, ...] = field(default=())

"""The pieces of work that the probe times: each is one kind of torch call at one size, as the plain kernels make it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from longlens.bench.probe_launch import NUM_VIEWS, mixed, views
from longlens.plan.cost_plain_parts import SCRATCH_BYTES
from longlens.plan.work import SweepName
from longlens.units import MIB

# Weights are taken from a pool larger than processors' caches, so that each call meets memory that no cache holds.
POOL_BYTES = 512 * MIB
_NEAR_BYTES = 2 * MIB
WEIGHT_ROWS = (1, 4, 16, 64, 256, 1024)
WEIGHT_INNER = (64, 256, 1024, 4096)
WEIGHT_OUTER = (64, 256, 1024, 4096)
HEAD_ROWS, HEAD_INNER, HEAD_OUTER = (1, 8, 64, 512), (32, 128, 512), (64, 256, 512)
BATCHED_ROWS = (1, 8, 64, 512)
BATCHED_INNER = (4, 16, 64, 256, 1024, 4096)
BATCHED_OUTER = (32, 128, 512, 2048)
# The third and fourth lie before and behind 32,768, from which on torch shares a walk out to its threads; the seventh
# and eighth before and behind 4 MiB (kernels/host_memory.py), from which on the C library may take fresh pages.
SWEEP_SIZES = (256, 4096, 32_256, 36_864, 65_536, 524_288, 983_040, 1_179_648, 2_097_152, 8_388_608)
LONE_ROWS, LONE_INNER, LONE_OUTER = (1, 16, 128), (8, 64, 256, 1024, 4096), (64, 256, 1024, 4096)
_HEADS, _ROW, _MOST_MEMBERS = 16, 512, 16
_MOST_GAP = 16
_LAYER_SIDE = 1024
# What is slow is timed up to here only; its rate does not change behind it.
_LARGEST: Mapping[SweepName, int] = {
    "sort": 65_536,
    "topk": 524_288,
    "topk_few": 524_288,
    "running_sum": 2_097_152,
    "places": 2_097_152,
    "pick": 2_097_152,
}


def _small_work(_: int) -> object:
    return mixed(torch.ones(1, 64), torch.full((64, 64), 0.01))


@dataclass
class Piece:
    """One kind of call at one size.

    Attributes:
        name: table, then place in it.
        run: makes the call; the number counts calls, so that it can meet new memory each time.
        members: equal parts of a call; a time is that of one.
        before: runs before each call on the processor and is not timed.
        seconds: what one part took, once a pass.
    """

    name: tuple[object, ...]
    run: Callable[[int], object]
    members: int = 1
    before: Callable[[int], object] = _small_work
    seconds: list[float] = field(default_factory=list)


def weight_pieces(element: str, dtype: torch.dtype, device: torch.device) -> Iterator[Piece]:
    """Products of activations with weights that no cache holds."""
    pool = _filled(POOL_BYTES // dtype.itemsize, dtype, device)
    for rows, inner, outer in product(WEIGHT_ROWS, WEIGHT_INNER, WEIGHT_OUTER):
        x = torch.rand(rows, inner, device=device).to(dtype)
        places = pool.numel() // (inner * outer)
        weights = pool[: places * inner * outer].view(places, outer, inner)

        def run(count: int, x: Tensor = x, weights: Tensor = weights, places: int = places) -> object:
            return functional.linear(x, weights[count % places])

        yield Piece((element, rows, inner, outer), run)


def _filled(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A large tensor of small random numbers, a short run of them over and over."""
    run = (torch.rand(2**20, device=device) - 0.5).mul_(0.1).to(dtype)
    return run.repeat(-(-size // run.numel()))[:size]


def batched_pieces(device: torch.device) -> Iterator[Piece]:
    """Products of activations, many at once: keys transposed where scores are made, values as they lie elsewhere."""
    for rows, inner, outer in product(BATCHED_ROWS, BATCHED_INNER, BATCHED_OUTER):
        member_bytes = 4 * (rows * inner + inner * outer + rows * outer)
        # Batches of many rows are made a tile at a time, which caches hold; one row is decode, over all positions.
        most_bytes = 16 * MIB if rows == 1 else SCRATCH_BYTES
        members = max(2, min(_MOST_MEMBERS, most_bytes // member_bytes)) // 2 * 2
        x = torch.rand(members, rows, inner, device=device)
        is_transposed = outer >= inner
        y = torch.rand(members, *((outer, inner) if is_transposed else (inner, outer)), device=device)
        y = y.transpose(1, 2) if is_transposed else y

        def run(_: int, x: Tensor = x, y: Tensor = y) -> object:
            return torch.bmm(x, y)

        yield Piece(("batched", rows, inner, outer), run, members)


def lone_pieces(device: torch.device) -> Iterator[Piece]:
    """Batches of one product of activations: threads that share a batch out by its members have nothing to share."""
    for rows, inner, outer in product(LONE_ROWS, LONE_INNER, LONE_OUTER):
        x = torch.rand(1, rows, inner, device=device)
        is_transposed = outer >= inner
        y = torch.rand(1, *((outer, inner) if is_transposed else (inner, outer)), device=device)
        y = y.transpose(1, 2) if is_transposed else y

        def run(_: int, x: Tensor = x, y: Tensor = y) -> object:
            return torch.bmm(x, y)

        yield Piece(("lone", rows, inner, outer), run)


def head_pieces(device: torch.device) -> Iterator[Piece]:
    """Products of each head's activations with that head's weights, which no cache holds."""
    pool = _filled(POOL_BYTES // 4, torch.float32, device)
    for rows, inner, outer in product(HEAD_ROWS, HEAD_INNER, HEAD_OUTER):
        x = torch.rand(_HEADS, rows, inner, device=device)
        places = pool.numel() // (_HEADS * inner * outer)
        weights = pool[: places * _HEADS * inner * outer].view(places, _HEADS, inner, outer)

        def run(count: int, x: Tensor = x, weights: Tensor = weights, places: int = places) -> object:
            return torch.bmm(x, weights[count % places])

        yield Piece(("heads", rows, inner, outer), run, _HEADS)


def launch_pieces(device: torch.device) -> Iterator[Piece]:
    """Calls with next to nothing to do; weights go through the caches before them, as between a model's layers."""
    x, weight = torch.rand(1, 64, device=device), torch.rand(64, 64, device=device)
    row = torch.rand(1, _LAYER_SIDE, device=device)
    pool = _filled(POOL_BYTES // 4, torch.float32, device).view(-1, _LAYER_SIDE, _LAYER_SIDE)

    def pass_weights(count: int) -> object:
        return functional.linear(row, pool[count % pool.shape[0]])

    yield Piece(("mixed",), lambda _: mixed(x, weight), before=pass_weights)
    yield Piece(("views",), lambda _: [views(x) for _ in range(10)], NUM_VIEWS * 10, before=pass_weights)


def sweep_pieces(device: torch.device) -> Iterator[Piece]:
    """Walks over memory; a small size has one row, a large one many."""
    table = _filled(POOL_BYTES // 4, torch.float32, device)
    for size in SWEEP_SIZES:
        x, y = torch.rand(size, device=device), torch.rand(size, device=device)
        for name, run in {**_walks(x, y), **_arrangements(x), **_choices(x), **_gathers(table, size)}.items():
            if size <= _LARGEST.get(name, size):
                yield Piece((name, size), run)


def _gathers(table: Tensor, size: int) -> dict[SweepName, Callable[[int], object]]:
    near = table[: _NEAR_BYTES // 4]
    return {
        "rows": _gathering(near, size, 512),
        "narrow_rows": _gathering(near, size, 128),
        "far_rows": _gathering(table, size, 512),
        "far_narrow_rows": _gathering(table, size, 128),
    }


def _walks(x: Tensor, y: Tensor) -> dict[SweepName, Callable[[int], object]]:
    row = min(_ROW, x.numel())
    rows = x.view(-1, row)
    half, other_half = x.to(torch.bfloat16), x.to(torch.float16)
    heads = min(_HEADS, rows.shape[0])
    scores = x[: rows.shape[0] // heads * heads * row].view(heads, -1, row)
    # In one run a row, as a causal mask has it: a processor guesses rightly what comes next.
    mask = (torch.arange(row, device=x.device) > 0.7 * row).expand(scores.shape[1:]).contiguous()
    # A factor of one leaves the numbers as they are, however often it is applied.
    return {
        "map": lambda _: x * y,
        "inplace": lambda _: x.mul_(1.0),
        "mask": lambda _: scores.masked_fill_(mask, 0.5),
        "softmax": lambda _: rows.softmax(-1),
        "silu": lambda _: functional.silu(x),
        "reduce": lambda _: rows.mean(-1, keepdim=True),
        "widen": lambda _: half.to(torch.float32),
        "narrow": lambda _: x.to(torch.bfloat16),
        "widen_f16": lambda _: other_half.to(torch.float32),
        "narrow_f16": lambda _: x.to(torch.float16),
        "compare": lambda _: x > y,
    }


def _arrangements(x: Tensor) -> dict[SweepName, Callable[[int], object]]:
    target = torch.empty_like(x)
    width = min(64, x.numel() // 4)
    turned = x.view(-1, 4, width).transpose(0, 1)
    turned_target = target.view(4, -1, width)
    pairs = torch.cat([x, x]).view(-1, 2 * width)
    few = x[: x.numel() // 4 * 4].view(4, -1)[:1].view(-1, width).unsqueeze(0)
    return {
        "copy": lambda _: target.copy_(x),
        "turn": lambda _: turned_target.copy_(turned),
        "weave": lambda _: pairs[..., 0::2] * 0.5,
        "repeat": lambda _: few.repeat_interleave(4, 0),
    }


def _choices(x: Tensor) -> dict[SweepName, Callable[[int], object]]:
    x = x[: _LARGEST["places"]]
    columns = min(6144, x.numel())
    rows = x[: x.numel() // columns * columns].view(-1, columns)
    many, few = max(1, columns // 3), max(1, columns // 12)
    chosen = rows > 2 / 3
    places = torch.randint(columns, (rows.shape[0], columns), device=x.device).sort(dim=1).values
    narrow = x.view(-1, 64)
    return {
        "topk": lambda _: rows.topk(many, dim=1),
        "topk_few": lambda _: rows.topk(few, dim=1),
        "running_sum": lambda _: chosen.cumsum(1),
        "places": lambda _: chosen.nonzero(),
        "pick": lambda _: rows.gather(1, places),
        "sort": lambda _: narrow.sort(dim=-1, descending=True, stable=True),
    }


def _gathering(table: Tensor, size: int, width: int) -> Callable[[int], object]:
    """Ascending places, over and over in a table that has fewer, and elsewhere in it each time.

    Gaps are of all lengths, as between chosen positions: a processor does not guess the next row.
    """
    rows = table.view(-1, width)
    offsets = torch.randint(1, _MOST_GAP, (max(1, size // width),), device=table.device).cumsum(0)

    def run(number: int) -> object:
        return rows.index_select(0, (offsets + number * 7919) % rows.shape[0])

    return run

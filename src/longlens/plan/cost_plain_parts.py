"""The small operations of a layer in plain torch, counted as `kernels/reference.py` and `model/` dispatch them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from longlens.plan.work import ProductKind, SweepName, Tally
from longlens.units import MIB

# What `kernels/reference.py` allows itself; a test compares the two.
SCRATCH_BYTES = 3 * MIB
KEY_TILE = 4096

PlainElement = Literal["f32", "bf16", "f16"]
_BYTES: dict[str, int] = {"f32": 4, "bf16": 2, "f16": 2}
# Bytes of the gathered rows that `rows` and `narrow_rows` were measured with.
_WIDE_ROW_BYTES, _NARROW_ROW_BYTES = 2048, 512
# Tables, and weights that every tile reads, lie in a cache up to the first size, and in none from the second on.
_TABLE_BYTES = 2 * MIB, 64 * MIB


@dataclass(frozen=True)
class StepShape:
    """One step of one sequence.

    Attributes:
        num_tokens: tokens that are computed.
        num_positions: tokens in the cache after it, these included.
        element: type of weights and activations.
        cache_element: type of cached rows.
    """

    num_tokens: int
    num_positions: int
    element: PlainElement
    cache_element: PlainElement

    @property
    def first_position(self) -> int:
        """Tokens in the cache before the step."""
        return self.num_positions - self.num_tokens

    @property
    def cached_bytes(self) -> int:
        """Bytes of a cached value."""
        return _BYTES[self.cache_element]


def project(tally: Tally, shape: StepShape, rows: float, inner: int, outer: int) -> None:
    """`Kernels.project`: one call."""
    tally.dispatch(1)
    tally.product((shape.element, rows, inner, outer))


def batch_of(tally: Tally, members: int, sizes: tuple[float, float, float], count: float) -> None:
    """`count` batches of fp32 products of activations, not dispatched; `sizes` are rows, inner and outer of a member.

    A batch is shared out to threads by its members, so that one member alone has one thread.
    """
    kind: ProductKind = "lone" if members == 1 else "batched"
    tally.product((kind, *sizes), members * count)


def walk(tally: Tally, name: SweepName, size: float, count: int = 1) -> None:
    """Some operations of one call each."""
    tally.dispatch(count)
    tally.sweep(name, size, count)


def widen(tally: Tally, element: str, size: float, *, weight: float = 1, times: float = 1) -> None:
    """`.to(fp32)`, in `times` tiles worth `weight` full ones: nothing for fp32, a walk over the tensor for others."""
    if element == "f32":
        tally.dispatch(views=times)
    else:
        tally.dispatch(times)
        tally.sweep("widen_f16" if element == "f16" else "widen", size, weight)


def narrow(tally: Tally, element: str, size: float) -> None:
    """`.to(element)` of an fp32 tensor."""
    if element == "f32":
        tally.dispatch(views=1)
    else:
        walk(tally, "narrow_f16" if element == "f16" else "narrow", size)


def rms_norm(tally: Tally, shape: StepShape, rows: float, width: int) -> None:
    """`Kernels.rms_norm`: square, mean, two calls on a number a row, two multiplications."""
    size = rows * width
    tally.dispatch(2, views=1)
    widen(tally, shape.element, size)
    walk(tally, "map", size, 3)
    walk(tally, "reduce", size)
    narrow(tally, shape.element, size)


def layer_norm(tally: Tally, shape: StepShape, rows: float, width: int) -> None:
    """`Kernels.layer_norm`: one call, which walks over the rows about twice."""
    size = rows * width
    tally.dispatch(1, views=1)
    widen(tally, shape.element, size)
    widen(tally, shape.element, width, weight=2, times=2)
    tally.sweep("map", size, 2)
    narrow(tally, shape.element, size)


def rotate(tally: Tally, shape: StepShape, size: float, *, is_interleaved: bool) -> None:
    """`model.rope.rotate` of `size` values: four products and two sums of half of them, then pairs put together."""
    half = size / 2
    if is_interleaved:
        tally.dispatch(7, views=8)
        widen(tally, shape.element, half, weight=2, times=2)
        tally.sweep("weave", half, 4)
        tally.sweep("map", half, 2)
        tally.sweep("weave", size)
    else:
        tally.dispatch(7, views=6)
        widen(tally, shape.element, size)
        tally.sweep("map", half, 6)
        tally.sweep("copy", size)
    narrow(tally, shape.element, size)


def write_rows(tally: Tally, shape: StepShape, width: int) -> None:
    """A span's rows of one cached tensor: two slices, a conversion, a scatter."""
    size = shape.num_tokens * width
    tally.dispatch(1, views=2)
    if shape.element == shape.cache_element:
        tally.dispatch(views=1)
    elif shape.element == "f32":
        narrow(tally, shape.cache_element, size)
    else:
        widen(tally, shape.element, size)
    tally.sweep("copy", size)


def gather_rows(tally: Tally, num_rows: float, row_bytes: float, table_rows: float, count: float = 1) -> None:
    """The work of `index_select` of scattered rows: between the widths, and the tables, that were measured."""
    size = num_rows * row_bytes / 4
    wide = _share(row_bytes, _NARROW_ROW_BYTES, _WIDE_ROW_BYTES)
    far = far_share(row_bytes * table_rows)
    tally.sweep("rows", size, count * wide * (1 - far))
    tally.sweep("narrow_rows", size, count * (1 - wide) * (1 - far))
    tally.sweep("far_rows", size, count * wide * far)
    tally.sweep("far_narrow_rows", size, count * (1 - wide) * far)


def choose_best(tally: Tally, rows: float, columns: float, kept: float, count: float) -> None:
    """The work of `topk`: between the shares of a row that were measured."""
    many = min(1.0, max(0.0, (kept / columns - 1 / 12) / (1 / 3 - 1 / 12)))
    tally.sweep("topk", rows * columns, count * many)
    tally.sweep("topk_few", rows * columns, count * (1 - many))


def far_share(num_bytes: float) -> float:
    """How much of a table that is read over and over comes from memory, because no cache holds it."""
    return _share(num_bytes, *_TABLE_BYTES)


def _share(size: float, low: float, high: float) -> float:
    """How far a size is from low to high, on a logarithmic axis."""
    return min(1.0, max(0.0, math.log(size / low) / math.log(high / low)))


def feed_forward(tally: Tally, shape: StepShape, rows: float, sizes: tuple[int, int], count: float = 1) -> None:
    """`Kernels.feed_forward`, `count` times; `sizes` are hidden size and width."""
    hidden, width = sizes
    tally.dispatch(5 * count)
    tally.product((shape.element, rows, hidden, width), 2 * count)
    tally.sweep("silu", rows * width, count)
    tally.sweep("map", rows * width, count)
    tally.product((shape.element, rows, width, hidden), count)


@dataclass(frozen=True)
class Tiles:
    """How query tokens are cut so that scratch stays in its bounds.

    Attributes:
        num_tokens: tokens in all.
        tile: tokens of a tile, but for the last one.
    """

    num_tokens: int
    tile: int

    @property
    def count(self) -> int:
        """Tiles, the last one included: how often the operations of a tile are dispatched."""
        return -(-self.num_tokens // self.tile)

    @property
    def size(self) -> int:
        """Tokens of a full tile."""
        return min(self.num_tokens, self.tile)

    @property
    def weight(self) -> float:
        """Full tiles that are worth all tokens: sizes of work times this are those of all tiles."""
        return self.num_tokens / self.size

    def mean_seen(self, first_position: int, at_least: int = 0) -> float:
        """Positions up to each tile's last token (or `at_least`), averaged over the tokens."""
        full, rest = divmod(self.num_tokens, self.tile)
        low = min(full, max(0, (at_least - first_position) // self.tile))
        rising = full - low
        ends = rising * first_position + self.tile * (full * (full + 1) - low * (low + 1)) // 2
        total = self.tile * (low * at_least + ends)
        total += rest * max(first_position + self.num_tokens, at_least)
        return total / self.num_tokens


def tiles_of(num_tokens: int, bytes_per_token: float) -> Tiles:
    """Cut tokens so that a tile takes no more than the scratch (`ReferenceKernels._tile_tokens`)."""
    return Tiles(num_tokens, max(1, int(SCRATCH_BYTES // max(1, bytes_per_token))))

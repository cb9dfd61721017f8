"""How long things take on a machine: curves and grids that a probe filled, or limits that a data sheet states.

Curves and grids keep seconds, interpolated on logarithmic axes. They are made monotone when they are built, so that a
larger piece of work is never predicted to take less time, whatever noise the measurement had.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product

from longlens.errors import FormatError

_MEND = "measure the machine again"


@dataclass(frozen=True)
class Curve:
    """Seconds of one call by its size.

    Attributes:
        sizes: ascending and positive.
        seconds: of one call; never falling once built.

    Raises:
        FormatError: no points, sizes out of order, or a number that is not positive and finite.
    """

    sizes: tuple[float, ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_axis(self.sizes)
        _check_seconds(self.seconds, len(self.sizes))
        object.__setattr__(self, "seconds", _never_falling(self.seconds))

    def at(self, size: float) -> float:
        """Seconds of a call of some size: the smallest point's below it, its last rate beyond the largest one."""
        if size <= self.sizes[0]:
            return self.seconds[0]
        last = self.sizes[-1]
        if size >= last:
            return self.seconds[-1] * size / last
        right = bisect_right(self.sizes, size)
        low, high = self.sizes[right - 1], self.sizes[right]
        share = math.log(size / low) / math.log(high / low)
        before, after = math.log(self.seconds[right - 1]), math.log(self.seconds[right])
        return math.exp(before + share * (after - before))


@dataclass(frozen=True)
class ProductGrid:
    """Seconds of a matrix product [rows, inner] x [inner, outer] on a grid of sizes.

    Attributes:
        rows: ascending row counts; inner and outer likewise.
        seconds: one number a point, rows slowest, outer fastest; growing along every axis once built.

    Raises:
        FormatError: an axis is empty or out of order, or the seconds are not one positive number a point.
    """

    rows: tuple[float, ...]
    inner: tuple[float, ...]
    outer: tuple[float, ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        for axis in self._axes:
            _check_axis(axis)
        _check_seconds(self.seconds, len(self.rows) * len(self.inner) * len(self.outer))
        object.__setattr__(self, "seconds", self._growing())

    def at(self, rows: float, inner: float, outer: float) -> float:
        """Seconds of one product; a size below an axis counts as its first point, one beyond it scales the last."""
        total = 0.0
        beyond = 1.0
        places = []
        for axis, size in zip(self._axes, (rows, inner, outer), strict=True):
            place, share = _place(axis, size)
            places.append((place, share))
            beyond *= max(1.0, size / axis[-1])
        strides = (len(self.inner) * len(self.outer), len(self.outer), 1)
        for corner in product((0, 1), repeat=3):
            weight, offset = 1.0, 0
            for (place, share), side, stride in zip(places, corner, strides, strict=True):
                weight *= share if side else 1 - share
                offset += (place + side) * stride if weight else 0
            if weight:
                total += weight * self._logs[offset]
        return math.exp(total) * beyond

    @property
    def _axes(self) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
        return self.rows, self.inner, self.outer

    @cached_property
    def _logs(self) -> tuple[float, ...]:
        return tuple(math.log(seconds) for seconds in self.seconds)

    def _growing(self) -> tuple[float, ...]:
        table: dict[tuple[int, ...], float] = {}
        places = product(*(range(len(axis)) for axis in self._axes))
        for place, seconds in zip(places, self.seconds, strict=True):
            neighbours = [tuple(p - (axis == lowered) for axis, p in enumerate(place)) for lowered in range(3)]
            table[place] = max(seconds, *(table.get(neighbour, 0.0) for neighbour in neighbours))
        return tuple(table.values())


@dataclass(frozen=True)
class PlainRates:
    """What plain torch reached on a machine.

    Attributes:
        weights: by element type, products of rows with weights that lie in memory, not in a cache; "heads" is one of
            a batch of products, a head's fp32 weights each; "lone" is a batch of one fp32 product of activations.
        batched: fp32 products of a batch of activations, seconds of one member.
        sweeps: everything that walks over memory, by name (`plan/work.py` lists them), by elements of a call.
        call_s: a call of a small operation, Python's part included.
        view_s: a call that only makes another view of the same memory.
    """

    weights: Mapping[str, ProductGrid]
    batched: ProductGrid
    sweeps: Mapping[str, Curve]
    call_s: float
    view_s: float


@dataclass(frozen=True)
class LimitRates:
    """What good kernels can reach, from published peaks and stated efficiencies; all devices together.

    Attributes:
        linear_flops: projections, experts and head, FLOP/s.
        indexer_flops: index scores.
        attention_flops: attention over selected rows.
        read_bytes_per_s: by tier, when every weight is read once a token.
    """

    linear_flops: float
    indexer_flops: float
    attention_flops: float
    read_bytes_per_s: Mapping[str, float]


def _place(axis: tuple[float, ...], size: float) -> tuple[int, float]:
    """Number of the point to the left, and how far towards the next one, on a logarithmic axis."""
    if size <= axis[0] or len(axis) == 1:
        return 0, 0.0
    if size >= axis[-1]:
        return len(axis) - 1, 0.0
    right = bisect_right(axis, size)
    low, high = axis[right - 1], axis[right]
    return right - 1, math.log(size / low) / math.log(high / low)


def _never_falling(values: Sequence[float]) -> tuple[float, ...]:
    highest, result = 0.0, []
    for value in values:
        highest = max(highest, value)
        result.append(highest)
    return tuple(result)


def _check_axis(axis: tuple[float, ...]) -> None:
    if not axis or axis[0] <= 0 or any(low >= high for low, high in pairwise(axis)):
        raise FormatError(f"sizes {list(axis)} of a measured rate do not ascend from above 0", _MEND)


def _check_seconds(seconds: tuple[float, ...], count: int) -> None:
    if len(seconds) != count or not all(0 < value < math.inf for value in seconds):
        raise FormatError(f"a measured rate has no {count} positive times", _MEND)

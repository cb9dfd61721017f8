"""What a step makes the machine do, counted: matrix products, sweeps over memory, and calls of operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from longlens.plan.rates import PlainRates

# Sweeps over memory. A size is elements of the result (of the input for reductions), fp32 unless the name says more.
SweepName = Literal[
    "map",  # a new tensor from one or two others, element by element
    "inplace",  # one tensor scaled where it lies
    "mask",  # scores overwritten where a mask, shared by all heads, says so
    "softmax",
    "silu",
    "reduce",  # mean of each row
    "widen",  # bf16 to fp32
    "narrow",  # fp32 to bf16
    "widen_f16",  # f16 to fp32
    "narrow_f16",  # fp32 to f16
    "repeat",  # rows of a few heads repeated for all heads
    "copy",  # contiguous memory into contiguous memory
    "turn",  # tokens before heads into heads before tokens
    "weave",  # every second element read
    "rows",  # gathered rows of 512 elements out of a small table
    "narrow_rows",  # gathered rows of 128 elements
    "far_rows",  # the same out of a table that no cache holds
    "far_narrow_rows",
    "pick",  # gathered single elements
    "compare",  # booleans from numbers
    "running_sum",  # of booleans
    "places",  # positions of the true ones
    "topk",  # the best third of rows of 6,144
    "topk_few",  # the best twelfth
    "sort",  # rows of 64, stable
]
PartName = Literal["projections", "indexer", "attention", "feed_forward", "experts", "norms", "head", "step"]
# Which grid a product is looked up in: weights of that type, one head's of a layer's fp32 weights, or one of a batch of
# fp32 activations, or the only one of such a batch, which threads do not share.
ProductKind = Literal["f32", "bf16", "f16", "heads", "batched", "lone"]

Product = tuple[ProductKind, float, float, float]  # kind, rows, inner, outer
Sweep = tuple[SweepName, float]  # name, elements


@dataclass(frozen=True)
class Work:
    """Work of one part.

    Attributes:
        products: matrix products and how many of each.
        sweeps: walks over memory and how many of each.
        num_calls: operations dispatched that compute, products and sweeps among them.
        num_views: operations dispatched that only make another view, or nothing.
    """

    products: Mapping[Product, float]
    sweeps: Mapping[Sweep, float]
    num_calls: float
    num_views: float

    @property
    def product_flops(self) -> float:
        """FLOPs of all matrix products, a multiply-add counted as two."""
        return sum(2 * rows * inner * outer * count for (_, rows, inner, outer), count in self.products.items())

    def seconds(self, rates: PlainRates) -> float:
        """Time at measured rates: every call costs its launch, and its work beyond that of the smallest size."""
        total = self.num_calls * rates.call_s + self.num_views * rates.view_s
        for (kind, rows, inner, outer), count in self.products.items():
            grid = rates.batched if kind == "batched" else rates.weights["bf16" if kind == "f16" else kind]
            total += count * (grid.at(rows, inner, outer) - grid.seconds[0])
        for (name, size), count in self.sweeps.items():
            curve = rates.sweeps[name]
            total += count * (curve.at(size) - curve.seconds[0])
        return total


class Tally:
    """Counts the work of one step, part by part.

    Dispatches and work are counted apart: a tile of the last few tokens costs as many calls as a full one, and less
    work.

    Attributes:
        part: what is being counted.
        times: how often what is being counted happens, layers of one kind for instance.
    """

    def __init__(self) -> None:
        self.part: PartName = "step"
        self.times: float = 1
        self._products: dict[PartName, dict[Product, float]] = {}
        self._sweeps: dict[PartName, dict[Sweep, float]] = {}
        self._calls: dict[PartName, float] = {}
        self._views: dict[PartName, float] = {}

    def dispatch(self, calls: float = 0, views: float = 0, *, times: float = 1) -> None:
        """Operations that compute, and operations that only make views or find nothing to do."""
        self._calls[self.part] = self._calls.get(self.part, 0) + calls * times * self.times
        self._views[self.part] = self._views.get(self.part, 0) + views * times * self.times

    def sweep(self, name: SweepName, size: float, count: float = 1) -> None:
        """`count` walks over `size` elements each."""
        sweeps = self._sweeps.setdefault(self.part, {})
        sweeps[name, size] = sweeps.get((name, size), 0) + count * self.times

    def product(self, product: Product, count: float = 1) -> None:
        """`count` matrix products."""
        products = self._products.setdefault(self.part, {})
        products[product] = products.get(product, 0) + count * self.times

    def work(self) -> dict[PartName, Work]:
        """What was counted."""
        return {
            part: Work(
                products=self._products.get(part, {}),
                sweeps=self._sweeps.get(part, {}),
                num_calls=calls,
                num_views=self._views[part],
            )
            for part, calls in self._calls.items()
        }

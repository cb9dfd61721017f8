"""What moves out of the fastest tier when a run does not fit there.

In this order: routed experts, whole layers from the last one up; the remaining layers' weights, from the last one up;
cached rows, while index keys stay, since every one of them is read for every token; at last experts go on from RAM to
disk. A machine with one tier of memory goes from the first step to the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from longlens.model.config import ModelConfig
from longlens.model.needs import parameter_needs
from longlens.plan.budget import Budget, safety_bytes
from longlens.plan.file_types import weight_class
from longlens.plan.hardware_records import Hardware
from longlens.plan.plan import Component
from longlens.units import format_bytes

_ROWS = ("latents", "keys_and_values")
_TITLES = {"gpu": "GPU memory", "ram": "RAM", "disk": "disk"}


@dataclass(frozen=True)
class Placement:
    """Where everything lies.

    Attributes:
        budget: components by tier.
        moves: what left the fastest tier, and why, a line each.
        fits: whether every tier holds what lies in it, with the safety margin in the fastest.
    """

    budget: Budget
    moves: tuple[str, ...]
    fits: bool


@dataclass(frozen=True)
class _Slice:
    """One layer's bytes of one class of weights."""

    name: str
    layer: int
    num_bytes: int


def place(config: ModelConfig, budget: Budget, hardware: Hardware) -> Placement:
    """Move what does not fit.

    Args:
        config: the model.
        budget: everything in the fastest tier of the machine.
        hardware: tiers and what is free in them.

    Returns:
        The first placement that fits; if none does, one that does not.
    """
    if budget.total_bytes > sum(tier.free_bytes for tier in hardware.tiers):
        return Placement(budget, (), fits=False)
    return _Mover(config, budget, hardware).moved()


class _Mover:
    """Works through the steps; every step is taken only as far as it is needed."""

    def __init__(self, config: ModelConfig, budget: Budget, hardware: Hardware) -> None:
        self._free = {tier.name: tier.free_bytes for tier in hardware.tiers}
        memory = [tier.name for tier in hardware.tiers if tier.name != "disk"]
        self._fast = memory[0]
        self._slow = memory[1] if len(memory) > 1 else None
        self._has_disk = hardware.tier("disk") is not None
        self._spare = safety_bytes(budget.total_bytes)
        self._amounts = {component.name: component.num_bytes for component in budget.components}
        self._slices = _slices(config, self._amounts)
        self._tiers: dict[tuple[str, int], str] = {}
        self._rows_tier: str = self._fast
        self._moves: list[str] = []

    def moved(self) -> Placement:
        experts = [part for part in self._slices if part.name == "experts"]
        others = [part for part in self._slices if part.name != "experts"]
        if self._slow is not None:
            self._move(experts, self._fast, self._slow)
            self._move(others, self._fast, self._slow)
            if self._over(self._fast) > 0:
                self._move_rows(others, self._slow)
        if self._has_disk:
            last_memory = self._slow or self._fast
            self._move([part for part in experts if self._tier(part) == last_memory], last_memory, "disk")
        fits = all(self._over(tier) <= 0 for tier in self._free)
        return Placement(Budget(tuple(self._components())), tuple(self._moves), fits)

    def _move(self, parts: list[_Slice], source: str, target: str) -> None:
        """Move layers, the last one first, until the source holds what is left."""
        moved: list[_Slice] = []
        excess = self._over(source)
        for layer in sorted({part.layer for part in parts}, reverse=True):
            if excess <= 0:
                break
            for part in parts:
                if part.layer == layer:
                    self._tiers[part.name, part.layer] = target
                    moved.append(part)
                    excess -= part.num_bytes
        if moved:
            layers = sorted({part.layer for part in moved})
            what = "experts" if moved[0].name == "experts" else "other weights"
            span = f"{what} of layers {layers[0]}-{layers[-1]}" if len(layers) > 1 else f"{what} of layer {layers[0]}"
            self._moves.append(self._line(span, sum(part.num_bytes for part in moved), source, target))

    def _move_rows(self, others: list[_Slice], target: str) -> None:
        """Move cached rows, and take back the layers that fit again without them."""
        for part in others:
            self._tiers.pop((part.name, part.layer), None)
        self._moves = [line for line in self._moves if not line.startswith("other weights")]
        self._rows_tier = target
        self._moves.append(self._line("cached rows", self._bytes_of_rows(), self._fast, target))
        self._move(others, self._fast, target)

    def _line(self, what: str, num_bytes: int, source: str, target: str) -> str:
        where = _TITLES[target]
        return f"{what} ({format_bytes(num_bytes)}) {'on' if target == 'disk' else 'in'} {where}: {self._why(source)}"

    def _why(self, source: str) -> str:
        return f"{format_bytes(self._free[source])} of {_TITLES[source]} are too little"  # type: ignore[index]

    def _over(self, tier: str) -> int:
        used = sum(component.num_bytes for component in self._components() if component.tier == tier)
        spare = self._spare if tier == self._fast else 0
        return used + spare - self._free[tier]  # type: ignore[index]

    def _tier(self, part: _Slice) -> str:
        return self._tiers.get((part.name, part.layer), self._fast)

    def _bytes_of_rows(self) -> int:
        return sum(self._amounts.get(name, 0) for name in _ROWS)

    def _components(self) -> Iterator[Component]:
        """One component a name and tier, whole names in the order of the budget."""
        away: dict[tuple[str, str], int] = {}
        for part in self._slices:
            tier = self._tier(part)
            if tier != self._fast:
                away[part.name, tier] = away.get((part.name, tier), 0) + part.num_bytes
        for name, num_bytes in self._amounts.items():
            elsewhere = {tier: count for (other, tier), count in away.items() if other == name}
            home = self._rows_tier if name in _ROWS else self._fast
            if (left := num_bytes - sum(elsewhere.values())) or not elsewhere:
                yield Component(name, home, left)
            yield from (Component(name, tier, count) for tier, count in elsewhere.items())


def _slices(config: ModelConfig, amounts: Mapping[str, int]) -> tuple[_Slice, ...]:
    """Bytes of each class by layer, in the proportion of its parameters; the sums are exact."""
    counts = _layer_counts(config)
    totals: dict[str, int] = {}
    for (name, _), count in counts.items():
        totals[name] = totals.get(name, 0) + count
    slices, done = [], dict.fromkeys(totals, 0)
    for (name, layer), count in counts.items():
        num_bytes, total = amounts.get(name, 0), totals[name]
        before = done[name] * num_bytes // total
        done[name] += count
        slices.append(_Slice(name, layer, done[name] * num_bytes // total - before))
    return tuple(slices)


@cache
def _layer_counts(config: ModelConfig) -> Mapping[tuple[str, int], int]:
    """Parameters of each class by layer; norms, a few thousand numbers a layer, are left where they are."""
    counts: dict[tuple[str, int], int] = {}
    for need in parameter_needs(config):
        parts = need.name.split(".")
        if parts[1] == "layers" and (name := weight_class(need, config)) not in ("mtp", "norms"):
            counts[name, int(parts[2])] = counts.get((name, int(parts[2])), 0) + need.num_elements
    return MappingProxyType(counts)

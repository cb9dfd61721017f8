"""Samples, taken in turns; medians, spreads, and the ratio of two sides round by round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """Seconds on the wall, and of all threads of the process together."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Spread:
    """A median, with the first and third quartile around it."""

    median: float
    low: float
    high: float

    @property
    def relative(self) -> float:
        """Distance between the quartiles as a share of the median."""
        return (self.high - self.low) / self.median


def spread_of(values: Sequence[float]) -> Spread:
    """Median and quartiles; of fewer than three values the quartiles are the extremes.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("no values")
    if len(values) < 3:
        return Spread(statistics.median(values), min(values), max(values))
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def rates(samples: Sequence[Sample], num_tokens: int) -> Spread:
    """Tokens a second."""
    return spread_of([num_tokens / sample.wall_s for sample in samples])


def busy_threads(samples: Sequence[Sample]) -> float:
    """Processor seconds for each second on the wall, over all samples: what a core that was taken away shows in."""
    return sum(sample.cpu_s for sample in samples) / sum(sample.wall_s for sample in samples)


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample]) -> Spread:
    """How many times faster we are, from the two samples of each round: a drift of the machine moves both.

    Raises:
        ValueError: the sides have different numbers of samples, or none.
    """
    return spread_of([peer.wall_s / own.wall_s for own, peer in zip(ours, theirs, strict=True)])


def alternate(
    sides: Mapping[str, Callable[[], Sample]], *, num_rounds: int, num_warm_ups: int = 1
) -> dict[str, list[Sample]]:
    """Run the sides in turns, A B A B; the first rounds warm up and are thrown away."""
    kept: dict[str, list[Sample]] = {name: [] for name in sides}
    for round_number in range(num_warm_ups + num_rounds):
        for name, run in sides.items():
            sample = run()
            if round_number >= num_warm_ups:
                kept[name].append(sample)
    return kept

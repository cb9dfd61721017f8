"""Two records side by side: what changed between them, and whether that is more than the spread.

Records are compared only if at most one thing tells them apart, so that a change has one possible cause. What follows
from other things (bytes, predictions) is not counted as a thing.

A figure has changed if all three hold:

1. the medians lie further apart than the deviations of both (median absolute deviation, times 1.4826, which makes it
   the standard deviation of normal numbers) together;
2. they lie further apart than `RUN_TO_RUN` of the smaller one: within one run the samples share a process, its memory
   layout and the machine's mood, so their spread says nothing about how far two runs of the same thing lie apart;
3. a Mann-Whitney test (two-sided, exact up to 10,000 arrangements) gives p < 0.05.

Everything else is "no change".

Source: Mann and Whitney, Annals of Mathematical Statistics 18 (1947), for the test.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from longlens.bench.figure import LEAST_SAMPLES, Figure
from longlens.bench.record import Record
from longlens.errors import LonglensError

Verdict = Literal["no change", "faster", "slower"]
RUN_TO_RUN = 0.03
_NORMAL_FACTOR = 1.4826
_SIGNIFICANT = 0.05
_MOST_ARRANGEMENTS = 10_000
_QUIET_LOAD = 0.5

# Of the machine, what it is; not what happened to be free on it.
_MACHINE_KEYS = (
    *("cpu_name", "num_physical_cores", "num_logical_cores", "cpu_quota", "instruction_sets", "memory_total_bytes"),
    "gpus",
)
_GPU_KEYS = ("name", "compute_capability", "memory_total_bytes")
# Of the plan, what is decided; the rest follows from it, from the model or from the machine.
_PLAN_CONSEQUENCES = frozenset(
    {"model", "file_type", "gather_above_tokens", "fits", "tiers", "components", "not_built", "hardware", "ttft_s"}
    | {"decode_tokens_per_s"}
)
# Things that may change the numbers that are computed; all others must leave every token as it is.
_MAY_CHANGE_TOKENS = frozenset(
    {"model", "plan compute_element", "plan cache_element", "plan weights_form", "dtype", "cache_type"}
)


@dataclass(frozen=True)
class Difference:
    """One thing that two records do not share."""

    thing: str
    first: object
    second: object

    def __str__(self) -> str:
        return f"{self.thing} ({self.first} and {self.second})"


@dataclass(frozen=True)
class Change:
    """One figure in both records.

    Attributes:
        first: of record A.
        second: of record B.
        ratio: how many times as fast B is.
        probability: of ranks this uneven, were there no change.
        verdict: what is said of B.
        refusal: why nothing is said; None if something is.
    """

    first: Figure
    second: Figure
    ratio: float
    probability: float
    verdict: Verdict
    refusal: str | None = None


@dataclass(frozen=True)
class Comparison:
    """What two records say together.

    Attributes:
        difference: the one thing that tells them apart; None if nothing does.
        changes: figures that both have.
        alone: names of figures that only one has.
        notes: what weakens the comparison.
    """

    difference: Difference | None
    changes: tuple[Change, ...]
    alone: tuple[str, ...]
    notes: tuple[str, ...] = ()


def compare(first: Record, second: Record) -> Comparison:
    """Compare record B with record A, figure by figure.

    Raises:
        LonglensError: more than one thing differs, no figure is in both, or a figure has fewer than five samples.
    """
    found = differences(first, second)
    if len(found) > 1:
        raise LonglensError(
            f"the records differ in more than one thing: {'; '.join(map(str, found))}",
            "measure again with all but one of them equal; options such as -t, -c and --chunk-tokens pin the plan",
        )
    firsts, seconds = _by_name(first), _by_name(second)
    shared = [name for name in firsts if name in seconds]
    if not shared:
        raise LonglensError("the records have no figure in common", "measure the same workloads, with the same labels")
    for figure in (*(firsts[name] for name in shared), *(seconds[name] for name in shared)):
        if len(figure.samples) < LEAST_SAMPLES:
            raise LonglensError(
                f"{figure.name} has {len(figure.samples)} samples, a comparison needs {LEAST_SAMPLES}",
                f"measure again with -r {LEAST_SAMPLES} or more",
            )
    difference = found[0] if found else None
    return Comparison(
        difference,
        tuple(_change(firsts[name], seconds[name], difference) for name in shared),
        tuple(f"{name}, {label}" for name, label in {**firsts, **seconds} if (name, label) not in shared),
        tuple(_notes(first, second)),
    )


def differences(first: Record, second: Record) -> tuple[Difference, ...]:
    """List the things that tell two records apart, each by name."""
    found = [
        *_compare_code(first.code, second.code),
        *_unequal("model", first.model, second.model),
        *_unequal("machine", _machine(first.machine), _machine(second.machine)),
        *_compare_plans(first.plan, second.plan),
    ]
    for key in sorted(first.settings.keys() | second.settings.keys()):
        if key != "repetitions":  # more samples of the same thing are welcome
            found += _unequal(key, first.settings.get(key), second.settings.get(key))
    return tuple(found)


def rank_test(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided probability of the Mann-Whitney test that two sets of samples come from one distribution.

    Exact while the arrangements can be counted, ties included; normal approximation beyond.
    """
    ranks = _ranks([*first, *second])
    count, total = len(first), len(first) + len(second)
    middle = count * (total + 1) / 2
    distance = abs(sum(ranks[:count]) - middle)
    if math.comb(total, count) <= _MOST_ARRANGEMENTS:
        sums = [abs(sum(chosen) - middle) for chosen in combinations(ranks, count)]
        return sum(value >= distance - 1e-9 for value in sums) / len(sums)
    mean = (total + 1) / 2
    variance = sum((rank - mean) ** 2 for rank in ranks) / total * count * (total - count) / (total - 1)
    return 1.0 if variance == 0 else math.erfc(distance / math.sqrt(2 * variance))


def _change(first: Figure, second: Figure, difference: Difference | None) -> Change:
    ratio = second.median / first.median if first.is_more_better else first.median / second.median
    probability = rank_test(first.values, second.values)
    may_differ = difference is not None and difference.thing in _MAY_CHANGE_TOKENS
    if first.digest != second.digest and not may_differ:
        refusal = "the two computed different tokens"
        return Change(first, second, ratio, probability, "no change", refusal)
    distance = abs(first.median - second.median)
    spread = _NORMAL_FACTOR * (first.deviation + second.deviation)
    run_to_run = RUN_TO_RUN * min(first.median, second.median)
    if distance <= max(spread, run_to_run) or probability >= _SIGNIFICANT:
        return Change(first, second, ratio, probability, "no change")
    return Change(first, second, ratio, probability, "faster" if ratio > 1 else "slower")


def _ranks(values: Sequence[float]) -> list[float]:
    """Places in rising order from 1 on; equal values share the mean of theirs."""
    ordered = sorted(values)
    places = {value: ordered.index(value) + (ordered.count(value) + 1) / 2 for value in set(values)}
    return [places[value] for value in values]


def _notes(first: Record, second: Record) -> Iterator[str]:
    for letter, record in (("A", first), ("B", second)):
        commit = record.code.get("commit")
        if commit is None or commit.endswith("-dirty"):
            yield f"{letter} does not say which code it measured: its commit is {commit}"
        load = record.machine.get("load_average")
        if load and load[0] > _QUIET_LOAD:
            yield f"{letter} was measured on a busy machine: the load was {load[0]:.1f} before it began"


def _by_name(record: Record) -> dict[tuple[str, str], Figure]:
    return {(figure.name, figure.label): figure for figure in record.figures}


def _compare_code(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """Our version and commit are one thing; torch is another."""
    ours = [(code.get("longlens"), code.get("commit")) for code in (first, second)]
    return [*_unequal("longlens", *ours), *_unequal("torch", first.get("torch"), second.get("torch"))]


def _compare_plans(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    found: list[Difference] = []
    for key in sorted(first.keys() | second.keys()):
        if key not in _PLAN_CONSEQUENCES and not key.endswith(("_bytes", "_bytes_per_token")):
            found += _unequal(f"plan {key}", first.get(key), second.get(key))
    return found


def _machine(machine: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: machine.get(key) for key in _MACHINE_KEYS}
    found["gpus"] = [{key: gpu.get(key) for key in _GPU_KEYS} for gpu in machine.get("gpus") or ()]
    return found


def _unequal(thing: str, first: Any, second: Any) -> list[Difference]:
    if _plain(first) == _plain(second):
        return []
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        # Only what differs is shown; the thing is one all the same.
        keys = [key for key in first.keys() | second.keys() if _plain(first.get(key)) != _plain(second.get(key))]
        return [Difference(thing, {key: first.get(key) for key in keys}, {key: second.get(key) for key in keys})]
    return [Difference(thing, first, second)]


def _plain(value: Any) -> Any:
    """As JSON would give it back: a record that was just made equals the one that was read."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value

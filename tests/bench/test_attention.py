from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from longlens.bench.attention import AttentionBench, measure_attention
from longlens.bench.attention_stack import ATTENTION_KINDS, AttentionKind, StackSize
from longlens.bench.figure import Figure
from longlens.errors import CancelledError, CapacityError, LonglensError, UsageError
from longlens.kernels.choose import KernelChoice, choose_kernels
from longlens.kernels.interface import CachedRows, IndexQuery
from tests.convert.small_geometry import SMALL

PLENTY = 2**40
BENCH = AttentionBench(StackSize(SMALL, 4), contexts=(24, 48), repetitions=5)
CHOICE = choose_kernels("cpu")


@pytest.fixture(autouse=True)
def one_step_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longlens.bench.attention.LEAST_SAMPLE_SECONDS", 0.0)


def take(bench: AttentionBench, choice: KernelChoice = CHOICE) -> list[Figure]:
    return list(measure_attention(bench, choice, PLENTY))


class Counting:
    """Kernels that count how often an operation is asked for, and with how many positions."""

    def __init__(self) -> None:
        self.calls: dict[str, set[int]] = {}
        self._kernels = CHOICE.kernels

    def __getattr__(self, name: str) -> object:
        return getattr(self._kernels, name)

    def index_and_select(self, query: IndexQuery, keys: CachedRows, *, topk: int) -> torch.Tensor:
        self.calls.setdefault("index", set()).add(keys.num_positions)
        return self._kernels.index_and_select(query, keys, topk=topk)

    def sparse_attend(self, query, latents, up, positions_TK, *, scale):  # type: ignore[no-untyped-def]
        self.calls.setdefault("sparse", set()).add(positions_TK.shape[1])
        return self._kernels.sparse_attend(query, latents, up, positions_TK, scale=scale)

    def dense_attend(self, query, latents, up, *, positions_TK=None, **rest):  # type: ignore[no-untyped-def]
        assert positions_TK is None
        self.calls.setdefault("dense", set()).add(latents.num_positions)
        return self._kernels.dense_attend(query, latents, up, positions_TK=positions_TK, **rest)


def test_every_kind_is_measured_at_every_context() -> None:
    figures = take(BENCH)
    assert [figure.name for figure in figures] == [
        f"attention {kind} q1 @ d{context}" for kind in ATTENTION_KINDS for context in (24, 48)
    ]
    assert {(figure.unit, figure.label, len(figure.samples)) for figure in figures} == {("ms", "warm", 5)}
    assert [figure.cached_tokens for figure in figures] == [24, 48] * 4


@pytest.mark.parametrize(
    ("kind", "calls"),
    [
        ("dense mla", {"dense": {49}}),
        ("dsa", {"index": {49}, "sparse": {16}}),
        ("index share", {"index": {49}, "sparse": {16}}),
    ],
)
def test_a_kind_runs_the_kernels_that_it_stands_for(kind: AttentionKind, calls: dict[str, set[int]]) -> None:
    counting = Counting()
    take(replace(BENCH, kinds=(kind,), contexts=(48,)), replace(CHOICE, kernels=counting))
    assert counting.calls == calls


def test_the_same_seed_computes_the_same_and_another_does_not() -> None:
    short = replace(BENCH, kinds=("index share",), contexts=(48,))
    first, again, other = (take(replace(short, seed=seed))[0].digest for seed in (0, 0, 1))
    assert first == again != other


def test_a_chunk_of_queries_is_a_figure_of_its_own() -> None:
    (figure,) = take(replace(BENCH, kinds=("dsa",), contexts=(48,), queries=7))
    assert (figure.name, figure.read_tokens) == ("attention dsa q7 @ d48", 7)


def test_rows_that_do_not_fit_are_refused_before_they_are_written() -> None:
    with pytest.raises(CapacityError, match="gqa: the rows of 49 tokens take"):
        measure_attention(BENCH, CHOICE, 1000)


def test_a_step_that_computes_something_else_when_it_is_repeated_is_refused() -> None:
    class Drifting(Counting):
        steps = 0

        def project(self, *arguments: torch.Tensor) -> torch.Tensor:
            self.steps += 1
            return self._kernels.project(*arguments) + self.steps * 1e-6

    with pytest.raises(LonglensError, match="computed something else"):
        take(replace(BENCH, kinds=("dsa",), contexts=(48,)), replace(CHOICE, kernels=Drifting()))


def test_measuring_stops_when_it_is_told_to() -> None:
    figures = measure_attention(BENCH, CHOICE, PLENTY)
    next(figures)
    BENCH.cancel.cancel()
    with pytest.raises(CancelledError):
        next(figures)


@pytest.mark.parametrize("change", [{"queries": 0}, {"contexts": ()}, {"contexts": (0, 8)}, {"repetitions": 0}])
def test_nothing_to_measure_is_wrong_usage(change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        replace(BENCH, **change)

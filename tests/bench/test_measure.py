from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from longlens.bench.figure import Figure
from longlens.bench.measure import Clock, Measuring, check_label, check_same_tokens, measure, token_digest
from longlens.bench.workload import Workload
from longlens.cache.pages import PagePool
from longlens.engine.engine import Engine
from longlens.engine.loop import EngineLimits
from longlens.engine.turn_record import TurnRecord
from longlens.errors import CancelledError, ContextLengthError, LonglensError, UsageError
from tests.engine.conftest import FakeModel

VOCABULARY = 31


class World:
    """An engine over an exact model, with a clock that moves one second every time it is looked at."""

    def __init__(self, *, max_context: int = 256) -> None:
        self.model = FakeModel(vocab_size=VOCABULARY)
        pool = PagePool(self.model.cache_spec, max_context // self.model.cache_spec.page_tokens + 1, "cpu")
        self.engine = Engine(self.model, pool, EngineLimits(8, max_context))
        self.pool = pool

    def take(self, *workloads: Workload, **wishes: object) -> list[Figure]:
        seconds = itertools.count()
        clock = Clock(lambda: float(next(seconds)), lambda: 0.5)
        return list(
            measure(self.engine, VOCABULARY, workloads, Measuring(**{"repetitions": 5, "clock": clock} | wishes))
        )

    def tokens_read(self) -> int:
        return sum(count for call in self.model.finished_calls for _, count in call)


def test_a_figure_has_as_many_samples_as_asked_for_and_the_names_of_its_workload() -> None:
    (figure,) = World().take(Workload("pp", 16, 0, 12))
    assert (figure.name, figure.kind, figure.depth, figure.unit, figure.label) == (
        *("pp16 @ d12", "pp16", 12, "tok/s"),
        "warm",
    )
    assert len(figure.samples) == 5
    assert (figure.cached_tokens, figure.read_tokens) == (12, 16)


def test_prefill_is_tokens_by_the_time_of_extend() -> None:
    (figure,) = World().take(Workload("pp", 16, 0))
    assert figure.values == [16.0] * 5  # the clock moves on by one second between its two readings


def test_decode_is_steps_by_the_time_from_the_first_token_to_the_last() -> None:
    for depth in (0, 12):
        (figure,) = World().take(Workload("tg", 0, 6, depth))
        assert [sample.wall_s for sample in figure.samples] == [6.0] * 5
        assert figure.values == [1.0] * 5


def test_decode_runs_one_forward_for_each_timed_token() -> None:
    world = World()
    world.take(Workload("tg", 0, 6, 12), repetitions=1, warms_up=False)
    assert world.tokens_read() == 12 + 6


def test_both_counts_tokens_read_and_written() -> None:
    (figure,) = World().take(Workload("pg", 10, 4))
    assert figure.values == [14 / 5] * 5  # five tokens are seen, one reading of the clock each


def test_the_first_token_is_timed_from_before_the_prompt() -> None:
    (figure,) = World().take(Workload("ttft", 16, 0))
    assert (figure.unit, figure.values) == ("s", [1.0] * 5)


def test_a_prefix_is_read_once_whatever_is_measured_behind_it() -> None:
    world = World()
    deep = [Workload("pp", 8, 0, 40), Workload("pp", 8, 0, 16), Workload("tg", 0, 4, 40)]
    figures = world.take(*deep, repetitions=5)
    assert [figure.cached_tokens for figure in figures] == [16, 40, 40]
    pp = 2 * 6 * (8 + 7)  # six repetitions with the one that warms up, and the gate's tokens but for the last
    assert world.tokens_read() == 40 + pp + 6 * 4


def test_pages_are_given_back() -> None:
    world = World()
    world.take(Workload("pp", 9, 0, 7), Workload("tg", 0, 3, 7))
    assert world.pool.num_used_pages == 0


def test_the_digest_depends_on_the_tokens_and_not_on_the_repetition() -> None:
    first, again = (World().take(Workload("pp", 16, 0, 8))[0].digest for _ in range(2))
    other = World().take(Workload("pp", 16, 0, 8), seed=1)[0].digest
    assert first == again != other
    assert token_digest([1, 2]) != token_digest([2, 1])


def test_repetitions_that_write_different_tokens_are_refused() -> None:
    world = World()
    honest = world.model.logits
    seeds = itertools.count()

    def drifting(hidden_TD: torch.Tensor) -> torch.Tensor:
        return honest(hidden_TD).roll(next(seeds) // 8, -1)

    world.model.logits = drifting
    with pytest.raises(LonglensError, match="pp16 is refused: its repetitions wrote different tokens"):
        world.take(Workload("pp", 16, 0))


def test_the_warming_run_counts_for_the_gate() -> None:
    with pytest.raises(LonglensError, match="different tokens"):
        check_same_tokens("pp16", [(1, 2), (1, 3), (1, 2)])


@pytest.mark.parametrize(
    ("label", "workload"),
    [("warm", Workload("pp", 8, 0)), ("cold", Workload("pp", 8, 0, 16)), ("cold", Workload("tg", 0, 3, 1))],
)
def test_a_label_that_the_cache_denies_is_refused(label: str, workload: Workload) -> None:
    with pytest.raises(LonglensError, match=f'{workload.name} is not "{label}"'):
        World().take(workload, label=label)


@pytest.mark.parametrize("workload", [Workload("pp", 8, 0), Workload("tg", 0, 3)])
def test_a_label_that_the_cache_confirms_stays(workload: Workload) -> None:
    assert World().take(workload, label="cold")[0].label == "cold"


def test_warm_means_the_whole_prefix() -> None:
    record = TurnRecord(24, 8, 16, 1, 0.1, 0.1, 0.1, "length")
    with pytest.raises(LonglensError, match="8 of 16 tokens"):
        check_label("warm", Workload("pp", 8, 0, 16), record)
    check_label("warm", Workload("pp", 8, 0, 16), replace(record, cached_tokens=16))


def test_after_restart_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="after restart"):
        Measuring(repetitions=5, label="after restart")


def test_a_workload_that_does_not_fit_is_refused_before_any_token_is_read() -> None:
    world = World(max_context=32)
    with pytest.raises(ContextLengthError, match="do not fit a context of 32"):
        world.take(Workload("pp", 8, 0), Workload("pp", 30, 0))
    assert world.model.calls == []


def test_measuring_stops_when_it_is_told_to() -> None:
    world = World()
    measuring = Measuring(repetitions=5)
    figures: Iterator[Figure] = measure(
        world.engine, VOCABULARY, [Workload("pp", 8, 0), Workload("tg", 0, 3)], measuring
    )
    next(figures)
    measuring.cancel.cancel()
    with pytest.raises(CancelledError):
        next(figures)
    assert world.pool.num_used_pages == 0


def test_no_repetition_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="0 repetitions"):
        Measuring(repetitions=0)

"""Samples are taken in turns, and their ratio is taken round by round."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.peers import timing
from benchmarks.peers.timing import Sample, Spread

seconds = st.floats(0.001, 100)


def test_the_sides_take_turns_and_the_first_rounds_are_thrown_away() -> None:
    order: list[str] = []

    def side(name: str) -> Sample:
        order.append(name)
        return Sample(float(len(order)), 0.0)

    samples = timing.alternate({"a": lambda: side("a"), "b": lambda: side("b")}, num_rounds=2, num_warm_ups=1)
    assert order == ["a", "b"] * 3
    assert [sample.wall_s for sample in samples["a"]] == [3.0, 5.0]
    assert [sample.wall_s for sample in samples["b"]] == [4.0, 6.0]


def test_median_and_quartiles_of_five_values() -> None:
    assert timing.spread_of([5.0, 1.0, 4.0, 2.0, 3.0]) == Spread(3.0, 2.0, 4.0)
    assert Spread(4.0, 3.0, 5.0).relative == 0.5


@pytest.mark.parametrize("values", [[2.0], [1.0, 3.0]])
def test_the_quartiles_of_few_values_are_the_extremes(values: list[float]) -> None:
    assert timing.spread_of(values) == Spread(2.0, min(values), max(values))


def test_no_values_have_no_median() -> None:
    with pytest.raises(ValueError, match="no values"):
        timing.spread_of([])


@given(st.lists(seconds, min_size=1, max_size=9))
def test_a_median_lies_between_its_quartiles(values: list[float]) -> None:
    spread = timing.spread_of(values)
    assert min(values) <= spread.low <= spread.median <= spread.high <= max(values)


def test_rates_are_tokens_over_seconds_on_the_wall() -> None:
    assert timing.rates([Sample(2.0, 4.0), Sample(4.0, 8.0)], 8) == Spread(3.0, 2.0, 4.0)


def test_busy_threads_are_processor_seconds_over_seconds_on_the_wall() -> None:
    assert timing.busy_threads([Sample(1.0, 2.0), Sample(3.0, 3.0)]) == 1.25


def test_a_ratio_above_one_says_that_we_are_faster() -> None:
    assert timing.ratio([Sample(1.0, 1.0)], [Sample(2.0, 2.0)]).median == 2.0


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=7))
def test_a_drift_that_both_sides_share_moves_no_ratio(drift: list[tuple[float, float]]) -> None:
    ours = [Sample(slow, slow) for slow, _ in drift]
    theirs = [Sample(2 * slow, slow) for slow, _ in drift]
    assert timing.ratio(ours, theirs) == Spread(2.0, 2.0, 2.0)


def test_sides_with_different_numbers_of_samples_have_no_ratio() -> None:
    with pytest.raises(ValueError):
        timing.ratio([Sample(1.0, 1.0)] * 2, [Sample(1.0, 1.0)])

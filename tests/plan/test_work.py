from __future__ import annotations

import pytest

from longlens.plan.work import Tally, Work
from tests.plan.rates_by_hand import plain_rates


def test_a_tally_keeps_parts_apart_and_multiplies_by_layers() -> None:
    tally = Tally()
    tally.dispatch(1, views=2)
    tally.part, tally.times = "experts", 3
    tally.dispatch(2, times=5)
    tally.sweep("map", 100, 4)
    tally.sweep("map", 100)
    tally.product(("f32", 2, 3, 4))
    work = tally.work()
    assert (work["step"].num_calls, work["step"].num_views) == (1, 2)
    assert work["experts"] == Work({("f32", 2, 3, 4): 3}, {("map", 100): 15}, 30, 0)
    assert work["experts"].product_flops == 3 * 2 * 2 * 3 * 4


def test_time_is_launches_and_what_lies_above_the_smallest_size() -> None:
    rates = plain_rates()
    assert Work({}, {("map", 1): 7}, 7, 3).seconds(rates) == pytest.approx(7 * rates.call_s + 3 * rates.view_s)
    curve, grid = rates.sweeps["map"], rates.weights["f32"]
    work = Work({("f32", 16, 256, 512): 2}, {("map", 65_536): 1}, 0, 0)
    expected = 2 * (grid.at(16, 256, 512) - grid.seconds[0]) + curve.at(65_536) - curve.seconds[0]
    assert work.seconds(rates) == pytest.approx(expected)


def test_half_precision_weights_are_looked_up_as_bf16() -> None:
    rates = plain_rates()
    seconds = [Work({(kind, 64, 256, 512): 1}, {}, 0, 0).seconds(rates) for kind in ("f16", "bf16", "f32")]  # type: ignore[dict-item]
    assert seconds[0] == seconds[1] < seconds[2]

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.plan.cost_plain_parts import (
    SCRATCH_BYTES,
    StepShape,
    Tiles,
    batch_of,
    choose_best,
    far_share,
    gather_rows,
    rms_norm,
    rotate,
    tiles_of,
    write_rows,
)
from longlens.plan.work import Tally, Work
from longlens.units import MIB

FLOATS = StepShape(4, 10, "f32", "f32")
HALVES = StepShape(4, 10, "bf16", "bf16")


def counted(tally: Tally) -> Work:
    return tally.work().get("step", Work({}, tally._sweeps.get("step", {}), 0, 0))


@given(st.integers(1, 300), st.integers(1, 100), st.integers(0, 1000), st.integers(0, 1200))
def test_tiles_see_on_average_what_their_last_tokens_see(tokens: int, tile: int, first: int, least: int) -> None:
    tiles = Tiles(tokens, tile)
    total, start, count = 0, 0, 0
    while start < tokens:
        stop = min(start + tile, tokens)
        total += (stop - start) * max(first + stop, least)
        start, count = stop, count + 1
    assert tiles.mean_seen(first, least) == pytest.approx(total / tokens)
    assert tiles.count == count
    assert tiles.size * tiles.weight == pytest.approx(tokens)


def test_tiles_fill_the_scratch_and_hold_at_least_one_token() -> None:
    assert tiles_of(1000, SCRATCH_BYTES / 7).tile == 7
    assert tiles_of(1000, SCRATCH_BYTES * 2).tile == 1


def test_a_norm_of_halves_converts_both_ways_and_one_of_floats_does_not() -> None:
    works = []
    for shape in (FLOATS, HALVES):
        tally = Tally()
        rms_norm(tally, shape, 4, 8)
        works.append(counted(tally))
    assert works[0].num_calls + works[0].num_views == works[1].num_calls + works[1].num_views == 9
    assert {name for name, _ in works[1].sweeps} - {name for name, _ in works[0].sweeps} == {"widen", "narrow"}


def test_interleaved_pairs_cost_walks_over_every_second_element() -> None:
    tally = Tally()
    rotate(tally, FLOATS, 64, is_interleaved=True)
    assert counted(tally).sweeps == {("weave", 32): 4, ("map", 32): 2, ("weave", 64): 1}
    plain = Tally()
    rotate(plain, FLOATS, 64, is_interleaved=False)
    assert not any(name == "weave" for name, _ in counted(plain).sweeps)


@pytest.mark.parametrize(
    ("element", "cached", "name"), [("f32", "f16", "narrow_f16"), ("f32", "bf16", "narrow"), ("bf16", "f32", "widen")]
)
def test_rows_are_converted_when_the_cache_has_another_type(element: str, cached: str, name: str) -> None:
    tally = Tally()
    write_rows(tally, StepShape(4, 10, element, cached), 16)  # type: ignore[arg-type]
    assert ("copy", 64) in counted(tally).sweeps
    assert (name, 64) in counted(tally).sweeps


def test_gathers_lie_between_the_widths_and_tables_that_were_measured() -> None:
    def shares(row_bytes: float, table_bytes: float) -> dict[str, float]:
        tally = Tally()
        gather_rows(tally, 10, row_bytes, table_bytes / row_bytes)
        return {name: count for (name, _), count in counted(tally).sweeps.items() if count > 1e-12}

    assert shares(2048, MIB) == {"rows": 1}
    assert shares(100, 10**12) == {"far_narrow_rows": 1}
    assert shares(512, 64 * MIB) == {"far_narrow_rows": 1}
    middle = shares(1024, 2 * MIB)
    assert middle == pytest.approx({"rows": 0.5, "narrow_rows": 0.5})


def test_choosing_lies_between_the_shares_that_were_measured() -> None:
    tally = Tally()
    choose_best(tally, 3, 1200, 250, 8)
    assert counted(tally).sweeps == pytest.approx({("topk", 3600): 4, ("topk_few", 3600): 4})


def test_a_batch_of_one_is_looked_up_where_threads_share_nothing() -> None:
    for members, kind in ((1, "lone"), (2, "batched"), (16, "batched")):
        tally = Tally()
        tally.dispatch(1)
        batch_of(tally, members, (8, 64, 256), 3)
        assert counted(tally).products == {(kind, 8, 64, 256): 3 * members}


def test_a_small_table_is_near_a_large_one_far_and_one_between_partly() -> None:
    assert far_share(MIB) == 0
    assert far_share(512 * MIB) == 1
    assert 0 < far_share(8 * MIB) < far_share(32 * MIB) < 1

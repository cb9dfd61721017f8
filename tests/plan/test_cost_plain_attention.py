from __future__ import annotations

from collections.abc import Callable

import pytest

from longlens.model.config import GqaConfig, IndexerConfig, MlaConfig
from longlens.plan.cost_plain_attention import dense_attend, gqa_attend, index_and_select, is_expanded, sparse_attend
from longlens.plan.cost_plain_parts import StepShape
from longlens.plan.work import Tally, Work

MLA = MlaConfig(64, 2048, 512, 192, 64, 256, 1e-5, 0.0625)
INDEXER = IndexerConfig(32, 128, 2048, True, (True,))


def counted(count: Callable[[Tally], None]) -> Work:
    tally = Tally()
    count(tally)
    return tally.work()["step"]


def test_gathered_attention_costs_2176_flops_a_query_position_and_head() -> None:
    shape = StepShape(64, 100_000, "f32", "f32")
    work = counted(lambda tally: sparse_attend(tally, shape, MLA, 2048))
    core = 64 * 2048 * 64 * 2176
    absorbing = 2 * 64 * 64 * 512 * (192 + 256)
    assert work.product_flops == pytest.approx(core + absorbing)


def test_gathered_attention_does_not_grow_with_the_context() -> None:
    flops = [
        counted(lambda tally, seen=seen: sparse_attend(tally, StepShape(8, seen, "f32", "f32"), MLA, 2048))
        for seen in (10_000, 1_000_000)
    ]
    assert flops[0].product_flops == flops[1].product_flops


def test_scoring_costs_8256_flops_a_query_and_position() -> None:
    shape = StepShape(1, 50_000, "f32", "f32")
    assert counted(lambda tally: index_and_select(tally, shape, INDEXER)).product_flops == pytest.approx(8256 * 50_000)


def test_many_queries_expand_the_rows_and_one_does_not() -> None:
    assert is_expanded(StepShape(2048, 2048, "f32", "f32"), MLA)
    assert not is_expanded(StepShape(1, 2048, "f32", "f32"), MLA)
    works = [
        counted(lambda tally, tokens=tokens: dense_attend(tally, StepShape(tokens, 2048, "f32", "f32"), MLA, 0))
        for tokens in (1, 2048)
    ]
    assert any(kind == "heads" for kind, *_ in works[0].products)
    assert all(kind in ("batched", "lone") for kind, *_ in works[1].products)


def test_a_selection_below_the_threshold_costs_a_mask_and_no_products() -> None:
    shape = StepShape(16, 3000, "f32", "f32")
    all_visible, masked = (counted(lambda tally, k=k: dense_attend(tally, shape, MLA, k)) for k in (0, 2048))
    assert masked.product_flops == all_visible.product_flops
    assert masked.num_calls > all_visible.num_calls


def test_grouped_heads_read_every_row_repeated_for_every_query_head() -> None:
    shape = StepShape(1, 1000, "f32", "bf16")
    work = counted(lambda tally: gqa_attend(tally, shape, GqaConfig(8, 2, 64)))
    assert work.sweeps["repeat", 1000 * 8 * 64] == 2
    assert work.sweeps["widen", 1000 * 2 * 64] == 2
    assert work.product_flops == 2 * 2 * 1000 * 8 * 64

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longlens.errors import SelectionError, ShapeError
from longlens.kernels.interface import CachedRows, FeedForward, GqaQuery, IndexQuery, MlaQuery, MlaUpProjections
from longlens.kernels.reference import ReferenceKernels, index_scores
from longlens.units import MIB
from longlens.weights.expert_store import ResidentExperts

KERNELS = ReferenceKernels()
SMALL_TILES = ReferenceKernels(scratch_bytes=1)


def rows(pool: torch.Tensor) -> CachedRows:
    return CachedRows(pool, torch.arange(pool.shape[0]))


def scoring_query(scores: list[list[float]], first_position: int) -> tuple[IndexQuery, CachedRows]:
    """A query whose index scores against position s are exactly `scores[t][s]` (unit keys, one head a position)."""
    table = torch.tensor(scores)
    tokens, positions = table.shape
    query = torch.eye(positions).expand(tokens, -1, -1)
    return IndexQuery(query, table, first_position), rows(torch.eye(positions))


def naive_selection(scores: list[list[float]], first_position: int, topk: int) -> list[list[int]]:
    chosen = []
    for token, row in enumerate(scores):
        visible = range(min(first_position + token + 1, len(row)))
        best = sorted(sorted(visible, key=lambda place: (-row[place], place))[:topk])
        chosen.append(best + [-1] * (min(topk, len(row)) - len(best)))
    return chosen


def test_the_lower_position_wins_a_tie() -> None:
    query, keys = scoring_query([[1.0, 2.0, 1.0, 1.0, 0.5]], first_position=4)
    assert KERNELS.index_and_select(query, keys, topk=3).tolist() == [[0, 1, 2]]


def test_rows_with_fewer_visible_tokens_end_in_minus_one() -> None:
    query, keys = scoring_query([[1.0, 9.0, 9.0]] * 3, first_position=0)
    assert KERNELS.index_and_select(query, keys, topk=2).tolist() == [[0, -1], [0, 1], [1, 2]]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_selection_equals_a_sort_on_plateaus_of_any_shape(data: st.DataObject) -> None:
    positions = data.draw(st.integers(1, 40))
    tokens = data.draw(st.integers(1, positions))
    level = st.sampled_from([-1.0, 0.0, 0.0, 0.5, 1.0])
    scores = data.draw(
        st.lists(st.lists(level, min_size=positions, max_size=positions), min_size=tokens, max_size=tokens)
    )
    topk = data.draw(st.integers(1, positions + 2))
    query, keys = scoring_query(scores, positions - tokens)
    selected = SMALL_TILES.index_and_select(query, keys, topk=topk)
    assert selected.tolist() == naive_selection(scores, positions - tokens, topk)
    assert selected.dtype == torch.int32


@pytest.mark.parametrize("topk", [1, 7, 2048, 5000])
def test_a_running_topk_over_tiles_equals_one_sort_over_all(topk: int) -> None:
    generator = torch.Generator().manual_seed(topk)
    keys = torch.randn(5000, 8, generator=generator).round()  # rounding makes plateaus across tiles
    query = IndexQuery(
        torch.randn(3, 2, 8, generator=generator).round(), torch.randn(3, 2, generator=generator).round(), 4997
    )
    scores = index_scores(query, keys)
    expected = naive_selection(scores.tolist(), 4997, topk)
    assert KERNELS.index_and_select(query, rows(keys), topk=topk).tolist() == expected


def test_scores_that_are_not_finite_are_an_error_not_a_selection() -> None:
    query, keys = scoring_query([[1.0, math.nan, 0.0]], first_position=2)
    with pytest.raises(SelectionError, match="not finite"):
        KERNELS.index_and_select(query, keys, topk=2)


def test_queries_and_keys_of_different_widths_are_refused() -> None:
    with pytest.raises(ShapeError, match="disagree"):
        KERNELS.index_and_select(IndexQuery(torch.ones(1, 2, 8), torch.ones(1, 2), 0), rows(torch.ones(4, 9)), topk=2)


def mla_world(tokens: int, positions: int, dtype: torch.dtype = torch.float64) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(tokens * 1000 + positions)
    heads, nope, rope, latent, value = 3, 6, 4, 10, 5

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return SimpleNamespace(
        query=MlaQuery(normal(tokens, heads, nope), normal(tokens, heads, rope), positions - tokens),
        latents=rows(normal(positions, latent + rope)),
        up=MlaUpProjections(normal(heads, nope, latent), normal(heads, value, latent)),
    )


def naive_attention(world: SimpleNamespace, allowed: list[list[int]]) -> torch.Tensor:
    """Attention written as its formula: for each token and head, over the allowed positions."""
    query, up, cached = world.query, world.up, world.latents.pool_PX.double()
    latent = up.key_HNC.shape[2]
    out = torch.zeros(query.nope_THN.shape[0], up.key_HNC.shape[0], up.value_HVC.shape[1], dtype=torch.float64)
    for token, places in enumerate(allowed):
        for head in range(up.key_HNC.shape[0]):
            keys = torch.cat([cached[places, :latent] @ up.key_HNC[head].double().T, cached[places, latent:]], 1)
            whole_query = torch.cat([query.nope_THN[token, head], query.rope_THR[token, head]]).double()
            weights = torch.softmax(keys @ whole_query * 0.3, 0)
            out[token, head] = weights @ (cached[places, :latent] @ up.value_HVC[head].double().T)
    return out


@pytest.mark.parametrize("kernels", [KERNELS, SMALL_TILES])
@pytest.mark.parametrize(("tokens", "positions"), [(1, 1), (1, 17), (5, 5), (6, 20)])
def test_every_form_of_attention_is_the_formula(kernels: ReferenceKernels, tokens: int, positions: int) -> None:
    world = mla_world(tokens, positions)
    generator = torch.Generator().manual_seed(7)
    allowed = []
    for token in range(tokens):
        visible = positions - tokens + token + 1
        allowed.append(sorted(torch.randperm(visible, generator=generator)[: min(4, visible)].tolist()))
    width = min(4, positions)
    selected = torch.tensor([row + [-1] * (width - len(row)) for row in allowed], dtype=torch.int32)
    expected = naive_attention(world, allowed)
    gathered = kernels.sparse_attend(world.query, world.latents, world.up, selected, scale=0.3)
    torch.testing.assert_close(gathered, expected, rtol=0, atol=1e-12)
    for form in ("absorbed", "expanded"):
        masked = kernels.dense_attend(world.query, world.latents, world.up, scale=0.3, form=form, positions_TK=selected)
        torch.testing.assert_close(masked, expected, rtol=0, atol=1e-12)
        dense = kernels.dense_attend(world.query, world.latents, world.up, scale=0.3, form=form)
        everything = [list(range(positions - tokens + token + 1)) for token in range(tokens)]
        torch.testing.assert_close(dense, naive_attention(world, everything), rtol=0, atol=1e-12)


def test_bf16_operands_stay_within_the_bound_of_the_same_rounded_operands() -> None:
    world = mla_world(6, 40, torch.bfloat16)
    selected = torch.arange(34, dtype=torch.int32).expand(6, -1)
    ours = KERNELS.sparse_attend(world.query, world.latents, world.up, selected, scale=0.3).double()
    expected = naive_attention(world, selected.tolist())
    assert (ours - expected).norm() / expected.norm() <= 2e-3


def test_rows_are_found_through_slots_wherever_they_lie() -> None:
    world = mla_world(2, 9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    scattered = CachedRows(world.latents.pool_PX[order.argsort()], order)
    scattered = CachedRows(torch.empty(9, 14, dtype=torch.float64).index_copy(0, order, world.latents.pool_PX), order)
    selected = torch.tensor([[0, 3, 7], [2, 5, 8]], dtype=torch.int32)
    plain = KERNELS.sparse_attend(world.query, world.latents, world.up, selected, scale=0.3)
    paged = KERNELS.sparse_attend(world.query, scattered, world.up, selected, scale=0.3)
    assert torch.equal(plain, paged)


def test_grouped_query_attention_is_the_formula() -> None:
    generator = torch.Generator().manual_seed(3)
    query = torch.randn(4, 6, 8, generator=generator, dtype=torch.float64)
    keys, values = (torch.randn(10, 3 * 8, generator=generator, dtype=torch.float64) for _ in range(2))
    ours = SMALL_TILES.gqa_attend(GqaQuery(query, 6), rows(keys), rows(values), scale=0.5)
    for token in range(4):
        for head in range(6):
            group = slice(head // 2 * 8, head // 2 * 8 + 8)
            weights = torch.softmax(keys[: 7 + token, group] @ query[token, head] * 0.5, 0)
            torch.testing.assert_close(ours[token, head], weights @ values[: 7 + token, group], rtol=0, atol=1e-12)


def test_experts_are_weighted_and_summed_per_token() -> None:
    generator = torch.Generator().manual_seed(5)
    gate, up = (torch.randn(4, 6, 5, generator=generator) for _ in range(2))
    bank = ResidentExperts(gate, up, torch.randn(4, 5, 6, generator=generator))
    x = torch.randn(3, 5, generator=generator)
    ids = torch.tensor([[0, 2], [3, 1], [2, 0]])
    weights = torch.rand(3, 2, generator=generator)
    ours = KERNELS.moe(x, ids, weights, bank)
    for token in range(3):
        expected = sum(
            weights[token, choice] * KERNELS.feed_forward(x[token : token + 1], bank.expert(int(ids[token, choice])))
            for choice in range(2)
        )
        torch.testing.assert_close(ours[token : token + 1], expected)


def test_swiglu_with_biases_is_the_formula() -> None:
    gate, up, down = torch.full((2, 1), 2.0), torch.full((2, 1), 3.0), torch.full((1, 2), 1.0)
    weights = FeedForward(gate, up, down, torch.ones(2), torch.ones(2) * 2, torch.ones(1) * 3)
    x = 0.5
    silu = (2 * x + 1) / (1 + math.exp(-(2 * x + 1)))
    assert KERNELS.feed_forward(torch.tensor([[x]]), weights).item() == pytest.approx(2 * silu * (3 * x + 2) + 3)


def test_layer_norm_subtracts_the_mean_and_rms_norm_does_not() -> None:
    x = torch.tensor([[1.0, 3.0]])
    ones, zeros = torch.ones(2), torch.zeros(2)
    torch.testing.assert_close(KERNELS.layer_norm(x, ones, zeros + 0.5, 0.0), torch.tensor([[-0.5, 1.5]]))
    torch.testing.assert_close(KERNELS.rms_norm(x, ones * 2, 0.0), x * 2 / math.sqrt(5))


def peak_scratch_bytes(positions: int) -> int:
    """Most memory that selecting and attending take at once, without what goes in and comes out."""
    tokens, topk = 64, 512
    generator = torch.Generator().manual_seed(0)
    keys = rows(torch.randn(positions, 32, generator=generator))
    latents = rows(torch.randn(positions, 48, generator=generator))
    index_query = IndexQuery(torch.randn(tokens, 8, 32), torch.randn(tokens, 8), positions - tokens)
    query = MlaQuery(torch.randn(tokens, 4, 16), torch.randn(tokens, 4, 16), positions - tokens)
    up = MlaUpProjections(torch.randn(4, 16, 32), torch.randn(4, 16, 32))
    kernels = ReferenceKernels(scratch_bytes=8 * MIB)
    cpu = [torch.profiler.ProfilerActivity.CPU]
    # acc_events keeps torch 2.11 from warning that it would forget events of earlier cycles; there is but one.
    with torch.profiler.profile(activities=cpu, profile_memory=True, acc_events=True) as profile:
        selected = kernels.index_and_select(index_query, keys, topk=topk)
        kernels.sparse_attend(query, latents, up, selected, scale=0.2)
    running = peak = 0
    for event in profile.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            running += event.nbytes()
            peak = max(peak, running)
    return peak


def test_peak_scratch_at_128k_is_that_at_16k() -> None:
    at_16k, at_128k = peak_scratch_bytes(16_384), peak_scratch_bytes(131_072)
    assert at_16k > MIB, "the measurement must see the scratch"
    assert at_128k <= 1.1 * at_16k
    assert at_128k <= 256 * MIB


@pytest.mark.cuda
def test_cuda_gives_the_numbers_of_the_cpu() -> None:
    world = mla_world(6, 40, torch.float32)
    selected = torch.arange(34, dtype=torch.int32).expand(6, -1)
    cpu = KERNELS.sparse_attend(world.query, world.latents, world.up, selected, scale=0.3)
    gpu = KERNELS.sparse_attend(
        MlaQuery(world.query.nope_THN.cuda(), world.query.rope_THR.cuda(), world.query.first_position),
        CachedRows(world.latents.pool_PX.cuda(), world.latents.slots_S.cuda()),
        MlaUpProjections(world.up.key_HNC.cuda(), world.up.value_HVC.cuda()),
        selected.cuda(),
        scale=0.3,
    )
    assert (cpu - gpu.cpu()).norm() / cpu.norm() <= 1e-5


def test_a_feed_forward_has_the_gradients_of_its_formula_and_leaves_its_input_alone() -> None:
    x_TD = torch.randn(5, 8)
    before_TD = x_TD.clone()
    weights = FeedForward(torch.randn(12, 8), torch.randn(12, 8), torch.randn(8, 12))
    hidden_TF = torch.nn.functional.silu(x_TD @ weights.gate_FD.T) * (x_TD @ weights.up_FD.T)
    torch.testing.assert_close(KERNELS.feed_forward(x_TD, weights), hidden_TF @ weights.down_DF.T)
    torch.testing.assert_close(x_TD, before_TD)
    learning_TD, expected_TD = x_TD.clone().requires_grad_(), x_TD.clone().requires_grad_()
    KERNELS.feed_forward(learning_TD, weights).sum().backward()
    hidden_TF = torch.nn.functional.silu(expected_TD @ weights.gate_FD.T) * (expected_TD @ weights.up_FD.T)
    (hidden_TF @ weights.down_DF.T).sum().backward()
    torch.testing.assert_close(learning_TD.grad, expected_TD.grad)

"""Fused operations of a decode step: against the same operations made of smaller ones, and against the formulas."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from longlens.kernels import attention_inputs
from longlens.kernels.interface import (
    CachedRows,
    GqaQuery,
    IndexInputWeights,
    MlaInputWeights,
    MlaQuery,
    PackedUpProjections,
)
from longlens.kernels.packed import PackedTensor
from longlens.kernels.reference import ReferenceKernels
from longlens.kernels.rotary import Angles
from longlens.kernels.routing import RouterWeights
from tests.kernels.random_matrices import distance, random_matrix, random_rows, rounded

library = pytest.importorskip("longlens.kernels._native", reason="the C++ kernels are not built")
from longlens.kernels.native import NativeKernels  # noqa: E402

PLAIN = ReferenceKernels()
UNITS = library.unit_names()
NATIVE = {unit: NativeKernels(2, unit) for unit in UNITS}
CLOSE = 1e-5  # what another order of fp32 sums may change
BOUND = 2e-3  # the design's bound for kernels with int8 operands
INT8 = 2e-2  # what rounding activations to int8 may change
SCALE = 0.05
HIDDEN, LATENT, HEADS, NOPE, ROPE, RANK, VALUE = 288, 96, 3, 64, 32, 96, 64
INDEX_HEADS, INDEX_WIDTH = 4, 64
TOKENS = (1, 2, 3, 8)


def angles_of(num_tokens: int) -> Angles:
    angles_TR = random_rows(num_tokens, ROPE // 2, 9)
    return Angles(angles_TR.cos(), angles_TR.sin())


def mla_weights(*, is_selecting: bool, is_interleaved: bool) -> MlaInputWeights:
    return MlaInputWeights(
        q_a_proj=random_matrix("Q8_0", (LATENT, HIDDEN), 1),
        q_a_layernorm=random_rows(1, LATENT, 2)[0],
        q_b_proj=random_matrix("Q4_0", (HEADS * (NOPE + ROPE), LATENT), 3),
        kv_a_proj_with_mqa=random_matrix("Q8_0", (RANK + ROPE, HIDDEN), 4),
        kv_a_layernorm=random_rows(1, RANK, 5)[0],
        eps=1e-5,
        num_heads=HEADS,
        nope_dim=NOPE,
        is_rope_interleaved=is_interleaved,
        is_selecting=is_selecting,
    )


def index_weights(*, is_interleaved: bool) -> IndexInputWeights:
    return IndexInputWeights(
        wq_b=random_matrix("Q8_0", (INDEX_HEADS * INDEX_WIDTH, LATENT), 1),
        wk=random_matrix("Q5_K", (INDEX_WIDTH, 256), 2),
        k_norm_weight=random_rows(1, INDEX_WIDTH, 3)[0],
        k_norm_bias=random_rows(1, INDEX_WIDTH, 4)[0],
        eps=1e-6,
        weights_proj=random_rows(INDEX_HEADS, 256, 5),
        num_heads=INDEX_HEADS,
        rope_dim=ROPE,
        is_rope_interleaved=is_interleaved,
    )


def up_projections() -> PackedUpProjections:
    key = random_matrix("Q8_0", (HEADS, RANK, NOPE), 1)
    return PackedUpProjections(key, random_matrix("Q4_1", (HEADS, VALUE, RANK), 2))


def queries(num_tokens: int, first_position: int) -> MlaQuery:
    query_THX = random_rows(num_tokens, HEADS * (NOPE + ROPE), 3).view(num_tokens, HEADS, -1)
    return MlaQuery(query_THX[..., :NOPE], query_THX[..., NOPE:], first_position)


def cached(num_positions: int, width: int, dtype: torch.dtype, seed: int = 0) -> CachedRows:
    """Rows that lie in the pool in no order, with others between them."""
    pool_PX = random_rows(2 * num_positions, width, seed).to(dtype)
    return CachedRows(pool_PX, torch.randperm(2 * num_positions)[:num_positions])


def selected(num_tokens: int, first_position: int, most: int) -> Tensor:
    rows = torch.full((num_tokens, most), -1, dtype=torch.int32)
    for token in range(num_tokens):
        chosen = torch.randperm(first_position + token + 1)[:most].sort().values
        rows[token, : len(chosen)] = chosen
    return rows


def attended(query: MlaQuery, latents: CachedRows, up: PackedUpProjections, positions_TK: Tensor | None) -> Tensor:
    """The formula in fp64, with the two roundings of activations to int8."""
    dense = up.dense(torch.float64)
    num_tokens = query.nope_THN.shape[0]
    nope_THN = rounded(query.nope_THN.reshape(-1, NOPE) * SCALE).view(num_tokens, HEADS, NOPE)
    latent_THC = torch.einsum("thn,hnc->thc", nope_THN, dense.key_HNC)
    query_THX = torch.cat([latent_THC, query.rope_THR.double() * SCALE], -1)
    rows_SX = latents.pool_PX[latents.slots_S].double()
    out_THC = torch.empty(num_tokens, HEADS, RANK, dtype=torch.float64)
    for token in range(num_tokens):
        seen = torch.arange(query.first_position + token + 1)
        if positions_TK is not None:
            seen = positions_TK[token][positions_TK[token] >= 0].long()
        weights_HS = (query_THX[token] @ rows_SX[seen].T).softmax(-1)
        out_THC[token] = weights_HS @ rows_SX[seen, :RANK]
    out_THC = rounded(out_THC.reshape(-1, RANK)).view(num_tokens, HEADS, RANK)
    return torch.einsum("thc,hvc->thv", out_THC, dense.value_HVC)


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("is_interleaved", [False, True])
@pytest.mark.parametrize("is_selecting", [False, True])
@pytest.mark.parametrize("unit", UNITS)
def test_inputs_of_latent_attention_are_those_of_smaller_operations(
    unit: str, is_selecting: bool, is_interleaved: bool, tokens: int
) -> None:
    kernels = NATIVE[unit]
    weights = mla_weights(is_selecting=is_selecting, is_interleaved=is_interleaved)
    hidden_TD, angles = random_rows(tokens, HIDDEN), angles_of(tokens)
    ours = kernels.mla_inputs(hidden_TD, weights, angles)
    theirs = attention_inputs.mla_inputs(kernels, hidden_TD, weights, angles)
    for name in ("latent_TQ", "nope_THN", "rope_THR", "rows_TX"):
        assert distance(getattr(ours, name), getattr(theirs, name)) <= INT8 / 4, name
    assert distance(ours.latent_TQ, theirs.latent_TQ) <= CLOSE
    assert distance(ours.rows_TX, theirs.rows_TX) <= CLOSE


def test_a_layer_that_selects_keeps_more_bits_of_its_latent() -> None:
    kernels, hidden_TD, angles = NATIVE[UNITS[0]], random_rows(1, HIDDEN), angles_of(1)
    weights = mla_weights(is_selecting=False, is_interleaved=True)
    exact = PLAIN.mla_inputs(hidden_TD, weights, angles).latent_TQ
    coarse = kernels.mla_inputs(hidden_TD, weights, angles).latent_TQ
    fine = kernels.mla_inputs(hidden_TD, replace(weights, is_selecting=True), angles).latent_TQ
    assert distance(fine, exact) <= distance(coarse, exact) / 30


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("is_interleaved", [False, True])
@pytest.mark.parametrize("unit", UNITS)
def test_inputs_of_the_indexer_are_exact_to_15_bits(unit: str, is_interleaved: bool, tokens: int) -> None:
    weights, angles = index_weights(is_interleaved=is_interleaved), angles_of(tokens)
    hidden_TD, latent_TQ = random_rows(tokens, 256, 1), random_rows(tokens, LATENT, 2)
    ours = NATIVE[unit].index_inputs(hidden_TD, latent_TQ, weights, angles)
    theirs = PLAIN.index_inputs(hidden_TD, latent_TQ, weights, angles)
    for name in ("query_TJI", "key_TI", "head_weights_TJ"):
        assert distance(getattr(ours, name), getattr(theirs, name)) <= 2e-4, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("tokens", "num_positions"), [(1, 1), (1, 700), (3, 259), (8, 8)])
@pytest.mark.parametrize("unit", UNITS)
def test_attention_to_all_visible_positions_is_the_formula(
    unit: str, tokens: int, num_positions: int, dtype: torch.dtype
) -> None:
    query = queries(tokens, num_positions - tokens)
    latents, up = cached(num_positions, RANK + ROPE, dtype), up_projections()
    ours = NATIVE[unit].dense_attend(query, latents, up, scale=SCALE, form="absorbed")
    assert distance(ours, attended(query, latents, up, None)) <= BOUND


@pytest.mark.parametrize(("tokens", "num_positions", "topk"), [(1, 900, 600), (3, 40, 64), (8, 300, 32)])
@pytest.mark.parametrize("unit", UNITS)
def test_attention_to_selected_positions_is_the_formula(unit: str, tokens: int, num_positions: int, topk: int) -> None:
    query, up = queries(tokens, num_positions - tokens), up_projections()
    latents = cached(num_positions, RANK + ROPE, torch.float32)
    positions_TK = selected(tokens, num_positions - tokens, topk)
    ours = NATIVE[unit].sparse_attend(query, latents, up, positions_TK, scale=SCALE)
    masked = NATIVE[unit].dense_attend(query, latents, up, scale=SCALE, form="absorbed", positions_TK=positions_TK)
    everything = NATIVE[unit].dense_attend(query, latents, up, scale=SCALE, form="absorbed")
    assert distance(ours, attended(query, latents, up, positions_TK)) <= BOUND
    assert torch.equal(ours, masked)
    assert (topk >= num_positions) == torch.equal(ours, everything)


@pytest.mark.parametrize(("tokens", "num_positions"), [(1, 1), (2, 515), (8, 90)])
@pytest.mark.parametrize("unit", UNITS)
def test_grouped_query_attention_is_the_formula(unit: str, tokens: int, num_positions: int) -> None:
    query = GqaQuery(random_rows(tokens, 6 * 32).view(tokens, 6, 32), num_positions - tokens)
    keys, values = cached(num_positions, 2 * 32, torch.float32, 1), cached(num_positions, 2 * 32, torch.bfloat16, 2)
    ours = NATIVE[unit].gqa_attend(query, keys, values, scale=0.2)
    assert distance(ours, PLAIN.gqa_attend(query, keys, values, scale=0.2)) <= CLOSE


@pytest.mark.parametrize("is_normalised", [False, True])
@pytest.mark.parametrize("unit", UNITS)
def test_the_router_chooses_as_the_plain_one_does(unit: str, is_normalised: bool) -> None:
    router = RouterWeights(random_rows(48, HIDDEN, 1) * 0.1, random_rows(1, 48, 2)[0], 4, 1, 1, is_normalised, 2.5)
    hidden_TD = random_rows(8, HIDDEN)
    ids_TA, weights_TA = NATIVE[unit].route(hidden_TD, router)
    expected_ids_TA, expected_weights_TA = PLAIN.route(hidden_TD, router)
    assert torch.equal(ids_TA, expected_ids_TA)
    assert distance(weights_TA, expected_weights_TA) <= CLOSE


def test_the_lower_expert_wins_a_tie() -> None:
    router = RouterWeights(torch.zeros(16, HIDDEN), torch.zeros(16), 4, 1, 1, True, 1.0)
    ids_TA, _ = NATIVE[UNITS[0]].route(random_rows(2, HIDDEN), router)
    assert ids_TA.tolist() == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize("rows", [1, 7, 20])
@pytest.mark.parametrize("unit", UNITS)
def test_norms_are_those_of_plain_torch(unit: str, rows: int) -> None:
    x_TX, weight_X = random_rows(rows, HIDDEN + 5)[:, :HIDDEN], random_rows(1, HIDDEN, 1)[0]
    assert distance(NATIVE[unit].rms_norm(x_TX, weight_X, 1e-5), PLAIN.rms_norm(x_TX, weight_X, 1e-5)) <= CLOSE


@pytest.mark.parametrize("unit", UNITS)
def test_the_number_of_threads_changes_no_bit(unit: str) -> None:
    query, latents, up = queries(2, 700), cached(702, RANK + ROPE, torch.bfloat16), up_projections()
    weights, hidden_TD, angles = (
        mla_weights(is_selecting=True, is_interleaved=True),
        random_rows(2, HIDDEN),
        angles_of(2),
    )
    results = []
    for num_threads in (1, 2, 3):
        kernels = NativeKernels(num_threads, unit)
        inputs = kernels.mla_inputs(hidden_TD, weights, angles)
        attended = kernels.dense_attend(query, latents, up, scale=SCALE, form="absorbed")
        results.append((inputs.rows_TX, inputs.nope_THN, attended))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_show_in_the_result(value: float) -> None:
    query, latents, up = queries(1, 90), cached(91, RANK + ROPE, torch.float32), up_projections()
    latents.pool_PX[latents.slots_S[40], 3] = value
    out_THV = NATIVE[UNITS[0]].dense_attend(query, latents, up, scale=SCALE, form="absorbed")
    assert not out_THV.isfinite().any()


def test_what_does_not_fit_is_made_of_smaller_operations() -> None:
    kernels, angles = NATIVE[UNITS[0]], angles_of(9)
    weights = mla_weights(is_selecting=False, is_interleaved=True)
    assert kernels.mla_inputs(random_rows(9, HIDDEN), weights, angles).rows_TX.shape == (9, RANK + ROPE)
    dense = replace(weights, q_b_proj=_dense(weights.q_b_proj))
    few, first = random_rows(1, HIDDEN), angles.rows(0, 1)
    expected = kernels.mla_inputs(few, weights, first)
    assert distance(kernels.mla_inputs(few, dense, first).nope_THN, expected.nope_THN) <= INT8


def _dense(weight: Tensor | PackedTensor) -> Tensor:
    return weight.dense(torch.float32) if isinstance(weight, PackedTensor) else weight

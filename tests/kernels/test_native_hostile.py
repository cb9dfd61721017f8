"""Numbers that are not finite, huge or tiny, in activations and in weights' scales.

They show where they act and nowhere else, and nothing crashes or hangs. The law: what is not finite in a row of
activations makes that row of the result not finite and leaves the others bit for bit as they are; what is not finite in
a row of weights does so to that column. A result that is finite is the right one.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from longlens.kernels.interface import FeedForward
from longlens.kernels.packed import PackedTensor
from longlens.kernels.packed_experts import PackedExperts
from tests.kernels.random_matrices import (
    TYPES,
    distance,
    half_places,
    random_experts,
    random_matrix,
    random_rows,
    rounded,
)

library = pytest.importorskip("longlens.kernels._native", reason="the C++ kernels are not built")
from longlens.kernels.native import NativeKernels  # noqa: E402

UNITS = library.unit_names()
KERNELS = {(unit, threads): NativeKernels(threads, unit) for unit in UNITS for threads in (1, 2)}
POISONS = (float("nan"), float("inf"), float("-inf"))
LARGEST = float(np.finfo(np.float32).max)
CLOSE = 1e-5

kernels_used = st.sampled_from(sorted(KERNELS)).map(KERNELS.__getitem__)
types = st.sampled_from(sorted(library.type_names()))
rows_counted = st.sampled_from([1, 2, 15, 16, 17, 33]) | st.integers(1, 70)
tokens_counted = st.sampled_from([1, 2, 4, 12, 13]) | st.integers(1, 40)
poisons = st.sampled_from(POISONS)


@st.composite
def widths(draw: st.DrawFn, name: str) -> int:
    """Whole chunks of 256; where blocks are of 32, also less than one, and more than one but not two."""
    block = TYPES[name].block_elements
    return block * draw(st.integers(1, 3) if block == 256 else st.sampled_from([1, 2, 3, 7, 8, 9, 18]))


@st.composite
def products(draw: st.DrawFn) -> tuple[PackedTensor, Tensor]:
    name = draw(types)
    width = draw(widths(name))
    weight = random_matrix(name, (draw(rows_counted), width), draw(st.integers(0, 99)))
    return weight, random_rows(draw(tokens_counted), width, draw(st.integers(0, 99)))


def damaged(weight: PackedTensor, block: int, poison: float, place: int = 0) -> PackedTensor:
    """The same matrix with a half of one of its blocks replaced: its scale (place 0) or its minimum (place 1)."""
    places = half_places(weight.element_type.name)
    data = weight.data.copy()
    at = block * weight.element_type.block_bytes + places[place % len(places)]
    data[at : at + 2] = np.frombuffer(np.float16(poison).tobytes(), np.uint8)
    return PackedTensor(data, weight.element_type, weight.shape)


def only_these_are_spoiled(out_TX: Tensor, clean_TX: Tensor, is_spoiled_TX: Tensor) -> None:
    assert not out_TX[is_spoiled_TX].isfinite().any()
    assert torch.equal(out_TX[~is_spoiled_TX], clean_TX[~is_spoiled_TX])


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_an_activation_that_is_not_finite_spoils_its_row_alone(data: st.DataObject) -> None:
    kernels, (weight, x) = data.draw(kernels_used), data.draw(products())
    token, place = data.draw(st.integers(0, x.shape[0] - 1)), data.draw(st.integers(0, x.shape[1] - 1))
    clean = kernels.project(x, weight)
    x[token, place] = data.draw(poisons)
    is_spoiled = torch.zeros_like(clean, dtype=torch.bool)
    is_spoiled[token] = True
    only_these_are_spoiled(kernels.project(x, weight), clean, is_spoiled)


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_a_damaged_scale_or_minimum_spoils_its_column_alone(data: st.DataObject) -> None:
    kernels, (weight, x) = data.draw(kernels_used), data.draw(products())
    blocks_a_row = weight.shape[1] // weight.element_type.block_elements
    block = data.draw(st.integers(0, weight.shape[0] * blocks_a_row - 1))
    broken = damaged(weight, block, data.draw(poisons), data.draw(st.integers(0, 1)))
    clean = kernels.project(x, weight)
    is_spoiled = torch.zeros_like(clean, dtype=torch.bool)
    is_spoiled[:, block // blocks_a_row] = True
    only_these_are_spoiled(kernels.project(x, broken), clean, is_spoiled)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_finite_product_of_huge_tiny_and_zero_numbers_is_the_right_one(data: st.DataObject) -> None:
    kernels, (weight, x) = data.draw(kernels_used), data.draw(products())
    largest = data.draw(st.sampled_from([LARGEST, 1e38, 1e30, 1e-20, 1e-34]))
    x = x.sign() * torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) * largest
    x[0, :32] = 0.0
    out = kernels.project(x, weight)
    dense = weight.dense(torch.float64)
    expected = rounded(x) @ dense.T
    is_finite = out.isfinite()
    assert not out.isnan().any() or largest >= 1e38
    assert is_finite.all() or largest >= 1e38
    if is_finite.any():
        # of the terms, not of their sum: a sum that cancels keeps the terms' error
        size = rounded(x).abs() @ dense.abs().T
        assert (out[is_finite].double() - expected[is_finite]).norm() <= CLOSE * size[is_finite].norm()


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("tokens", [1, 8])
def test_what_is_all_but_zero_counts_as_zero(unit: str, tokens: int) -> None:
    weight = random_matrix("Q8_0", (18, 256))
    for tiny in (1e-36, float(np.finfo(np.float32).smallest_subnormal), -1e-45):
        assert (KERNELS[unit, 1].project(torch.full((tokens, 256), tiny), weight) == 0).all()


@st.composite
def layers(draw: st.DrawFn, num_experts: int) -> tuple[PackedExperts, Tensor]:
    """Experts of every mixture of types that may stand beside each other, and rows for them."""
    names = draw(st.sampled_from([("Q4_K", "Q4_K", "Q6_K"), ("Q8_0", "Q4_0", "IQ4_NL"), ("Q5_K", "Q4_1", "Q8_0")]))
    hidden = 256 if names[0] in ("Q4_K", "Q5_K") else draw(st.sampled_from([32, 96, 288]))
    width = 256 if names[2] == "Q6_K" else draw(st.sampled_from([32, 96, 288]))
    bank = random_experts(names, num_experts, hidden, width)
    return bank, random_rows(draw(tokens_counted), hidden, draw(st.integers(0, 99))) / 16


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_a_feed_forward_spoils_the_rows_whose_input_is_not_finite(data: st.DataObject) -> None:
    kernels, (bank, x) = data.draw(kernels_used), data.draw(layers(1))
    weights = bank.expert(0)
    clean = kernels.feed_forward(x, weights)
    assume(clean.isfinite().all())
    token = data.draw(st.integers(0, x.shape[0] - 1))
    x[token, data.draw(st.integers(0, x.shape[1] - 1))] = data.draw(poisons)
    is_spoiled = torch.zeros_like(clean, dtype=torch.bool)
    is_spoiled[token] = True
    only_these_are_spoiled(kernels.feed_forward(x, weights), clean, is_spoiled)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("tokens", [1, 9])
def test_damage_in_gate_or_up_spoils_all_and_damage_in_down_one_column(unit: str, tokens: int) -> None:
    kernels = KERNELS[unit, 2]
    healthy = random_experts(("Q8_0", "Q8_0", "Q8_0"), 1, 64, 96).expert(0)
    x = random_rows(tokens, 64) / 16
    gate, up, down = healthy.gate_FD, healthy.up_FD, healthy.down_DF
    assert isinstance(gate, PackedTensor)
    assert isinstance(up, PackedTensor)
    assert isinstance(down, PackedTensor)
    clean = kernels.feed_forward(x, healthy)
    for poison in POISONS:
        for broken in (
            FeedForward(damaged(gate, 5, poison), up, down),
            FeedForward(gate, damaged(up, 5, poison), down),
        ):
            # minus infinity closes a gate: what is behind it is nought, or NaN where nought meets infinity
            assert not kernels.feed_forward(x, broken)[kernels.project(x, gate)[:, 2] > 0].isfinite().any()
        is_spoiled = torch.zeros_like(clean, dtype=torch.bool)
        is_spoiled[:, 2] = True
        broken_down = FeedForward(gate, up, damaged(down, 2 * 3, poison))
        only_these_are_spoiled(kernels.feed_forward(x, broken_down), clean, is_spoiled)


@pytest.mark.parametrize("unit", UNITS)
def test_a_gate_that_is_far_below_zero_is_shut_and_one_far_above_is_open(unit: str) -> None:
    """Where exp overflows: silu(-1e4) is 0 and silu(1e4) is 1e4."""
    bank = random_experts(("Q8_0", "Q8_0", "Q8_0"), 1, 32, 32).expert(0)
    gate, up, down = bank.gate_FD, bank.up_FD, bank.down_DF
    assert isinstance(gate, PackedTensor)
    x = random_rows(12, 32) * 1e4
    gates, ups = (rounded(x) @ m.dense(torch.float64).T for m in (gate, up))  # type: ignore[union-attr]
    hidden = torch.where(gates.abs() > 700, gates.clamp(min=0), torch.nn.functional.silu(gates)) * ups
    expected = rounded(hidden) @ down.dense(torch.float64).T  # type: ignore[union-attr]
    assert (gates < -700).any()
    assert distance(KERNELS[unit, 1].feed_forward(x, bank), expected) < 2e-3


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_experts_spoil_only_rows_that_have_part_in_what_is_not_finite(data: st.DataObject) -> None:
    num_experts = data.draw(st.integers(1, 5))
    kernels, (bank, x) = data.draw(kernels_used), data.draw(layers(num_experts))
    tokens, chosen = x.shape[0], data.draw(st.integers(1, num_experts))
    # with one first choice for all, some experts have all tokens and others none
    first = torch.tensor(data.draw(st.lists(st.integers(0, num_experts - 1), min_size=1, max_size=3)))
    ids = (first[torch.arange(tokens) % len(first)][:, None] + torch.arange(chosen)) % num_experts
    weights = torch.rand(tokens, chosen, generator=torch.Generator().manual_seed(tokens)) + 0.1
    clean = kernels.moe(x, ids, weights, bank)
    token = data.draw(st.integers(0, tokens - 1))
    is_spoiled = torch.zeros_like(clean, dtype=torch.bool)
    kind = data.draw(st.sampled_from(["activation", "share", "expert"]))
    if kind == "activation":
        x[token, data.draw(st.integers(0, x.shape[1] - 1))] = data.draw(poisons)
        is_spoiled[token] = True
    elif kind == "share":
        weights[token, data.draw(st.integers(0, chosen - 1))] = float("nan")
        is_spoiled[token] = True
    else:
        expert_id = data.draw(st.integers(0, num_experts - 1))
        blocks = bank.down_EDF.num_bytes // bank.down_EDF.element_type.block_bytes
        down = damaged(bank.down_EDF, blocks // num_experts * expert_id, float("nan"))
        bank = PackedExperts(bank.gate_EFD, bank.up_EFD, down)
        is_spoiled[(ids == expert_id).any(-1), 0] = True
    only_these_are_spoiled(kernels.moe(x, ids, weights, bank), clean, is_spoiled)

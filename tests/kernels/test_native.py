"""C++ kernels: the plain loops against torch on the same rounded operands, every other unit against the plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from longlens.errors import ShapeError
from longlens.kernels import packed
from longlens.kernels.interface import FeedForward
from longlens.kernels.packed import PackedTensor
from longlens.kernels.reference import ReferenceKernels
from tests.kernels.random_matrices import TYPES, distance, random_experts, random_matrix, random_rows, rounded

library = pytest.importorskip("longlens.kernels._native", reason="the C++ kernels are not built")
from longlens.kernels.native import PACKED_TYPES, NativeKernels  # noqa: E402

PLAIN = "plain loops"
UNITS = library.unit_names()
KERNELS = {unit: NativeKernels(1, unit) for unit in UNITS}
INT8_TYPES = frozenset(library.type_names())
BEST = KERNELS[UNITS[0]]
BOUND = 2e-3  # the design's bound for kernels with int8 operands
CLOSE = 1e-5  # what another order of fp32 sums may change


def matrix_like(name: str, rows: int, blocks: int, seed: int = 0) -> PackedTensor:
    return random_matrix(name, (rows, blocks * TYPES[name].block_elements), seed)


def test_every_type_that_was_promised_has_kernels() -> None:
    assert {"Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q4_0", "Q4_1", "IQ4_NL", "IQ4_XS", "Q5_0"} == INT8_TYPES
    assert set(packed._BLOCKS) == PACKED_TYPES
    assert UNITS[-1] == PLAIN


@pytest.mark.parametrize("tokens", [1, 3, 17])
@pytest.mark.parametrize("name", sorted(INT8_TYPES))
def test_plain_loops_give_the_product_of_the_rounded_operands(name: str, tokens: int) -> None:
    weight = matrix_like(name, 33, 3)
    x = random_rows(tokens, weight.shape[1])
    expected = rounded(x) @ weight.dense(torch.float64).T
    assert distance(KERNELS[PLAIN].project(x, weight), expected) <= CLOSE < BOUND


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_every_unit_agrees_with_the_plain_loops_on_any_shape(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(INT8_TYPES)))
    rows = data.draw(st.sampled_from([1, 2, 15, 16, 17, 31, 33]) | st.integers(1, 70))
    blocks = data.draw(st.integers(1, 3 if TYPES[name].block_elements == 256 else 20))
    tokens = data.draw(st.sampled_from([1, 2, 3, 4, 11, 12, 13, 24, 25]) | st.integers(1, 40))
    weight = matrix_like(name, rows, blocks, data.draw(st.integers(0, 99)))
    x = random_rows(tokens, weight.shape[1], rows)
    expected = KERNELS[PLAIN].project(x, weight)
    # against what is summed, not against the sum: a lone one may be near zero
    summed = (x.abs() @ weight.dense(torch.float32).abs().T).norm()
    for unit in UNITS:
        assert (KERNELS[unit].project(x, weight) - expected).norm() <= CLOSE / 10 * summed, unit


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("tokens", [1, 2, 5, 40])
def test_one_thread_and_two_give_the_same_bits(unit: str, tokens: int) -> None:
    weight = matrix_like("Q4_K", 501, 2)
    x = random_rows(tokens, weight.shape[1])
    bank = random_experts(("Q4_K", "Q4_K", "Q6_K"), 5, 256, 512)
    ids, weights = choices(tokens, 5, 2)
    two = NativeKernels(2, unit)
    for _ in range(3):
        assert torch.equal(two.project(x, weight), KERNELS[unit].project(x, weight))
        assert torch.equal(two.moe(x[:, :256], ids, weights, bank), KERNELS[unit].moe(x[:, :256], ids, weights, bank))


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("tokens", [1, 2, 9, 300])
@pytest.mark.parametrize("name", ["Q4_K", "Q6_K", "Q8_0"])
def test_a_fine_product_has_less_than_a_fiftieth_of_the_error(unit: str, tokens: int, name: str) -> None:
    weight = matrix_like(name, 37, 256 // TYPES[name].block_elements * 3)
    x = random_rows(tokens, weight.shape[1])
    exact = x.double() @ weight.dense(torch.float64).T
    fine = KERNELS[unit].project(x, weight, is_fine=True)
    assert distance(fine, exact) <= distance(KERNELS[unit].project(x, weight), exact) / 50
    assert torch.equal(NativeKernels(2, unit).project(x, weight, is_fine=True), fine)


def test_a_row_of_a_larger_tensor_is_read_with_its_stride() -> None:
    weight = matrix_like("Q8_0", 20, 2)
    wide = random_rows(5, 3 * 64)
    for tokens in (1, 5):
        x = wide[:tokens, 64:128]
        assert torch.equal(BEST.project(x, weight), BEST.project(x.contiguous(), weight))


def test_a_bias_is_added_and_bf16_rows_stay_bf16() -> None:
    weight = matrix_like("Q6_K", 20, 1)
    x = random_rows(2, 256)
    bias = torch.arange(20.0)
    assert torch.allclose(BEST.project(x, weight, bias), BEST.project(x, weight) + bias)
    narrow = BEST.project(x.bfloat16(), weight)
    assert narrow.dtype == torch.bfloat16
    assert torch.equal(narrow, BEST.project(x.bfloat16().float(), weight).bfloat16())


def test_what_has_no_kernel_is_computed_by_torch() -> None:
    x = random_rows(2, 256)
    dense = matrix_like("Q2_K", 20, 1).dense(torch.float32)
    half = PackedTensor(dense.half().view(torch.uint8).numpy().reshape(-1), TYPES["F16"], (20, 256))
    assert torch.equal(BEST.project(x, half), ReferenceKernels().project(x, half))
    assert torch.equal(BEST.project(x, dense), ReferenceKernels().project(x, dense))
    exact = matrix_like("Q8_0", 20, 8)
    assert distance(BEST.project(x.double(), exact), x.double() @ exact.dense(torch.float64).T) < 1e-14


@pytest.mark.parametrize("name", ["Q2_K", "IQ2_XXS", "TQ1_0"])
@pytest.mark.parametrize("tokens", [1, 9])
def test_types_without_an_int8_kernel_are_multiplied_in_bf16(name: str, tokens: int) -> None:
    weight = matrix_like(name, 50, 3)
    x = random_rows(tokens, 768)
    assert 0 < distance(BEST.project(x, weight), ReferenceKernels().project(x, weight)) < 5e-3
    rounded_weight = weight.dense(torch.bfloat16).float()
    assert distance(BEST.project(x, weight), x.bfloat16().float() @ rounded_weight.T) <= CLOSE


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("tokens", [1, 6])
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_shows_in_its_row_and_in_no_other(unit: str, tokens: int, poison: float) -> None:
    weight = matrix_like("Q4_K", 18, 2)
    x = random_rows(tokens, 512)
    clean = KERNELS[unit].project(x, weight)
    x[0, 300] = poison
    spoiled = KERNELS[unit].project(x, weight)
    assert not spoiled[0].isfinite().any()
    assert torch.equal(spoiled[1:], clean[1:])
    assert not KERNELS[unit].project(x, weight, is_fine=True)[0].isfinite().any()


@pytest.mark.parametrize("unit", UNITS)
def test_tiny_and_huge_numbers_and_zeros_stay_finite(unit: str) -> None:
    weight = matrix_like("Q8_0", 18, 8)
    x = torch.zeros(3, 256)
    x[1] = 1e-40  # denormal
    x[2] = 1e30
    x[2, :32] = 0.0
    out = KERNELS[unit].project(x, weight)
    assert (out[:2] == 0).all()
    assert out[2].isfinite().all()
    assert distance(out[2:], rounded(x[2:]) @ weight.dense(torch.float64).T) <= CLOSE


@pytest.mark.parametrize("unit", UNITS)
def test_damaged_scales_show_in_their_row_and_in_no_other(unit: str) -> None:
    weight = matrix_like("Q8_0", 18, 2)
    data = weight.data.copy()
    data[:2] = np.frombuffer(np.float16("nan").tobytes(), np.uint8)
    damaged = PackedTensor(data, weight.element_type, weight.shape)
    for tokens in (1, 6):
        x = random_rows(tokens, 64)
        out = KERNELS[unit].project(x, damaged)
        assert out[:, 0].isnan().all()
        assert torch.equal(out[:, 1:], KERNELS[unit].project(x, weight)[:, 1:])


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ShapeError, match="width 32"):
        BEST.project(random_rows(1, 32), matrix_like("Q8_0", 4, 2))


def choices(tokens: int, num_experts: int, chosen: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    ids = torch.stack([torch.randperm(num_experts, generator=generator)[:chosen] for _ in range(tokens)])
    return ids, torch.rand(tokens, chosen, generator=generator) + 0.1


def experts_of_rounded(x: Tensor, ids: Tensor, weights: Tensor, bank: object) -> Tensor:
    """Each token's experts in fp64, with the activations rounded where the kernels round them."""
    out = torch.zeros(x.shape, dtype=torch.float64)
    rows = rounded(x)
    for token, (chosen, shares) in enumerate(zip(ids.tolist(), weights.tolist(), strict=True)):
        for expert_id, share in zip(chosen, shares, strict=True):
            expert = bank.expert(expert_id)  # type: ignore[attr-defined]
            gate, up, down = (m.dense(torch.float64) for m in (expert.gate_FD, expert.up_FD, expert.down_DF))
            hidden = torch.nn.functional.silu(gate @ rows[token]) * (up @ rows[token])
            out[token] += share * (down @ rounded(hidden[None])[0])
    return out


@pytest.mark.parametrize("names", [("Q4_K", "Q4_K", "Q6_K"), ("Q4_K", "Q6_K", "Q8_0")])
@pytest.mark.parametrize("tokens", [1, 2, 30])
def test_plain_loops_give_the_weighted_sum_of_the_chosen_experts(names: tuple[str, str, str], tokens: int) -> None:
    bank = random_experts(names, 6, 256, 512)
    ids, weights = choices(tokens, 6, 3)
    x = random_rows(tokens, 256) / 16
    expected = experts_of_rounded(x, ids, weights, bank)
    # a hidden number that lies between two steps may round to the other one
    assert distance(KERNELS[PLAIN].moe(x, ids, weights, bank), expected) <= BOUND / 4


@settings(deadline=None, max_examples=30)
@given(
    tokens=st.integers(1, 40),
    num_experts=st.integers(1, 9),
    unit=st.sampled_from(UNITS),
    names=st.sampled_from([("Q4_K", "Q4_K", "Q6_K"), ("Q8_0", "Q4_0", "IQ4_NL"), ("Q5_K", "Q4_1", "IQ4_XS")]),
)
def test_every_unit_sums_experts_as_the_plain_loops_do(
    tokens: int, num_experts: int, unit: str, names: tuple[str, str, str]
) -> None:
    bank = random_experts(names, num_experts, 256, 256)
    ids, weights = choices(tokens, num_experts, min(num_experts, 3))
    x = random_rows(tokens, 256) / 16
    expected = KERNELS[PLAIN].moe(x, ids, weights, bank)
    assert distance(KERNELS[unit].moe(x, ids, weights, bank), expected) <= BOUND / 4


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("ids", [[0] * 20, [3] * 19 + [0], list(range(4)) * 5], ids=["all", "one token", "each some"])
def test_an_expert_may_be_chosen_by_all_by_one_and_by_none(unit: str, ids: list[int]) -> None:
    bank = random_experts(("Q4_K", "Q4_K", "Q4_K"), 4, 256, 256)
    x = random_rows(20, 256) / 16
    weights = torch.ones(20, 1)
    out = KERNELS[unit].moe(x, torch.tensor(ids)[:, None], weights, bank)
    for expert_id in set(ids):
        mine = [token for token, chosen in enumerate(ids) if chosen == expert_id]
        alone = KERNELS[PLAIN].feed_forward(x[mine], bank.expert(expert_id))
        assert distance(out[mine], alone) <= BOUND / 4


def test_an_expert_that_does_not_exist_is_refused() -> None:
    bank = random_experts(("Q8_0", "Q8_0", "Q8_0"), 2, 64, 64)
    for expert_id in (-1, 2):
        with pytest.raises(IndexError):
            BEST.moe(random_rows(1, 64), torch.tensor([[expert_id]]), torch.ones(1, 1), bank)


def test_a_feed_forward_with_biases_or_mixed_weights_is_computed_piece_by_piece() -> None:
    packed = random_experts(("Q8_0", "Q8_0", "Q8_0"), 1, 64, 96).expert(0)
    x = random_rows(3, 64) / 8
    gate = packed.gate_FD
    assert isinstance(gate, PackedTensor)
    mixed = FeedForward(gate.dense(torch.float32), packed.up_FD, packed.down_DF)
    biased = FeedForward(packed.gate_FD, packed.up_FD, packed.down_DF, torch.ones(96), None, torch.ones(64))
    plain = ReferenceKernels()
    whole = plain.feed_forward(x, packed)
    assert distance(BEST.feed_forward(x, packed), whole) < 0.02
    assert distance(BEST.feed_forward(x, mixed), whole) < 0.02
    assert distance(BEST.feed_forward(x, biased), plain.feed_forward(x, biased)) < 0.02


def test_an_unknown_instruction_set_is_refused() -> None:
    with pytest.raises(ValueError, match="MMX"):
        NativeKernels(1, "MMX")


def test_the_name_says_which_instruction_set_runs() -> None:
    assert KERNELS[PLAIN].name == "C++ with plain loops"
    assert KERNELS[PLAIN].unit_name == PLAIN

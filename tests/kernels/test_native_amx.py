"""The AMX unit with emulated tile registers: everything but the three instructions themselves, on any processor."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.random_matrices import TYPES, distance, random_experts, random_matrix, random_rows

library = pytest.importorskip("longlens.kernels._native", reason="the C++ kernels are not built")
from longlens.kernels.native import NativeKernels  # noqa: E402

EMULATED = "AMX emulated"
if "AVX512-VNNI" not in library.unit_names():
    pytest.skip("this processor has no AVX512", allow_module_level=True)
PLAIN = NativeKernels(1, "plain loops")
AMX = NativeKernels(1, EMULATED)
NAMES = library.type_names()
CLOSE = 1e-5  # what another order of fp32 sums may change


@pytest.mark.parametrize("tokens", [4, 16, 17, 32, 33, 71])
@pytest.mark.parametrize("name", NAMES)
def test_tiles_give_the_product_of_the_plain_loops(name: str, tokens: int) -> None:
    weight = random_matrix(name, (37, 768), tokens)
    x = random_rows(tokens, 768)
    assert distance(AMX.project(x, weight), PLAIN.project(x, weight)) <= CLOSE


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_tiles_agree_with_the_plain_loops_on_any_shape(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    rows = data.draw(st.sampled_from([1, 15, 16, 17]) | st.integers(1, 50))
    blocks = data.draw(st.integers(1, 5 if TYPES[name].block_elements == 256 else 36))
    tokens = data.draw(st.integers(4, 70))
    weight = random_matrix(name, (rows, blocks * TYPES[name].block_elements), data.draw(st.integers(0, 99)))
    x = random_rows(tokens, weight.shape[1], rows)
    # against what is summed, not against the sum, which may be near zero
    summed = (x.abs() @ weight.dense(torch.float32).abs().T).norm()
    assert (AMX.project(x, weight) - PLAIN.project(x, weight)).norm() <= CLOSE / 10 * summed


@pytest.mark.parametrize("tokens", [5, 40])
def test_one_thread_and_two_give_the_same_bits(tokens: int) -> None:
    weight = random_matrix("Q6_K", (301, 512))
    x = random_rows(tokens, 512)
    assert torch.equal(NativeKernels(2, EMULATED).project(x, weight), AMX.project(x, weight))


@settings(deadline=None, max_examples=15)
@given(tokens=st.integers(1, 60), num_experts=st.integers(1, 6))
def test_experts_are_summed_as_by_the_plain_loops(tokens: int, num_experts: int) -> None:
    bank = random_experts(("Q4_K", "Q8_0", "Q6_K"), num_experts, 256, 256)
    generator = torch.Generator().manual_seed(tokens)
    ids = torch.stack([torch.randperm(num_experts, generator=generator)[:2] for _ in range(tokens)])
    weights = torch.rand(ids.shape, generator=generator) + 0.1
    x = random_rows(tokens, 256) / 16
    # a hidden number that lies between two steps may round to the other one
    assert distance(AMX.moe(x, ids, weights, bank), PLAIN.moe(x, ids, weights, bank)) <= 5e-4


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_shows_in_its_row_and_in_no_other(poison: float) -> None:
    weight = random_matrix("Q4_K", (18, 512))
    x = random_rows(20, 512)
    clean = AMX.project(x, weight)
    x[3, 300] = poison
    spoiled = AMX.project(x, weight)
    others = [token for token in range(20) if token != 3]
    assert not spoiled[3].isfinite().any()
    assert torch.equal(spoiled[others], clean[others])


def test_emulated_tiles_are_never_chosen_by_themselves() -> None:
    assert EMULATED not in library.unit_names()
    assert AMX.unit_name == EMULATED

"""Blocks expanded in C++, plain loops and SIMD alike: bit for bit gguf-py's numbers, whatever the bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from hypothesis import given, settings
from hypothesis import strategies as st

from longlens.kernels import packed
from longlens.kernels.packed import PackedTensor
from tests.kernels.random_matrices import TYPES, distance, random_matrix, random_rows

library = pytest.importorskip("longlens.kernels._native", reason="the C++ kernels are not built")
from longlens.kernels.dequantise import FAST_TYPES, KIND_NUMBERS, dequantiser, expand  # noqa: E402

ALONE, TWO = library.Processor(1), library.Processor(2)
NAMES = sorted(FAST_TYPES)


def any_blocks(name: str, num_blocks: int, seed: int) -> np.ndarray:
    """Every bit random: scales may be NaN, infinite, denormal or zero."""
    kind = TYPES[name]
    return np.random.default_rng(seed).integers(0, 256, num_blocks * kind.block_bytes, dtype=np.uint8)


def of_gguf_py(name: str, data: np.ndarray) -> torch.Tensor:
    with np.errstate(all="ignore"):
        return torch.from_numpy(dequantize(data.reshape(1, -1), GGMLQuantizationType[name]).reshape(-1))


def same_bits(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Equal bits; of NaNs there are many, and which of them comes is nobody's promise."""
    integers = torch.int32 if theirs.dtype == torch.float32 else torch.int16
    equal = ours.view(integers) == theirs.view(integers)
    return bool((equal | (ours.isnan() & theirs.isnan())).all())


def test_every_type_that_gguf_py_expands_is_fast() -> None:
    assert set(packed._BLOCKS) == FAST_TYPES


@settings(deadline=None, max_examples=120)
@given(st.sampled_from(NAMES), st.integers(1, 40), st.integers(0, 999), st.booleans())
def test_any_bits_give_the_numbers_of_gguf_py(name: str, num_blocks: int, seed: int, is_plain: bool) -> None:
    data = any_blocks(name, num_blocks, seed)
    expected = of_gguf_py(name, data)
    assert same_bits(expand(data, TYPES[name], torch.float32, is_plain=is_plain), expected)
    assert same_bits(expand(data, TYPES[name], torch.bfloat16, is_plain=is_plain), expected.bfloat16())


@pytest.mark.parametrize("is_plain", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_every_type_gives_the_numbers_of_gguf_py(name: str, is_plain: bool) -> None:
    data = any_blocks(name, 300, 7)
    expected = of_gguf_py(name, data)
    assert same_bits(expand(data, TYPES[name], torch.float32, is_plain=is_plain), expected)
    assert same_bits(expand(data, TYPES[name], torch.bfloat16, is_plain=is_plain), expected.bfloat16())


def test_denormal_numbers_are_rounded_to_bf16_and_not_to_zero() -> None:
    data = np.full(17, 0x21, np.uint8)
    data[0] = 0  # 2^-128
    small = expand(data, TYPES["MXFP4"], torch.bfloat16)
    assert small[0].item() == 2.0**-128
    assert small[16].item() == 2.0**-127


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_expands_to_the_same_bits_with_and_without_the_library(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = PackedTensor(any_blocks(name, 24, 1), TYPES[name], (2, 12 * TYPES[name].block_elements))
    fast = tensor.dense(dtype)
    monkeypatch.setattr(packed, "FAST_TYPES", frozenset())
    slow = tensor.dense(dtype)
    assert fast.shape == slow.shape
    assert torch.equal(fast.isnan(), slow.isnan())
    assert torch.equal(fast.nan_to_num(), slow.nan_to_num())


def test_bytes_at_odd_addresses_are_read() -> None:
    tensor = random_matrix("Q4_K", (3, 256))
    moved = np.zeros(tensor.num_bytes + 1, np.uint8)
    moved[1:] = tensor.data
    moved_weights = expand(moved[1:], tensor.element_type, torch.bfloat16)
    assert torch.equal(moved_weights.view(tensor.shape), tensor.dense(torch.bfloat16))


def test_codebooks_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="codebooks"):
        library.Dequantiser(b"\0" * 8)


def product(x: torch.Tensor, weight: PackedTensor, processor: object, *, is_plain: bool = False) -> torch.Tensor:
    out = torch.full((x.shape[0], weight.shape[0] + 3), torch.nan)
    number = KIND_NUMBERS[weight.element_type.name]
    dequantiser(is_plain=is_plain).multiply(
        processor,
        number,
        weight.address,
        *weight.shape,
        x.data_ptr(),
        x.stride(0),
        x.shape[0],
        out.data_ptr(),
        out.stride(0),
    )
    assert out[:, weight.shape[0] :].isnan().all()
    return out[:, : weight.shape[0]]


@pytest.mark.parametrize("is_plain", [True, False])
@pytest.mark.parametrize("tokens", [1, 4, 6])
@pytest.mark.parametrize("name", NAMES)
def test_a_product_is_that_of_both_in_bf16(name: str, tokens: int, is_plain: bool) -> None:
    weight = random_matrix(name, (21, 2304), 3)
    x = random_rows(tokens, 2304)
    expected = x.bfloat16().double() @ weight.dense(torch.bfloat16).double().T
    assert distance(product(x, weight, ALONE, is_plain=is_plain), expected) < 1e-5


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 40), blocks=st.integers(1, 150), tokens=st.integers(1, 20))
def test_a_product_of_any_shape_is_that_of_both_in_bf16(rows: int, blocks: int, tokens: int) -> None:
    weight = random_matrix("MXFP4", (rows, 32 * blocks), rows)
    wide = random_rows(tokens, 32 * blocks + 5)
    x = wide[:, 2 : 2 + 32 * blocks]
    expected = x.bfloat16().double() @ weight.dense(torch.bfloat16).double().T
    assert distance(product(x, weight, ALONE), expected) < 1e-5
    assert torch.equal(product(x, weight, TWO), product(x, weight, ALONE))


def test_a_number_that_is_not_finite_shows_in_its_row_and_in_no_other() -> None:
    weight = random_matrix("IQ3_S", (9, 256))
    x = random_rows(3, 256)
    clean = product(x, weight, ALONE)
    x[1, 7] = torch.nan
    spoiled = product(x, weight, ALONE)
    assert spoiled[1].isnan().all()
    assert torch.equal(spoiled[[0, 2]], clean[[0, 2]])

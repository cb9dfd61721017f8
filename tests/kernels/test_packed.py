"""Packed weights: bit for bit what ggml makes of them, in whole and in pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longlens.errors import ShapeError, UnsupportedModelError
from longlens.formats.checkpoint import open_checkpoint
from longlens.formats.element_types import GGML_TYPES, SAFETENSORS_TYPES, ElementType
from longlens.formats.tensors import TensorInfo
from longlens.kernels import packed
from longlens.kernels.packed import BlockScales, PackedTensor, block_scales, pack

TESTS = Path(__file__).parents[1]
GOLDEN = np.load(TESTS / "golden" / "dequantised.npz")
RECORDED = sorted({name.split("/")[0] for name in GOLDEN.files})
TYPES = {kind.name: kind for kind in (*SAFETENSORS_TYPES.values(), *GGML_TYPES.values())}
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
EIGHT_BITS = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}


def recorded(name: str) -> tuple[PackedTensor, torch.Tensor]:
    """A tensor of ggml's blocks, one a row, and what ggml's own `to_float` made of it."""
    floats = torch.from_numpy(GOLDEN[f"{name}/floats"])
    return PackedTensor(GOLDEN[f"{name}/bytes"].reshape(-1), TYPES[name], tuple(floats.shape)), floats


def of(tensor: torch.Tensor, name: str) -> PackedTensor:
    raw = tensor.contiguous().flatten().view(torch.uint8).numpy()
    return PackedTensor(raw, TYPES[name], tuple(tensor.shape))


def info(shape: tuple[int, ...], kind: ElementType) -> TensorInfo:
    return TensorInfo("blk.0.x", shape, kind, 0, 0, 0)


def fp8_matrix(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random FP8 weights, a grid of scales in blocks of 128, and their product, element by element."""
    generator = torch.Generator().manual_seed(rows + columns)
    weights = torch.randn(rows, columns, generator=generator).to(torch.float8_e4m3fn)
    grid = torch.rand(-(-rows // 128), -(-columns // 128), generator=generator) + 0.5
    row, column = torch.arange(rows) // 128, torch.arange(columns) // 128
    return weights, grid, weights.float() * grid[row[:, None], column[None, :]]


def same_bits(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    flat = [tensor.contiguous().flatten().view(torch.uint8) for tensor in (ours, theirs)]
    return torch.equal(flat[0], flat[1])


def test_every_type_that_gguf_py_expands_is_recorded() -> None:
    assert set(packed._BLOCKS) <= set(RECORDED)
    assert len(RECORDED) >= 25


@pytest.mark.parametrize("name", RECORDED)
def test_a_type_is_expanded_bit_for_bit_as_by_ggml(name: str) -> None:
    tensor, floats = recorded(name)
    assert same_bits(tensor.dense(torch.float32), floats)


@pytest.mark.parametrize("name", ["Q4_K", "Q8_0", "IQ2_XXS"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_result_is_rounded_once_at_the_end(name: str, dtype: torch.dtype) -> None:
    tensor, floats = recorded(name)
    assert same_bits(tensor.dense(dtype), floats.to(dtype))


@pytest.mark.parametrize("name", ["Q4_K", "Q6_K", "Q8_0", "BF16"])
def test_expanding_piece_by_piece_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor, floats = recorded(name)
    for scratch in (1, 300, 512, 700):
        monkeypatch.setattr(packed, "_SCRATCH_ELEMENTS", scratch)
        assert same_bits(tensor.dense(torch.float32), floats)


@pytest.mark.parametrize("name", FLOATS | EIGHT_BITS)
def test_a_plain_float_keeps_its_bits(name: str) -> None:
    dtype = (FLOATS | EIGHT_BITS)[name]
    values = torch.randn(5, 7, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert same_bits(of(values, name).dense(dtype), values)
    assert same_bits(of(values, name).dense(torch.float32), values.to(torch.float32))


@pytest.mark.parametrize("name", ["I8", "I16", "I32", "I64", "U8", "BOOL"])
def test_an_integer_becomes_the_same_number(name: str) -> None:
    values = torch.tensor([0, 1, 1, 0]).to(packed._PLAIN[name])
    assert of(values, name).dense(torch.float32).tolist() == [0.0, 1.0, 1.0, 0.0]


def test_a_power_of_two_scale_is_read() -> None:
    data = np.array([126, 127, 130], np.uint8)
    assert PackedTensor(data, TYPES["F8_E8M0"], (3,)).dense(torch.float32).tolist() == [0.5, 1.0, 8.0]


def test_bytes_at_odd_addresses_and_in_read_only_memory_are_read() -> None:
    raw = memoryview(b"\0" + np.array([1.5, -2.0], np.float32).tobytes())[1:]
    dense = pack(info((2,), TYPES["F32"]), raw).dense(torch.float32)
    dense += 1
    assert dense.tolist() == [2.5, -1.0]


def test_an_empty_tensor_is_packed() -> None:
    assert pack(info((0, 256), TYPES["Q4_K"]), memoryview(b"")).dense(torch.bfloat16).shape == (0, 256)


def test_packing_copies_nothing() -> None:
    raw = bytearray(np.zeros(4, np.float32).tobytes())
    tensor = pack(info((4,), TYPES["F32"]), memoryview(raw))
    raw[3] = 0xFF
    assert tensor.data[3] == 0xFF
    assert np.shares_memory(tensor.rows(0, 2).data, tensor.data)


@pytest.mark.parametrize("shape", [(), (0,), (0, 256), (3, 0)])
def test_scalars_and_empty_tensors_are_expanded(shape: tuple[int, ...]) -> None:
    values = torch.ones(shape)
    assert same_bits(of(values, "F32").dense(torch.float32), values)


@given(start=st.integers(0, 8), length=st.integers(0, 8))
def test_rows_are_those_of_the_whole(start: int, length: int) -> None:
    tensor, floats = recorded("Q6_K")
    stop = min(start + length, 8)
    assert same_bits(tensor.rows(start, stop).dense(torch.float32), floats[start:stop])


def test_an_expert_is_one_entry_of_the_stack() -> None:
    whole, floats = recorded("Q4_K")
    stack = PackedTensor(whole.data, whole.element_type, (4, 2, 256))
    for expert in range(4):
        assert same_bits(stack.expert(expert).dense(torch.float32), floats.reshape(4, 2, 256)[expert])
    with pytest.raises(ShapeError, match="rows 4 to 5"):
        stack.expert(4)
    with pytest.raises(ShapeError, match="rows -1 to 0"):
        stack.expert(-1)


def test_rows_of_a_vector_are_whole_blocks() -> None:
    whole, floats = recorded("Q8_0")
    vector = PackedTensor(whole.data, whole.element_type, (256,))
    assert same_bits(vector.rows(32, 96).dense(torch.float32), floats.flatten()[32:96])
    with pytest.raises(ShapeError, match="cut a Q8_0 block of 32"):
        vector.rows(32, 80)


@pytest.mark.parametrize("bounds", [(0, 9), (-1, 2), (5, 3), (9, 9)])
def test_rows_that_do_not_exist_are_refused(bounds: tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match=r"of shape \(8, 256\)"):
        recorded("Q4_K")[0].rows(*bounds)


@pytest.mark.parametrize("name", ["Q8_1", "Q8_K", "Q1_0", "Q2_0", "U32"])
def test_a_type_that_cannot_be_expanded_is_refused_by_name(name: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"type {name}, which longlens cannot expand"):
        PackedTensor(np.zeros(TYPES[name].block_bytes, np.uint8), TYPES[name], (TYPES[name].block_elements,))


def test_a_type_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedModelError, match=r"'blk\.0\.x' has type Q9_Z"):
        pack(info((1,), ElementType("Q9_Z", 1, 4)), memoryview(bytes(4)))


@pytest.mark.parametrize(("num_bytes", "shape"), [(143, (256,)), (288, (256,)), (144, (1, 2, 128)), (144, (300,))])
def test_bytes_that_are_not_those_of_the_shape_are_refused(num_bytes: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=f"{num_bytes} bytes, not those of Q4_K"):
        PackedTensor(np.zeros(num_bytes, np.uint8), TYPES["Q4_K"], shape)


def test_a_damaged_scale_shows_and_warns_nobody() -> None:
    dense = PackedTensor(np.full(34, 0x7C, np.uint8), TYPES["Q8_0"], (32,)).dense(torch.float32)
    assert not dense.isfinite().any()


# 576 = kv_a rows: the fifth block has 64; 448 = one head of kv_b: 3.5 blocks
@pytest.mark.parametrize("shape", [(576, 256), (448, 512), (1, 1), (128, 128), (129, 127), (256, 64), (2 * 448, 512)])
def test_block_fp8_multiplies_partial_blocks_included(shape: tuple[int, int]) -> None:
    weights, grid, product = fp8_matrix(*shape)
    scales = block_scales(grid, shape)
    tensor = PackedTensor(of(weights, "F8_E4M3").data, TYPES["F8_E4M3"], shape, scales)
    assert scales.tile == (128, 128)
    assert same_bits(tensor.dense(torch.float32), product)
    assert same_bits(tensor.dense(torch.bfloat16), product.to(torch.bfloat16))


def test_a_head_of_kv_b_starts_in_the_middle_of_a_block_and_keeps_its_scales() -> None:
    shape = (4 * 448, 512)
    weights, grid, product = fp8_matrix(*shape)
    tensor = PackedTensor(of(weights, "F8_E4M3").data, TYPES["F8_E4M3"], shape, block_scales(grid, shape))
    for head in range(4):
        rows = tensor.rows(448 * head, 448 * (head + 1))
        assert same_bits(rows.dense(torch.float32), product[448 * head : 448 * (head + 1)])
        assert same_bits(rows.rows(192, 448).dense(torch.float32), product[448 * head + 192 : 448 * (head + 1)])


def test_block_fp8_is_the_same_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, grid, product = fp8_matrix(300, 200)
    tensor = PackedTensor(of(weights, "F8_E4M3").data, TYPES["F8_E4M3"], (300, 200), block_scales(grid, (300, 200)))
    for scratch in (1, 250, 200 * 128, 200 * 129):
        monkeypatch.setattr(packed, "_SCRATCH_ELEMENTS", scratch)
        assert same_bits(tensor.dense(torch.float32), product)


def test_another_block_size_of_the_config_is_followed() -> None:
    assert block_scales(torch.ones(9, 4), (576, 256), block_size=64).tile == (64, 64)


@pytest.mark.parametrize("grid", [torch.arange(1.0, 577.0), torch.arange(1.0, 577.0)[:, None]])
def test_a_scale_a_row_is_followed(grid: torch.Tensor) -> None:
    weights = fp8_matrix(576, 256)[0]
    scales = block_scales(grid, (576, 256))
    tensor = PackedTensor(of(weights, "F8_E4M3").data, TYPES["F8_E4M3"], (576, 256), scales)
    assert same_bits(tensor.dense(torch.float32), weights.float() * grid.reshape(-1, 1))


def test_one_scale_for_all_is_followed() -> None:
    weights = fp8_matrix(576, 256)[0]
    scales = block_scales(torch.tensor(0.25), (576, 256))
    tensor = PackedTensor(of(weights, "F8_E4M3").data, TYPES["F8_E4M3"], (576, 256), scales)
    assert same_bits(tensor.dense(torch.float32), weights.float() * 0.25)


@pytest.mark.parametrize("grid", [(4, 2), (5, 3), (6, 2), (2, 5), (576, 256, 1), (577,)])
def test_a_grid_that_covers_less_or_more_is_refused(grid: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="scale"):
        block_scales(torch.ones(grid), (576, 256))


def test_scales_belong_to_fp8_matrices_only() -> None:
    scales = BlockScales(torch.ones(1, 1), (128, 128))
    with pytest.raises(ShapeError, match="has block scales"):
        PackedTensor(np.zeros(16, np.uint8), TYPES["F32"], (2, 2), scales)
    with pytest.raises(ShapeError, match="cannot belong"):
        block_scales(torch.ones(1, 1), (2, 2, 2))
    with pytest.raises(ShapeError, match="not a stack"):
        PackedTensor(np.zeros(4, np.uint8), TYPES["F8_E4M3"], (2, 2), scales).expert(0)


def test_a_quantised_file_of_llama_cpp_is_near_the_weights_it_was_made_from() -> None:
    fixtures = TESTS / "fixtures"
    with (
        open_checkpoint(fixtures / "tiny-glm-F32.gguf") as exact,
        open_checkpoint(fixtures / "tiny-glm-Q8_0-00002-of-00002.gguf") as quantised,
    ):
        assert exact.tensors.keys() == quantised.tensors.keys()
        for name, tensor in quantised.tensors.items():
            ours = pack(tensor, quantised.read(name)).dense(torch.float32)
            theirs = pack(exact.tensors[name], exact.read(name)).dense(torch.float32)
            assert (ours - theirs).norm() <= 0.01 * theirs.norm(), name


def test_gathered_rows_are_those_rows_in_that_order() -> None:
    tensor, floats = recorded("Q8_0")
    gathered = tensor.rows_at([2, 0, 2])
    assert gathered.shape == (3, tensor.shape[1])
    assert same_bits(gathered.dense(torch.float32), floats[[2, 0, 2]])


def test_rows_that_do_not_exist_are_not_gathered() -> None:
    tensor, _ = recorded("Q8_0")
    for entry in (-1, tensor.shape[0]):
        with pytest.raises(ShapeError, match="others were asked for"):
            tensor.rows_at([0, entry])


def test_an_address_is_that_of_the_first_byte() -> None:
    tensor, _ = recorded("Q4_K")
    assert tensor.address == tensor.data.ctypes.data
    assert tensor.rows(1, 2).address == tensor.address + tensor.num_bytes // tensor.shape[0]

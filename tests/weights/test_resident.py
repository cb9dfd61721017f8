from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from longlens.errors import ParameterError, ShapeError
from longlens.formats.checkpoint import Checkpoint, open_checkpoint
from longlens.kernels.packed import PackedTensor
from longlens.kernels.packed_experts import PackedExperts
from longlens.model.config_reading import read_config
from longlens.model.needs import parameter_needs
from longlens.weights.catalog import build_catalog
from longlens.weights.expert_store import ResidentExperts
from longlens.weights.parameters import ParameterNeed
from longlens.weights.resident import ResidentWeights

FIXTURES = Path(__file__).parents[1] / "fixtures"
CPU = torch.device("cpu")


def needs_of(checkpoint: Checkpoint) -> tuple[ParameterNeed, ...]:
    return parameter_needs(read_config(checkpoint.layout, checkpoint.metadata, checkpoint.tensors).config)


def weights_of(
    checkpoint: Checkpoint, needs: tuple[ParameterNeed, ...] = (), dtype: torch.dtype = torch.float32
) -> ResidentWeights:
    needs = needs or needs_of(checkpoint)
    return ResidentWeights(checkpoint, build_catalog(needs, checkpoint.tensors, checkpoint.layout), CPU, dtype)


def test_folder_and_gguf_of_one_model_give_the_same_parameters_bit_for_bit() -> None:
    folder, gguf = open_checkpoint(FIXTURES / "tiny-glm"), open_checkpoint(FIXTURES / "tiny-glm-F32.gguf")
    names = [need.name for need in needs_of(folder)]
    assert names == [need.name for need in needs_of(gguf)]
    ours, theirs = weights_of(folder), weights_of(gguf)
    different = [name for name in names if not torch.equal(ours.tensor(name), theirs.tensor(name))]
    assert different == []
    assert any(name.endswith("kv_b_proj.key") for name in names)
    assert any(name.startswith("model.layers.4.eh_proj") for name in names), "the draft layer is compared too"


def test_every_parameter_has_the_shape_that_the_model_needs() -> None:
    for path in ("tiny-glm", "tiny-glm-F32.gguf"):
        checkpoint = open_checkpoint(FIXTURES / path)
        weights = weights_of(checkpoint)
        assert [need.name for need in needs_of(checkpoint) if weights.tensor(need.name).shape != need.shape] == []


def test_the_two_halves_of_kv_b_are_rows_of_each_head() -> None:
    checkpoint = open_checkpoint(FIXTURES / "tiny-glm")
    weights = weights_of(checkpoint)
    name = "model.layers.1.self_attn.kv_b_proj"
    whole = torch.frombuffer(bytearray(checkpoint.read(f"{name}.weight")), dtype=torch.bfloat16).float()
    whole = whole.view(2, 32 + 64, 32)
    assert torch.equal(weights.tensor(f"{name}.key"), whole[:, :32])
    assert torch.equal(weights.tensor(f"{name}.value"), whole[:, 32:])


def test_experts_are_stacked_in_the_order_of_their_numbers() -> None:
    checkpoint = open_checkpoint(FIXTURES / "tiny-glm")
    experts = weights_of(checkpoint).experts("model.layers.2.mlp.experts.")
    assert experts.num_experts == 4
    for expert in range(4):
        name = f"model.layers.2.mlp.experts.{expert}.down_proj.weight"
        raw = torch.frombuffer(bytearray(checkpoint.read(name)), dtype=torch.bfloat16).float()
        assert torch.equal(experts.expert(expert).down_DF, raw.view(64, 32))


def test_what_decides_a_choice_stays_in_fp32_and_the_rest_follows_the_plan() -> None:
    weights = weights_of(open_checkpoint(FIXTURES / "tiny-glm-F32.gguf"), dtype=torch.bfloat16)
    assert weights.tensor("model.layers.1.mlp.gate.e_score_correction_bias").dtype == torch.float32
    assert weights.tensor("model.layers.0.self_attn.indexer.weights_proj.weight").dtype == torch.float32
    assert weights.tensor("model.layers.1.mlp.experts.up_proj.weight").dtype == torch.bfloat16
    assert weights.tensor("model.norm.weight").dtype == torch.bfloat16


def test_in_fp64_nothing_stays_behind_in_fp32() -> None:
    weights = weights_of(open_checkpoint(FIXTURES / "tiny-glm"), dtype=torch.float64)
    assert weights.tensor("model.layers.1.mlp.gate.e_score_correction_bias").dtype == torch.float64


def test_a_parameter_outside_of_the_catalog_is_an_error_by_name() -> None:
    with pytest.raises(ParameterError, match=r"'model\.layers\.2\.self_attn\.indexer\.wk\.weight'"):
        weights_of(open_checkpoint(FIXTURES / "tiny-glm")).tensor("model.layers.2.self_attn.indexer.wk.weight")


def test_nothing_is_read_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    read = Checkpoint.read
    monkeypatch.setattr(Checkpoint, "read", lambda self, name: asked.append(name) or read(self, name))
    weights = weights_of(open_checkpoint(FIXTURES / "tiny-glm"))
    assert asked == []
    weights.tensor("model.norm.weight")
    assert asked == ["model.norm.weight"]


ATTENTION = "model.layers.0.self_attn."
# GLM-5.2's own row counts: 576 rows are 4.5 blocks, and a head of kv_b has 448 rows, 3.5 blocks.
NOPE, VALUE, HEADS, LATENT, HIDDEN = 192, 256, 3, 160, 200
FP8_NEEDS = (
    ParameterNeed(f"{ATTENTION}kv_a_proj_with_mqa.weight", (576, HIDDEN)),
    ParameterNeed(f"{ATTENTION}kv_b_proj.key", (HEADS, NOPE, LATENT)),
    ParameterNeed(f"{ATTENTION}kv_b_proj.value", (HEADS, VALUE, LATENT)),
)


def fp8_tensors(block: int = 128) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, rows, columns in (
        ("kv_a_proj_with_mqa.weight", 576, HIDDEN),
        ("kv_b_proj.weight", HEADS * (NOPE + VALUE), LATENT),
    ):
        tensors[ATTENTION + name] = torch.randn(rows, columns, generator=generator).to(torch.float8_e4m3fn)
        grid = torch.rand(-(-rows // block), -(-columns // block), generator=generator) + 0.5
        tensors[f"{ATTENTION}{name}_scale_inv"] = grid
    return tensors


def fp8_checkpoint(folder: Path, tensors: Mapping[str, Tensor], block_size: object = None) -> Checkpoint:
    save_file(dict(tensors), folder / "model.safetensors")
    quantisation = {"quant_method": "fp8"} | ({} if block_size is None else {"weight_block_size": block_size})
    (folder / "config.json").write_text(json.dumps({"quantization_config": quantisation}))
    return open_checkpoint(folder)


def expanded(tensors: Mapping[str, Tensor], name: str, block: int = 128) -> Tensor:
    """W[o, i] = float(W8[o, i]) * scale[o // block, i // block], element by element."""
    weight, grid = tensors[ATTENTION + name].float(), tensors[f"{ATTENTION}{name}_scale_inv"]
    rows = torch.arange(weight.shape[0])[:, None] // block
    columns = torch.arange(weight.shape[1])[None] // block
    return weight * grid[rows, columns]


@pytest.mark.parametrize("block", [128, 64])
def test_fp8_blocks_that_the_rows_do_not_fill_are_scaled_to_the_last_row(tmp_path: Path, block: int) -> None:
    tensors = fp8_tensors(block)
    weights = weights_of(fp8_checkpoint(tmp_path, tensors, [block, block]), FP8_NEEDS)
    kv_a = weights.tensor(FP8_NEEDS[0].name)
    assert torch.equal(kv_a, expanded(tensors, "kv_a_proj_with_mqa.weight", block))
    assert (kv_a[512:] != 0).any()


def test_fp8_is_expanded_before_the_heads_of_kv_b_are_cut(tmp_path: Path) -> None:
    tensors = fp8_tensors()
    weights = weights_of(fp8_checkpoint(tmp_path, tensors), FP8_NEEDS)
    whole = expanded(tensors, "kv_b_proj.weight").view(HEADS, NOPE + VALUE, LATENT)
    assert torch.equal(weights.tensor(FP8_NEEDS[1].name), whole[:, :NOPE])
    assert torch.equal(weights.tensor(FP8_NEEDS[2].name), whole[:, NOPE:])


def test_fp8_is_rounded_to_bf16_once_after_scaling(tmp_path: Path) -> None:
    tensors = fp8_tensors()
    weights = weights_of(fp8_checkpoint(tmp_path, tensors), FP8_NEEDS, torch.bfloat16)
    expected = expanded(tensors, "kv_a_proj_with_mqa.weight").bfloat16()
    assert torch.equal(weights.tensor(FP8_NEEDS[0].name), expected)


def test_scales_that_miss_the_last_half_block_are_an_error(tmp_path: Path) -> None:
    tensors = fp8_tensors()
    name = f"{ATTENTION}kv_a_proj_with_mqa.weight_scale_inv"
    tensors[name] = tensors[name][:4].contiguous()
    with pytest.raises(ShapeError, match="does not cover"):
        weights_of(fp8_checkpoint(tmp_path, tensors), FP8_NEEDS).tensor(FP8_NEEDS[0].name)


@pytest.mark.parametrize("block_size", [[128, 64], [128], [0, 0], [1.5, 1.5], [True, True], "128", 128])
def test_blocks_that_are_not_square_are_refused(tmp_path: Path, block_size: object) -> None:
    checkpoint = fp8_checkpoint(tmp_path, fp8_tensors(), block_size)
    with pytest.raises(ParameterError, match="weight_block_size"):
        weights_of(checkpoint, FP8_NEEDS)


def packed_weights_of(name: str, packed_types: frozenset[str]) -> ResidentWeights:
    checkpoint = open_checkpoint(FIXTURES / name)
    catalog = build_catalog(needs_of(checkpoint), checkpoint.tensors, checkpoint.layout)
    return ResidentWeights(checkpoint, catalog, CPU, torch.float32, packed_types)


def test_a_matrix_stays_packed_where_its_type_has_a_kernel_and_is_expanded_elsewhere() -> None:
    name = "model.layers.0.self_attn.o_proj.weight"
    packed = packed_weights_of("tiny-glm-Q8_0-00001-of-00002.gguf", frozenset({"Q8_0"}))
    matrix = packed.matrix(name)
    assert isinstance(matrix, PackedTensor)
    assert torch.equal(matrix.dense(torch.float32), packed.tensor(name))
    other = packed_weights_of("tiny-glm-Q8_0-00001-of-00002.gguf", frozenset({"Q4_K"}))
    assert isinstance(other.matrix(name), Tensor)


def test_a_packed_matrix_is_a_view_of_the_file() -> None:
    weights = packed_weights_of("tiny-glm-Q8_0-00001-of-00002.gguf", frozenset({"Q8_0"}))
    matrix = weights.matrix("model.layers.0.self_attn.o_proj.weight")
    assert isinstance(matrix, PackedTensor)
    assert not matrix.data.flags.owndata
    assert matrix.address == weights.matrix("model.layers.0.self_attn.o_proj.weight").address  # type: ignore[union-attr]


def test_what_must_be_fp32_is_expanded_whatever_its_type() -> None:
    weights = packed_weights_of("tiny-glm-F32.gguf", frozenset({"F32"}))
    assert isinstance(weights.matrix("model.layers.1.mlp.gate.weight"), Tensor)
    assert isinstance(weights.matrix("model.layers.0.self_attn.o_proj.weight"), PackedTensor)


def test_experts_are_all_packed_or_all_expanded() -> None:
    prefix = "model.layers.1.mlp.experts."
    packed = packed_weights_of("tiny-glm-Q8_0-00001-of-00002.gguf", frozenset({"Q8_0"})).experts(prefix)
    expanded = packed_weights_of("tiny-glm-Q8_0-00001-of-00002.gguf", frozenset()).experts(prefix)
    assert isinstance(packed, PackedExperts)
    assert isinstance(expanded, ResidentExperts)
    assert packed.num_experts == expanded.num_experts
    down = packed.expert(1).down_DF
    assert isinstance(down, PackedTensor)
    assert torch.equal(down.dense(torch.float32), expanded.expert(1).down_DF)

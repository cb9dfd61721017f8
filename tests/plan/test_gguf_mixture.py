from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from longlens.formats.checkpoint import open_checkpoint
from longlens.model.config import ModelConfig
from longlens.model.config_huggingface import read_huggingface_config
from longlens.model.config_reading import read_config
from longlens.plan.gguf_mixture import MIXTURES, gguf_tensors
from longlens.units import MIB
from tests.golden.make_quantiser_golden import FILE_TYPES, GOLDEN, configs

FIXTURES = Path(__file__).parents[1] / "fixtures"
RECORDED: Mapping[str, Any] = json.loads(GOLDEN.read_text())
QUANTISED = {
    "tiny-deepseek-Q8_0.gguf": "q8_0",
    "tiny-glm-Q4_K_M.gguf": "q4_k_m",
    "tiny-glm-Q8_0-00001-of-00002.gguf": "q8_0",
    "tiny-llama-Q8_0.gguf": "q8_0",
    "wide-glm-Q4_K_M.gguf": "q4_k_m",
    "wide-glm-Q6_K.gguf": "q6_k",
}


def types_of(config: ModelConfig, file_type: str) -> dict[str, str]:
    return {tensor.name: tensor.element_type.name for tensor in gguf_tensors(config, file_type)}


def recorded_types(rows: Mapping[str, str], column: int) -> dict[str, str]:
    return {name: types.split()[column] for types, names in rows.items() for name in names.split()}


@pytest.mark.parametrize("file_type", FILE_TYPES)
@pytest.mark.parametrize("model", sorted(RECORDED["models"]))
def test_every_tensor_gets_the_type_that_llama_quantize_gives(model: str, file_type: str) -> None:
    recorded = RECORDED["models"][model]
    config = configs()[model]
    assert types_of(config, file_type) == recorded_types(recorded["rows"], FILE_TYPES.index(file_type))
    num_bytes = sum(tensor.num_bytes for tensor in gguf_tensors(config, file_type))
    assert num_bytes / MIB == pytest.approx(recorded["mebibytes"][file_type], abs=0.006), "it prints two decimals"


def test_the_records_hold_every_mixture_that_the_quantiser_makes() -> None:
    assert {*RECORDED["file_types"], "f16"} == set(MIXTURES)
    assert set(RECORDED["models"]) == set(configs())


@pytest.mark.parametrize("name", QUANTISED)
def test_a_quantised_file_holds_these_types_and_bytes(name: str) -> None:
    with open_checkpoint(FIXTURES / name) as checkpoint:
        config = read_config(checkpoint.layout, checkpoint.metadata, checkpoint.tensors.keys()).config
        stored = {tensor.name: (tensor.element_type, tensor.num_bytes) for tensor in checkpoint.tensors.values()}
    tensors = gguf_tensors(config, QUANTISED[name])
    assert {tensor.name: (tensor.element_type, tensor.num_bytes) for tensor in tensors} == stored


def test_an_f16_file_is_what_the_converter_writes() -> None:
    config = read_huggingface_config(json.loads((FIXTURES / "tiny-glm" / "config.json").read_text())).config
    recorded = RECORDED["converted_f16"]
    assert types_of(config, "f16") == recorded_types(recorded["rows"], 0)
    assert sum(tensor.num_bytes for tensor in gguf_tensors(config, "f16")) == recorded["num_bytes"]


def test_rows_that_are_no_whole_blocks_are_stored_wider() -> None:
    narrow = set(types_of(configs()["narrow"], "q4_k_m").values())
    assert narrow == {"F32", "F16", "Q5_0", "Q8_0"}, "rows of 64 fit blocks of 32, rows of 20, 24, 40 or 56 none"
    glm = types_of(configs()["glm-5.2"], "q4_k_m")
    assert glm["blk.0.attn_k_b.weight"] == "Q5_0", "a key row has 192 columns"
    assert glm["blk.0.attn_v_b.weight"] == "Q4_K"


def test_eight_experts_get_wider_attention() -> None:
    types = types_of(configs()["pocket"], "q4_k_m")
    assert types["blk.1.indexer.attn_k.weight"] == "Q8_0"
    assert types["blk.1.attn_output.weight"] == "Q5_1", "Q5_K, but a row has 384 columns"

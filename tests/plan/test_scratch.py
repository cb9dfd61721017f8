from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from longlens.kernels.reference import SCRATCH_BYTES
from longlens.model.config import ModelConfig
from longlens.model.config_huggingface import read_huggingface_config
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.scratch import (
    TILE_BYTES,
    StepShape,
    compiled_products_bytes,
    scratch_bytes,
)
from longlens.units import GIB
from tests.golden.tiny_models import CASES

STEP = StepShape(
    chunk_tokens=512,
    context=4096,
    num_sequences=1,
    compute_element="f32",
    cache_element_bytes=4,
    gather_above_tokens=1024,
)


def tiny(case: str = "glm_topk8") -> ModelConfig:
    return read_huggingface_config(CASES[case]).config


def test_a_tile_is_what_the_plain_kernels_keep_an_operation_to() -> None:
    assert TILE_BYTES == SCRATCH_BYTES


def test_only_16_bit_experts_are_compiled_by_shape_and_not_without_end() -> None:
    config, narrow = tiny(), replace(STEP, compute_element="bf16")
    assert compiled_products_bytes(config, STEP) == compiled_products_bytes(tiny("llama_tied"), narrow) == 0
    few = compiled_products_bytes(config, replace(narrow, chunk_tokens=64))
    assert 0 < few < compiled_products_bytes(config, narrow)
    assert compiled_products_bytes(config, replace(narrow, context=10**6, chunk_tokens=10**5)) < 1024 * 2**20


def test_a_wide_dense_layer_is_counted_as_gate_silu_up_and_product() -> None:
    width = 1_000_000
    narrow = scratch_bytes(replace(tiny(), intermediate_size=width), STEP)
    wide = scratch_bytes(replace(tiny(), intermediate_size=2 * width), STEP)
    assert wide - narrow == 4 * 512 * width * 4


def test_half_as_wide_activations_take_half() -> None:
    config = replace(tiny(), intermediate_size=1_000_000)
    assert scratch_bytes(replace(config), replace(STEP, compute_element="bf16")) < 0.51 * scratch_bytes(config, STEP)


@given(
    case=st.sampled_from(("glm_topk8", "llama_tied")),
    tokens=st.integers(1, 4096),
    more=st.integers(0, 4096),
    context=st.integers(4096, 262_144),
    longer=st.integers(0, 262_144),
)
def test_more_tokens_or_context_never_take_less(case: str, tokens: int, more: int, context: int, longer: int) -> None:
    config = tiny(case)
    small = replace(STEP, chunk_tokens=tokens, context=context)
    large = replace(STEP, chunk_tokens=tokens + more, context=context + longer)
    assert 0 < scratch_bytes(config, small) <= scratch_bytes(config, large)


def test_a_million_tokens_of_glm_5_2_need_no_array_of_all_scores() -> None:
    config = MODEL_PRESETS["glm-5.2"].config
    step = replace(STEP, context=1_048_576, compute_element="bf16", cache_element_bytes=2, gather_above_tokens=4096)
    assert scratch_bytes(config, step) < 2 * GIB

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from longlens.model.config import ModelConfig
from longlens.model.config_huggingface import read_huggingface_config
from longlens.plan.packed import NativeWeights, native_weights, packed_in_file_type
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.scratch import compiled_products_bytes, scratch_bytes
from longlens.plan.scratch_phases import StepShape
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


def test_only_16_bit_experts_are_compiled_by_shape_and_not_without_end() -> None:
    config, narrow = tiny(), replace(STEP, compute_element="bf16")
    assert compiled_products_bytes(config, STEP) == compiled_products_bytes(tiny("llama_tied"), narrow) == 0
    few = compiled_products_bytes(config, replace(narrow, chunk_tokens=64))
    assert 0 < few < compiled_products_bytes(config, narrow)
    assert compiled_products_bytes(config, replace(narrow, context=10**6, chunk_tokens=10**5)) < 1024 * 2**20


def packed_pocket(file_type: str = "q8_0") -> NativeWeights:
    config = MODEL_PRESETS["pocket"].config
    return native_weights(config, packed_in_file_type(config, file_type), "f32")


def test_c_kernels_keep_rounded_rows_and_panels_beside_what_torch_holds() -> None:
    config = MODEL_PRESETS["pocket"].config
    plain, native = (scratch_bytes(config, replace(STEP, native=native)) for native in (None, packed_pocket()))
    # hidden rows of the dense layer, gate and up in fp32
    assert native > 512 * 2 * 832 * 4
    assert native > plain


def test_packed_experts_of_16_bit_runs_are_not_compiled_by_shape() -> None:
    config, narrow = MODEL_PRESETS["pocket"].config, replace(STEP, compute_element="bf16")
    assert compiled_products_bytes(config, narrow) > 0
    assert compiled_products_bytes(config, replace(narrow, native=packed_pocket())) == 0


@given(tokens=st.integers(1, 4096), more=st.integers(0, 4096), context=st.integers(4096, 131_072))
def test_more_tokens_never_take_less_with_c_kernels(tokens: int, more: int, context: int) -> None:
    config = MODEL_PRESETS["pocket"].config
    small, large = (
        replace(STEP, chunk_tokens=count, context=context, native=packed_pocket()) for count in (tokens, tokens + more)
    )
    assert scratch_bytes(config, small) <= scratch_bytes(config, large)


def test_a_wide_dense_layer_is_counted_as_gate_and_up() -> None:
    width = 1_000_000
    narrow = scratch_bytes(replace(tiny(), intermediate_size=width), STEP)
    wide = scratch_bytes(replace(tiny(), intermediate_size=2 * width), STEP)
    assert wide - narrow == 2 * 512 * width * 4


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

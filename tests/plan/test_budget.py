from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.errors import UsageError
from longlens.model.config import ModelConfig
from longlens.model.config_huggingface import read_huggingface_config
from longlens.model.needs import parameter_needs
from longlens.plan.budget import (
    CUDA_CONTEXT_BYTES,
    LEAST_SAFETY_BYTES,
    BudgetRequest,
    format_of,
    make_budget,
    memory_weights,
    runtime_bytes,
    safety_bytes,
)
from longlens.plan.file_types import FILE_TYPES, WEIGHT_CLASSES, stored_bytes
from longlens.plan.plan import CacheFormatName
from longlens.plan.presets import MODEL_PRESETS
from longlens.units import GIB
from tests.golden.tiny_models import CASES

FORMATS: tuple[CacheFormatName, ...] = ("int8", "fp8", "bf16", "f16", "f32")
REQUEST = BudgetRequest(context=4096, gather_above_tokens=1024)


def tiny(case: str = "glm_topk8") -> ModelConfig:
    return read_huggingface_config(CASES[case]).config


def deeper(config: ModelConfig, times: int) -> ModelConfig:
    """The same layers several times over."""
    assert config.indexer is not None
    assert config.moe is not None
    return replace(
        config,
        num_hidden_layers=config.num_hidden_layers * times,
        indexer=replace(config.indexer, is_full=config.indexer.is_full * times),
        moe=replace(config.moe, is_sparse=config.moe.is_sparse * times),
    )


def test_a_token_of_glm_5_2_takes_what_is_published() -> None:
    config = MODEL_PRESETS["glm-5.2"].config
    assert format_of(config, "bf16").bytes_per_token == format_of(config, "f16").bytes_per_token == 95_232
    assert format_of(config, "fp8").bytes_per_token == 53_940
    assert format_of(config, "fp8").index_bytes == 21 * 132


def test_a_million_tokens_of_glm_5_2_take_93_gib_in_bf16_and_52_68_in_fp8() -> None:
    config = MODEL_PRESETS["glm-5.2"].config
    million = replace(REQUEST, context=1_048_576)
    assert make_budget(config, million, tier="gpu").cache_bytes == 93 * GIB
    packed = make_budget(config, replace(million, cache_format="fp8"), tier="gpu")
    assert round(packed.cache_bytes / GIB, 2) == 52.68


def test_index_keys_are_counted_on_full_layers_only() -> None:
    config = tiny()
    assert config.indexer is not None
    keys = make_budget(config, REQUEST, tier="ram").bytes_of("index_keys")
    assert keys == 4096 * len(config.indexer.full_layers) * config.indexer.index_head_dim * 2


def test_a_llama_has_keys_and_values_and_no_index_keys() -> None:
    budget = make_budget(tiny("llama_tied"), REQUEST, tier="ram")
    assert budget.bytes_of("keys_and_values") > 0
    assert budget.bytes_of("latents", "index_keys") == 0


def test_expanded_weights_are_those_that_are_run_in_their_precision() -> None:
    config = tiny()
    needs = [need for need in parameter_needs(config) if need.is_run]
    expected = sum(need.num_elements * (4 if need.precision == "fp32" else 2) for need in needs)
    assert sum(memory_weights(config, "bf16", None).values()) == expected


@pytest.mark.parametrize("file_type", FILE_TYPES)
def test_packed_weights_are_the_files_but_for_the_layer_that_is_not_run(file_type: str) -> None:
    config = MODEL_PRESETS["glm-5.2"].config
    stored = stored_bytes(config, file_type)
    assert stored["mtp"] > 0
    assert sum(memory_weights(config, "bf16", file_type).values()) == sum(stored.values()) - stored["mtp"]


def test_bytes_of_a_file_that_is_there_count_instead_of_a_file_type() -> None:
    request = replace(REQUEST, stored={"experts": 1000, "mtp": 500})
    assert make_budget(tiny(), request, tier="ram").weights_bytes == 1000


@given(
    context=st.integers(1, 1_048_576),
    sequences=st.integers(1, 8),
    cache_format=st.sampled_from(FORMATS),
    file_type=st.sampled_from((None, *FILE_TYPES)),
    tier=st.sampled_from(("gpu", "ram")),
)
def test_parts_sum_to_the_whole(
    context: int, sequences: int, cache_format: CacheFormatName, file_type: str | None, tier: str
) -> None:
    request = BudgetRequest(context, sequences, cache_format, file_type=file_type, gather_above_tokens=1024)
    budget = make_budget(tiny(), request, tier=tier)
    assert sum(component.num_bytes for component in budget.components) == budget.total_bytes
    assert budget.by_tier() == {tier: budget.total_bytes}
    rest = budget.bytes_of("scratch", "runtime")
    assert budget.weights_bytes + budget.cache_bytes + rest == budget.total_bytes
    assert set(WEIGHT_CLASSES) <= {component.name for component in budget.components}


@given(context=st.integers(1, 262_144), more=st.integers(0, 262_144), times=st.integers(1, 4))
def test_more_context_or_layers_never_need_fewer_bytes(context: int, more: int, times: int) -> None:
    less = make_budget(tiny(), replace(REQUEST, context=context), tier="ram")
    longer = make_budget(tiny(), replace(REQUEST, context=context + more), tier="ram")
    higher = make_budget(deeper(tiny(), times), replace(REQUEST, context=context), tier="ram")
    assert less.total_bytes <= longer.total_bytes
    assert less.total_bytes <= higher.total_bytes


@given(context=st.integers(1, 262_144), case=st.sampled_from(("glm_topk8", "llama_tied")))
def test_a_wider_format_never_needs_fewer_bytes(context: int, case: str) -> None:
    def total(name: CacheFormatName) -> int:
        return make_budget(tiny(case), replace(REQUEST, context=context, cache_format=name), tier="ram").cache_bytes

    assert max(total("fp8"), total("int8")) <= total("bf16") == total("f16") <= total("f32")


def test_a_graphics_processor_has_a_context_of_its_own() -> None:
    config = tiny()
    assert runtime_bytes(config, "cuda:0") - runtime_bytes(config, "cpu") == CUDA_CONTEXT_BYTES


def test_the_tokenizer_counts_by_its_vocabulary() -> None:
    config = tiny()
    assert runtime_bytes(replace(config, vocab_size=2 * config.vocab_size), "cpu") > runtime_bytes(config, "cpu")


def test_a_margin_is_kept_free_that_is_no_part_of_the_sum() -> None:
    assert safety_bytes(1) == LEAST_SAFETY_BYTES
    assert safety_bytes(100 * GIB) == 3 * GIB
    budget = make_budget(tiny(), REQUEST, tier="ram")
    assert "safety" not in {component.name for component in budget.components}


def test_an_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="nvfp4"):
        format_of(tiny(), "nvfp4")  # type: ignore[arg-type]

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longlens.errors import ConfigError, LonglensError, UnsupportedModelError
from longlens.model.config import GqaConfig, LinearScaling, MlaConfig, ModelConfig, YarnScaling
from longlens.model.config_gguf import read_gguf_config
from longlens.model.config_huggingface import read_huggingface_config
from longlens.model.needs import parameter_needs
from longlens.model.rope import amplitude_of, frequencies_of
from longlens.model.state import cache_spec_of
from tests.model.released_configs import (
    DEEPSEEK_V32,
    DEEPSEEK_V32_GGUF,
    GLM_5,
    GLM_5_2,
    GLM_5_2_FULL_LAYERS,
    GLM_5_2_GGUF,
    LLAMA,
    LLAMA_GGUF,
    Config,
    without,
)

UNTIED = ("token_embd.weight", "output.weight")
TYPES = "glm-dsa.attention.indexer.types"


def read(config: Config, tensor_names: tuple[str, ...] = UNTIED, **changes: Any) -> ModelConfig:
    prefix = config["general.architecture"]
    spelled = {f"{prefix}.{key.replace('__', '.')}": value for key, value in changes.items()}
    return read_gguf_config(config | spelled, tensor_names).config


def full_layers(config: ModelConfig) -> tuple[int, ...]:
    assert config.indexer is not None
    return config.indexer.full_layers


@pytest.mark.parametrize("config", [GLM_5_2_GGUF, DEEPSEEK_V32_GGUF, LLAMA_GGUF])
def test_the_metadata_that_llama_cpp_writes_has_no_unknown_key(config: Config) -> None:
    assert read_gguf_config(config, UNTIED).unknown_keys == ()


def test_glm_5_2_reads_the_same_from_gguf_and_from_config_json() -> None:
    assert read(GLM_5_2_GGUF) == read_huggingface_config(GLM_5_2).config


def test_deepseek_reads_the_same_from_gguf_and_from_config_json() -> None:
    assert read(DEEPSEEK_V32_GGUF) == read_huggingface_config(DEEPSEEK_V32).config


def test_glm_5_reads_the_same_from_gguf_and_from_config_json() -> None:
    shorter = without(GLM_5_2_GGUF, TYPES) | {"glm-dsa.context_length": 202752, "glm-dsa.rope.freq_base": 1e6}
    assert read(shorter) == read_huggingface_config(GLM_5).config


def test_llama_reads_the_same_but_for_the_order_of_rotary_pairs() -> None:
    config = read_huggingface_config(LLAMA).config
    in_pairs = replace(config, rope=replace(config.rope, is_interleaved=True))
    assert read(LLAMA_GGUF, ("token_embd.weight",)) == in_pairs


def test_a_long_context_without_indexer_types_has_the_schedule_of_glm_5_2() -> None:
    assert full_layers(read(without(GLM_5_2_GGUF, TYPES))) == GLM_5_2_FULL_LAYERS


def test_a_shorter_context_without_indexer_types_has_full_layers_only() -> None:
    assert full_layers(read(without(GLM_5_2_GGUF, TYPES), context_length=1048575)) == tuple(range(78))


def test_indexer_types_win_over_the_rule_of_the_context() -> None:
    types = (True,) + (False,) * 77
    assert full_layers(read(GLM_5_2_GGUF, attention__indexer__types=types)) == (0,)
    assert full_layers(read(GLM_5_2_GGUF, attention__indexer__types=(*types, True))) == (0,)


def test_deepseek_without_indexer_types_has_full_layers_only_whatever_its_context() -> None:
    assert full_layers(read(DEEPSEEK_V32_GGUF, context_length=2**21)) == tuple(range(61))


def test_blocks_count_the_draft_layer_in() -> None:
    config = read(without(GLM_5_2_GGUF, "glm-dsa.nextn_predict_layers"), block_count=78)
    assert (config.num_hidden_layers, config.num_nextn_predict_layers) == (78, 0)


@pytest.mark.parametrize("mtp", [79, 80, 2**31])
def test_draft_layers_alone_are_no_model(mtp: int) -> None:
    with pytest.raises(ConfigError, match="nextn_predict_layers"):
        read(GLM_5_2_GGUF, nextn_predict_layers=mtp)


def test_the_vocabulary_is_that_of_the_tokenizer_and_without_one_that_of_the_key() -> None:
    assert read(GLM_5_2_GGUF).vocab_size == 154880
    assert read(GLM_5_2_GGUF | {"tokenizer.ggml.tokens": ("a", "b", "c")}).vocab_size == 3


def test_embeddings_are_tied_when_the_file_has_no_output_tensor() -> None:
    assert read(LLAMA_GGUF, ("token_embd.weight",)).tie_word_embeddings
    assert not read(LLAMA_GGUF).tie_word_embeddings


def test_biases_and_frequency_factors_are_known_by_their_tensors() -> None:
    config = read(LLAMA_GGUF, ("blk.0.attn_q.bias", "blk.0.ffn_gate.bias", "rope_freqs.weight"))
    assert isinstance(config.attention, GqaConfig)
    assert config.attention.attention_bias
    assert config.mlp_bias
    assert config.rope.has_factor_tensor


def test_the_head_size_of_llama_is_derived_or_given() -> None:
    assert read(LLAMA_GGUF).attention == GqaConfig(9, 3, 64)
    assert read(LLAMA_GGUF, attention__key_length=96).attention == GqaConfig(9, 3, 96)


def test_yarn_is_read_with_the_amplitude_that_the_converter_folds_into_one_key() -> None:
    config = read(DEEPSEEK_V32_GGUF)
    assert config.rope.scaling == YarnScaling(40.0, 4096, 32.0, 1.0, 1.0, 1.0)
    assert isinstance(config.attention, MlaConfig)
    assert config.attention.softmax_scale == pytest.approx(1.873854 * 192**-0.5, rel=1e-6)


def test_linear_scaling_is_read() -> None:
    assert read(LLAMA_GGUF, rope__scaling__type="linear", rope__scaling__factor=2.0).rope.scaling == LinearScaling(2.0)


def test_missing_keys_with_a_meaning_of_their_own_are_read_as_llama_cpp_reads_them() -> None:
    left_out = ("expert_gating_func", "expert_weights_norm", "expert_weights_scale", "leading_dense_block_count")
    moe = read(without(GLM_5_2_GGUF, *(f"glm-dsa.{key}" for key in left_out))).moe
    assert moe is not None
    assert (moe.norm_topk_prob, moe.routed_scaling_factor, moe.is_sparse) == (False, 1.0, (True,) * 78)


@pytest.mark.parametrize("architecture", ["glm5next", "deepseek2", "qwen3", None, 7])
def test_another_architecture_is_refused_with_what_is_supported(architecture: object) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        read_gguf_config(GLM_5_2_GGUF | {"general.architecture": architecture}, UNTIED)
    assert repr(architecture) in caught.value.fault
    assert "glm-dsa, deepseek32, llama" in caught.value.mend


MATHEMATICS = [
    "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
    "attention.head_count", "attention.layer_norm_rms_epsilon", "attention.q_lora_rank",
    "attention.kv_lora_rank", "attention.key_length_mla", "attention.value_length_mla",
    "rope.dimension_count", "rope.freq_base", "expert_count", "expert_used_count", "expert_shared_count",
    "expert_feed_forward_length", "attention.indexer.head_count", "attention.indexer.key_length",
    "attention.indexer.top_k",
]  # fmt: skip


@pytest.mark.parametrize("key", MATHEMATICS)
def test_a_missing_key_that_changes_the_mathematics_is_an_error_by_name(key: str) -> None:
    with pytest.raises(ConfigError, match=f"'glm-dsa.{key}' is missing"):
        read(without(GLM_5_2_GGUF, f"glm-dsa.{key}"))


WRONG_VALUES = [
    ("block_count", "79"),
    ("block_count", 79.0),
    ("block_count", True),
    ("block_count", 2**40),
    ("attention__layer_norm_rms_epsilon", "1e-5"),
    ("attention__head_count", (64, 64)),
    ("attention__indexer__types", True),
    ("attention__indexer__types", (1, 0)),
    ("attention__indexer__types", ("full",) * 78),
    ("expert_gating_func", 1),
    ("expert_weights_norm", 1),
    ("rope__scaling__type", "longrope"),
]


@pytest.mark.parametrize(("key", "value"), WRONG_VALUES)
def test_a_value_of_another_type_or_meaning_is_an_error_by_name(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key.replace("__", r"\.")):
        read(GLM_5_2_GGUF, **{key: value})


def test_an_unknown_extrapolation_factor_is_refused() -> None:
    assert read(DEEPSEEK_V32_GGUF, rope__scaling__yarn_ext_factor=1.0) == read(DEEPSEEK_V32_GGUF)
    with pytest.raises(ConfigError, match="yarn_ext_factor"):
        read(DEEPSEEK_V32_GGUF, rope__scaling__yarn_ext_factor=0.5)


def test_a_key_length_that_is_all_rotary_is_refused() -> None:
    with pytest.raises(ConfigError, match="leaves none beside 64 rotary"):
        read(GLM_5_2_GGUF, attention__key_length_mla=64)


def test_unknown_keys_of_the_architecture_are_named_and_those_of_others_are_not_looked_at() -> None:
    novel = {"glm-dsa.attention.novelty": 1, "general.author": "someone", "tokenizer.ggml.pre": "glm4"}
    assert read_gguf_config(GLM_5_2_GGUF | novel, UNTIED).unknown_keys == ("glm-dsa.attention.novelty",)


ODD = (
    st.booleans()
    | st.sampled_from([-1, 0, 1, 2, 3, 64, 2**31, 2**64 - 1, "", "yarn", "linear", "none"])
    | st.floats()
    | st.lists(st.booleans() | st.integers(0, 2), max_size=4).map(tuple)
)


def read_or_refused(values: Config) -> ModelConfig | LonglensError:
    try:
        return read_gguf_config(values, UNTIED).config
    except LonglensError as error:
        return error


@settings(max_examples=300)
@given(data=st.data(), config=st.sampled_from([GLM_5_2_GGUF, DEEPSEEK_V32_GGUF, LLAMA_GGUF]))
def test_any_mutated_metadata_is_read_or_refused_with_fault_and_mend(data: st.DataObject, config: Config) -> None:
    changed = copy.deepcopy(config)
    for _ in range(data.draw(st.integers(1, 3))):
        key = data.draw(st.sampled_from(sorted(changed)))
        if data.draw(st.booleans()):
            changed[key] = data.draw(ODD)
        else:
            del changed[key]
    result = read_or_refused(changed)
    if isinstance(result, LonglensError):
        assert result.fault
        assert result.mend
        return
    assert all(size > 0 for need in parameter_needs(result) for size in need.shape)
    assert cache_spec_of(result, "bf16").bytes_per_token > 0
    if result.rope.dim < 1024:
        assert frequencies_of(result.rope).shape == (result.rope.dim // 2,)
        assert amplitude_of(result.rope) > 0

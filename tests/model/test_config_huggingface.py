from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longlens.errors import ConfigError, LonglensError, UnsupportedModelError
from longlens.model.config import GqaConfig, LinearScaling, Llama3Scaling, MlaConfig, ModelConfig, YarnScaling
from longlens.model.config_huggingface import mla_softmax_scale, read_huggingface_config
from longlens.model.needs import parameter_needs
from longlens.model.rope import amplitude_of, frequencies_of
from longlens.model.state import cache_spec_of
from tests.golden.tiny_models import CASES
from tests.model.released_configs import (
    DEEPSEEK_V32,
    FP8_QUANTISATION,
    GLM_5,
    GLM_5_2,
    GLM_5_2_FULL_LAYERS,
    LLAMA,
    Config,
    without,
)


def read(config: Config, **changes: Any) -> ModelConfig:
    return read_huggingface_config(config | changes).config


def mla(config: ModelConfig) -> MlaConfig:
    assert isinstance(config.attention, MlaConfig)
    return config.attention


def full_layers(config: ModelConfig) -> tuple[int, ...]:
    assert config.indexer is not None
    return config.indexer.full_layers


@pytest.mark.parametrize("config", [GLM_5_2, GLM_5, DEEPSEEK_V32, LLAMA, *CASES.values()])
def test_a_released_configuration_has_no_unknown_key(config: Config) -> None:
    assert read_huggingface_config(config).unknown_keys == ()


def test_glm_5_2_is_read_whole() -> None:
    config = read(GLM_5_2)
    assert config.architecture == "glm_moe_dsa"
    assert (config.num_hidden_layers, config.num_nextn_predict_layers) == (78, 1)
    assert (config.vocab_size, config.hidden_size, config.intermediate_size) == (154880, 6144, 12288)
    assert (config.max_position_embeddings, config.rms_norm_eps, config.tie_word_embeddings) == (1048576, 1e-5, False)
    attention = mla(config)
    assert (attention.num_attention_heads, attention.q_lora_rank, attention.kv_lora_rank) == (64, 2048, 512)
    assert (attention.qk_nope_head_dim, attention.qk_rope_head_dim, attention.v_head_dim) == (192, 64, 256)
    assert (attention.latent_norm_eps, attention.softmax_scale) == (1e-5, 0.0625)
    assert config.indexer is not None
    assert (config.indexer.index_n_heads, config.indexer.index_head_dim, config.indexer.index_topk) == (32, 128, 2048)
    assert config.moe is not None
    assert (config.moe.n_routed_experts, config.moe.num_experts_per_tok, config.moe.n_shared_experts) == (256, 8, 1)
    assert (config.moe.norm_topk_prob, config.moe.routed_scaling_factor) == (True, 2.5)
    assert config.moe.is_sparse == (False,) * 3 + (True,) * 75


def test_the_full_layers_of_glm_5_2_are_the_published_ones() -> None:
    assert full_layers(read(GLM_5_2)) == GLM_5_2_FULL_LAYERS
    assert len(GLM_5_2_FULL_LAYERS) == 21


def test_theta_is_read_from_rope_parameters() -> None:
    assert read(GLM_5_2).rope.theta == 8e6
    assert read(GLM_5).rope.theta == 1e6


def test_a_missing_theta_is_an_error_and_never_ten_thousand() -> None:
    with pytest.raises(ConfigError, match="rope_theta"):
        read(GLM_5_2, rope_parameters={"rope_type": "default"})
    with pytest.raises(ConfigError, match="rope_theta"):
        read(without(GLM_5_2, "rope_parameters"))


@pytest.mark.parametrize("head_dim", [64, 192, 7])
def test_head_dim_means_nothing_beside_latent_attention(head_dim: int) -> None:
    assert read(GLM_5_2, head_dim=head_dim) == read(without(GLM_5_2, "head_dim"))


def test_every_layer_of_glm_5_and_of_deepseek_has_an_indexer() -> None:
    assert full_layers(read(GLM_5)) == tuple(range(78))
    assert full_layers(read(DEEPSEEK_V32)) == tuple(range(61))


def test_rotary_of_the_indexer_is_interleaved_for_glm_and_half_split_for_deepseek() -> None:
    for config, is_interleaved in ((GLM_5_2, True), (without(GLM_5, "indexer_rope_interleave"), True)):
        indexer = read(config).indexer
        assert indexer is not None
        assert indexer.is_rope_interleaved is is_interleaved
    indexer = read(DEEPSEEK_V32).indexer
    assert indexer is not None
    assert not indexer.is_rope_interleaved


def test_rope_interleave_is_obeyed() -> None:
    assert mla(read(GLM_5_2)).is_rope_interleaved
    config = read(GLM_5_2, rope_interleave=False)
    assert not mla(config).is_rope_interleaved
    assert not config.rope.is_interleaved


def test_indexer_types_win_over_the_pattern_and_the_pattern_over_the_frequency() -> None:
    four = {"num_hidden_layers": 4, "mlp_layer_types": ["dense"] * 4, "index_topk_freq": 2, "index_skip_topk_offset": 1}
    types = ["full", "shared", "shared", "full"]
    assert full_layers(read(GLM_5_2, **four, indexer_types=types, index_topk_pattern="FFFF")) == (0, 3)
    assert full_layers(read(GLM_5_2, **four, indexer_types=None, index_topk_pattern="FFSS")) == (0, 1)
    assert full_layers(read(GLM_5_2, **four, indexer_types=None)) == (0, 2)


def test_frequency_four_and_offset_three_alone_give_the_schedule_of_glm_5_2() -> None:
    assert full_layers(read(without(GLM_5_2, "indexer_types"))) == GLM_5_2_FULL_LAYERS


def test_a_frequency_without_an_offset_has_offset_two() -> None:
    assert full_layers(read(without(GLM_5_2, "indexer_types", "index_skip_topk_offset"))) == (0, *range(1, 78, 4))


def test_an_entry_for_the_draft_layer_after_the_decoders_is_dropped() -> None:
    assert full_layers(read(GLM_5_2, indexer_types=[*GLM_5_2["indexer_types"], "full"])) == GLM_5_2_FULL_LAYERS


def test_deepseek_spells_yarn_with_type_and_a_bare_theta() -> None:
    config = read(DEEPSEEK_V32)
    assert config.rope.theta == 10000.0
    assert config.rope.scaling == YarnScaling(40.0, 4096, 32.0, 1.0, 1.0, 1.0)
    assert mla(config).softmax_scale == pytest.approx(1.873854 * 192**-0.5, rel=1e-6)
    assert mla(config).latent_norm_eps == 1e-6


def test_both_spellings_of_yarn_mean_the_same() -> None:
    new = without(DEEPSEEK_V32, "rope_theta", "rope_scaling") | {
        "rope_parameters": without(DEEPSEEK_V32["rope_scaling"], "type") | {"rope_type": "yarn", "rope_theta": 10000.0}
    }
    assert read(new) == read(DEEPSEEK_V32)


def test_the_softmax_scale_grows_only_with_mscale_all_dim() -> None:
    plain = 256**-0.5
    assert mla_softmax_scale(256, None) == plain
    assert mla_softmax_scale(256, YarnScaling(40.0, 4096)) == plain
    assert mla_softmax_scale(256, YarnScaling(1.0, 4096, mscale_all_dim=1.0)) == plain
    grown = mla_softmax_scale(256, YarnScaling(40.0, 4096, mscale_all_dim=1.0))
    assert grown == pytest.approx(plain * (0.1 * math.log(40) + 1) ** 2)


def test_llama_derives_the_head_size_and_keeps_its_own() -> None:
    config = read(LLAMA)
    assert config.attention == GqaConfig(9, 3, 64)
    assert (config.rope.theta, config.rope.dim, config.rope.is_interleaved) == (100000.0, 64, False)
    assert config.tie_word_embeddings
    assert config.indexer is None
    assert config.moe is None
    assert read(LLAMA, head_dim=96).attention == GqaConfig(9, 3, 96)


def test_llama_without_key_heads_has_one_for_each_query_head() -> None:
    assert read(without(LLAMA, "num_key_value_heads")).attention == GqaConfig(9, 9, 64)


def test_llama_reads_its_two_rotary_scalings() -> None:
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaled = read(LLAMA, rope_scaling=llama3 | {"original_max_position_embeddings": 8192})
    assert scaled.rope.scaling == Llama3Scaling(8.0, 8192, 1.0, 4.0)
    assert read(LLAMA, rope_scaling={"type": "linear", "factor": 2.0}).rope.scaling == LinearScaling(2.0)


def test_a_dense_prefix_and_a_list_of_layer_types_say_the_same() -> None:
    assert read(without(GLM_5_2, "mlp_layer_types")) == read(GLM_5_2)


def test_unknown_keys_are_named_and_everything_else_is_read() -> None:
    reading = read_huggingface_config(GLM_5_2 | {"swiglu_limit": 10.0, "hc_mult": 4})
    assert reading.unknown_keys == ("swiglu_limit", "hc_mult")
    assert reading.config == read(GLM_5_2)


@pytest.mark.parametrize("model_type", ["glm5_next", "glm5_next_text", "deepseek_v3", None, 3, ["llama"]])
def test_another_architecture_is_refused_with_what_is_supported(model_type: object) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        read(GLM_5_2, model_type=model_type)
    assert repr(model_type) in caught.value.fault
    assert "glm_moe_dsa, deepseek_v32, llama" in caught.value.mend


MATHEMATICS = [
    "vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "hidden_act", "rms_norm_eps",
    "max_position_embeddings", "num_attention_heads", "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim",
    "qk_rope_head_dim", "v_head_dim", "index_n_heads", "index_head_dim", "index_topk", "n_routed_experts",
    "num_experts_per_tok", "n_shared_experts", "moe_intermediate_size", "norm_topk_prob",
    "routed_scaling_factor", "n_group", "topk_group",
]  # fmt: skip


@pytest.mark.parametrize("key", MATHEMATICS)
def test_a_missing_key_that_changes_the_mathematics_is_an_error_by_name(key: str) -> None:
    with pytest.raises(ConfigError, match=f"'{key}' is missing"):
        read(without(GLM_5_2, key))


def test_without_layer_types_the_dense_prefix_is_needed() -> None:
    with pytest.raises(ConfigError, match="'first_k_dense_replace' is missing"):
        read(without(GLM_5_2, "mlp_layer_types", "first_k_dense_replace"))


UNKNOWN_VALUES = {
    "hidden_act": "gelu",
    "scoring_func": "softmax",
    "topk_method": "greedy",
    "attention_bias": True,
    "mlp_bias": True,
    "moe_layer_freq": 2,
    "indexer_types": ["full", "half"],
    "index_topk_pattern": "FX",
    "mlp_layer_types": ["dense", "moe"],
    "rope_parameters": {"rope_theta": 8000000, "rope_type": "longrope", "factor": 2.0},
    "quantization_config": {"quant_method": "modelopt"},
    "num_hidden_layers": 2**40,
}


@pytest.mark.parametrize(("key", "value"), UNKNOWN_VALUES.items())
def test_an_unknown_value_of_a_known_key_is_an_error_by_name(key: str, value: object) -> None:
    config = without(GLM_5_2, "indexer_types") if key == "index_topk_pattern" else GLM_5_2
    name = {"rope_parameters": "rope_type", "quantization_config": "quant_method"}.get(key, key)
    with pytest.raises(ConfigError, match=name):
        read(config, **{key: value})


YARN_TROUBLE = [
    ({"truncate": False}, "truncate"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ({"long_factor": [1.0]}, "long_factor"),
    ({"factor": None}, "factor"),
    ({"original_max_position_embeddings": None}, "original_max_position_embeddings"),
]


@pytest.mark.parametrize(("change", "shown"), YARN_TROUBLE)
def test_a_rotary_scaling_that_is_not_understood_whole_is_refused(change: Config, shown: str) -> None:
    with pytest.raises(ConfigError, match=shown):
        read(DEEPSEEK_V32, rope_scaling=DEEPSEEK_V32["rope_scaling"] | change)


def test_block_fp8_is_read_and_changes_no_mathematics() -> None:
    reading = read_huggingface_config(GLM_5_2 | {"quantization_config": FP8_QUANTISATION})
    assert reading.unknown_keys == ()
    assert reading.config == read(GLM_5_2)


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 9)
    | st.sampled_from([2**31, 10**400])
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
WORDS = st.sampled_from(["full", "shared", "dense", "sparse", "FS", "yarn", "llama3", "linear", "default", "silu"])


def mutated(config: Config, data: st.DataObject) -> Config:
    """The same configuration with up to three keys, nested ones too, taken away or replaced."""
    changed = copy.deepcopy(config)
    for _ in range(data.draw(st.integers(1, 3))):
        place = changed
        key = data.draw(st.sampled_from(sorted(place)))
        if isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
            place = place[key]
            key = data.draw(st.sampled_from(sorted(place)))
        if data.draw(st.booleans()):
            place[key] = data.draw(ODD | WORDS)
        else:
            del place[key]
    return changed


def read_or_refused(values: Config) -> ModelConfig | LonglensError:
    try:
        return read(values)
    except LonglensError as error:
        return error


@settings(max_examples=300)
@given(data=st.data(), case=st.sampled_from(sorted(CASES)))
def test_any_mutated_configuration_is_read_or_refused_with_fault_and_mend(data: st.DataObject, case: str) -> None:
    result = read_or_refused(mutated(CASES[case], data))
    if isinstance(result, LonglensError):
        assert result.fault
        assert result.mend
        return
    assert all(size > 0 for need in parameter_needs(result) for size in need.shape)
    assert cache_spec_of(result, "bf16").bytes_per_token > 0
    if result.rope.dim < 1024:
        assert frequencies_of(result.rope).shape == (result.rope.dim // 2,)
        assert amplitude_of(result.rope) > 0


@pytest.mark.parametrize("spelling", ["num_experts", "num_local_experts"])
def test_a_second_spelling_of_the_expert_count_must_agree(spelling: str) -> None:
    config = CASES["glm_topk8"]
    assert read({**config, spelling: config["n_routed_experts"]}).moe is not None
    with pytest.raises(ConfigError, match=spelling):
        read({**config, spelling: 4})

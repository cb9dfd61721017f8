from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from longlens.errors import ConfigError
from longlens.model.config import GqaConfig, IndexerConfig, MlaConfig, ModelConfig
from longlens.model.config_huggingface import read_huggingface_config
from tests.model.released_configs import GLM_5_2, LLAMA


def glm() -> ModelConfig:
    return read_huggingface_config(GLM_5_2).config


def llama() -> ModelConfig:
    return read_huggingface_config(LLAMA).config


def indexer(letters: str, index_head_dim: int = 128) -> IndexerConfig:
    is_full = tuple(letter == "F" for letter in letters)
    return IndexerConfig(32, index_head_dim, 2048, is_rope_interleaved=True, is_full=is_full)


def test_a_shared_layer_is_led_by_the_nearest_full_layer_before_it() -> None:
    schedule = indexer("FFSFSSF")
    assert schedule.full_layers == (0, 1, 3, 6)
    assert [schedule.leader_of(layer) for layer in range(7)] == [0, 1, 1, 3, 3, 3, 6]


def test_a_head_is_its_no_rope_dims_and_its_rope_dims_and_a_cached_row_is_latent_and_rope_key() -> None:
    attention = glm().attention
    assert isinstance(attention, MlaConfig)
    assert attention.qk_head_dim == 192 + 64
    assert attention.latent_width == 512 + 64


def test_attention_gathers_above_twice_the_topk_and_never_without_an_indexer() -> None:
    assert glm().gather_threshold_tokens == 4096
    assert llama().gather_threshold_tokens is None


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        glm().vocab_size = 1  # type: ignore[misc]


def test_the_schedule_names_every_layer() -> None:
    with pytest.raises(ConfigError, match="indexer_types names 3 layers, the model has 78"):
        replace(glm(), indexer=indexer("FFS"))


def test_the_first_layer_cannot_be_shared() -> None:
    with pytest.raises(ConfigError, match='layer 0 is "shared"'):
        replace(glm(), indexer=indexer("S" + "F" * 77))


def test_an_indexer_head_holds_the_rotary_dims() -> None:
    with pytest.raises(ConfigError, match="index_head_dim 62 is smaller than qk_rope_head_dim 64"):
        replace(glm(), indexer=indexer("F" * 78, index_head_dim=62))


def moe_with(**changes: object) -> ModelConfig:
    config = glm()
    assert config.moe is not None
    return replace(config, moe=replace(config.moe, **changes))  # type: ignore[arg-type]


def test_expert_layers_are_named_one_by_one() -> None:
    with pytest.raises(ConfigError, match="mlp_layer_types names 2 layers"):
        moe_with(is_sparse=(False, True))


@pytest.mark.parametrize(("n_group", "topk_group"), [(3, 1), (8, 9)])
def test_groups_divide_the_experts_and_no_more_are_kept_than_there_are(n_group: int, topk_group: int) -> None:
    with pytest.raises(ConfigError, match="256 experts do not form"):
        moe_with(n_group=n_group, topk_group=topk_group)


def test_a_token_cannot_choose_more_experts_than_its_groups_hold() -> None:
    assert moe_with(n_group=8, topk_group=1, num_experts_per_tok=32).moe is not None
    with pytest.raises(ConfigError, match="num_experts_per_tok 33 exceeds the 32 experts"):
        moe_with(n_group=8, topk_group=1, num_experts_per_tok=33)


def test_a_group_of_one_expert_has_no_second_best() -> None:
    with pytest.raises(ConfigError, match="a group of experts has one member"):
        moe_with(n_group=256, topk_group=8)


@pytest.mark.parametrize("dim", [0, 63])
def test_rotary_dims_come_in_pairs(dim: int) -> None:
    with pytest.raises(ConfigError, match=f"rotary size {dim}"):
        replace(glm(), rope=replace(glm().rope, dim=dim))


def test_a_rotary_base_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rope_theta 1\.0"):
        replace(glm(), rope=replace(glm().rope, theta=1.0))


def test_a_query_head_has_dims_without_rotary() -> None:
    attention = glm().attention
    assert isinstance(attention, MlaConfig)
    with pytest.raises(ConfigError, match="leaves none beside 64 rotary"):
        replace(glm(), attention=replace(attention, qk_nope_head_dim=0))


def test_query_heads_share_key_heads_evenly() -> None:
    with pytest.raises(ConfigError, match="num_attention_heads 9 is not a multiple of num_key_value_heads 2"):
        replace(llama(), attention=GqaConfig(9, 2, 64))


def test_rotary_dims_fit_into_the_head() -> None:
    with pytest.raises(ConfigError, match="rotary size 64 exceeds the head's 62 dims"):
        replace(llama(), attention=GqaConfig(9, 3, 62))

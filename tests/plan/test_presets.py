from __future__ import annotations

from dataclasses import replace

import pytest

from longlens.formats.checkpoint import open_checkpoint
from longlens.hub.reference import POCKET_FILE
from longlens.model.config import GqaConfig, MlaConfig, YarnScaling
from longlens.model.config_reading import read_config
from longlens.model.needs import num_parameters, parameter_needs
from longlens.model.state import cache_spec_of
from longlens.plan.presets import MODEL_PRESETS, find_preset

GLM_FAMILY = ("glm-5", "glm-5.1", "glm-5.2", "glm-5.3")
SHARED_SCHEDULE = (0, 1, 2, *range(6, 78, 4))


def backbone(name: str) -> int:
    return sum(need.num_elements for need in parameter_needs(MODEL_PRESETS[name].config) if need.is_run)


def test_all_presets_are_listed_under_their_own_names() -> None:
    assert {name: preset.name for name, preset in MODEL_PRESETS.items()} == {name: name for name in MODEL_PRESETS}
    assert set(MODEL_PRESETS) == {*GLM_FAMILY, "glm-5.2-64b", "deepseek-v3.2", "pocket", "smollm2-135m"}
    assert all(preset.source and preset.title for preset in MODEL_PRESETS.values())


def test_glm_5_2_has_the_published_number_of_parameters() -> None:
    config = MODEL_PRESETS["glm-5.2"].config
    assert num_parameters(config) == 753_329_940_480
    assert backbone("glm-5.2") == 743_377_019_904
    assert num_parameters(config) - backbone("glm-5.2") == 9_952_920_576


@pytest.mark.parametrize("name", ["glm-5", "glm-5.1"])
def test_earlier_models_own_an_indexer_in_every_layer(name: str) -> None:
    # "754B params": https://huggingface.co/AesSedai/GLM-5.1-GGUF, counted by the hub
    config = MODEL_PRESETS[name].config
    assert round(num_parameters(config) / 1e9) == 754
    # 57 shared layers of GLM-5.2 lack an indexer of 9,371,648 weights and 256 of its norm.
    assert num_parameters(config) - num_parameters(MODEL_PRESETS["glm-5.2"].config) == 57 * (9_371_648 + 256)
    assert config.indexer is not None
    assert config.indexer.full_layers == tuple(range(78))
    assert (config.max_position_embeddings, config.rope.theta) == (202_752, 1e6)


@pytest.mark.parametrize("name", ["glm-5.2", "glm-5.3"])
def test_later_models_share_indexers_and_reach_a_million_tokens(name: str) -> None:
    config = MODEL_PRESETS[name].config
    assert config.indexer is not None
    assert config.indexer.full_layers == SHARED_SCHEDULE
    assert len(SHARED_SCHEDULE) == 21
    assert (config.max_position_embeddings, config.rope.theta) == (1_048_576, 8e6)


def test_5_3_is_the_geometry_of_5_2() -> None:
    assert MODEL_PRESETS["glm-5.3"].config == MODEL_PRESETS["glm-5.2"].config


def test_the_glm_family_differs_in_schedule_and_length_only() -> None:
    first, last = MODEL_PRESETS["glm-5"].config, MODEL_PRESETS["glm-5.2"].config
    assert replace(last, indexer=first.indexer, rope=first.rope, max_position_embeddings=202_752) == first


def test_glm_5_2_caches_95232_bytes_a_token() -> None:
    assert cache_spec_of(MODEL_PRESETS["glm-5.2"].config, "bf16").bytes_per_token == 95_232


def test_deepseek_counts_as_its_makers_count() -> None:
    config = MODEL_PRESETS["deepseek-v3.2"].config
    indexers = sum(
        need.num_elements
        for need in parameter_needs(config)
        if ".indexer." in need.name and "layers.61." not in need.name
    )
    # DeepSeek-V3 without its prediction layer: 671,026,419,200, "671B" (arXiv 2412.19437).
    assert backbone("deepseek-v3.2") - indexers == 671_026_419_200
    # "685B params": https://huggingface.co/deepseek-ai/DeepSeek-V3.2-Exp-Base; its files hold embedding and head twice.
    copies = 2 * config.vocab_size * config.hidden_size
    assert round((num_parameters(config) + copies) / 1e9) == 685


def test_deepseek_has_yarn_half_split_indexers_and_expert_groups() -> None:
    config = MODEL_PRESETS["deepseek-v3.2"].config
    assert config.rope.scaling == YarnScaling(40.0, 4096, 32.0, 1.0, 1.0, 1.0)
    assert isinstance(config.attention, MlaConfig)
    assert config.attention.softmax_scale == pytest.approx(192**-0.5 * 1.873854, rel=1e-6)
    assert config.indexer is not None
    assert not config.indexer.is_rope_interleaved
    assert config.moe is not None
    assert (config.moe.n_group, config.moe.topk_group) == (8, 4)
    assert (config.rms_norm_eps, config.max_position_embeddings) == (1e-6, 163_840)


def test_the_articles_geometry_gives_the_articles_figures() -> None:
    preset = MODEL_PRESETS["glm-5.2-64b"]
    assert round(num_parameters(preset.config) / 1e9, 1) == 63.1
    assert cache_spec_of(preset.config, "bf16").bytes_per_token == 32_000
    assert preset.config.indexer is not None
    assert preset.config.indexer.full_layers == (0, 1, 2, 6, 10, 14, 18, 22)
    assert preset.config.moe is not None
    assert preset.config.moe.is_sparse == (False, False) + (True,) * 24
    assert "no such checkpoint exists" in preset.note


def test_pocket_is_the_file_that_is_shipped() -> None:
    with open_checkpoint(POCKET_FILE) as checkpoint:
        stored = sum(tensor.num_elements for tensor in checkpoint.tensors.values())
        config = read_config(checkpoint.layout, checkpoint.metadata, checkpoint.tensors.keys()).config
    assert MODEL_PRESETS["pocket"].config == config
    assert num_parameters(config) == stored


def test_smollm2_has_its_published_number_of_parameters() -> None:
    config = MODEL_PRESETS["smollm2-135m"].config
    # https://huggingface.co/HuggingFaceTB/SmolLM2-135M, model.safetensors: 134,515,008 weights
    assert num_parameters(config) == 134_515_008
    assert config.attention == GqaConfig(num_attention_heads=9, num_key_value_heads=3, head_dim=64)
    assert config.tie_word_embeddings


@pytest.mark.parametrize("name", ["glm-5.2", "GLM-5.2", " zai-org/GLM-5.2 ", "ZAI-ORG/glm-5.2"])
def test_case_and_the_repositorys_name_lead_to_a_preset(name: str) -> None:
    assert find_preset(name) is MODEL_PRESETS["glm-5.2"]


@pytest.mark.parametrize(
    "name", ["", "glm", "glm-5.4", "someone/GLM-5.2", "unsloth/GLM-5.2-GGUF", "./glm-5.2", "a/pocket"]
)
def test_other_names_lead_to_none(name: str) -> None:
    assert find_preset(name) is None


def test_an_unknown_name_is_no_key() -> None:
    assert "glm-5.4" not in MODEL_PRESETS
    with pytest.raises(KeyError):
        MODEL_PRESETS["glm-5.4"]

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest

from longlens.model.config import ModelConfig
from longlens.model.config_huggingface import read_huggingface_config
from longlens.model.needs import num_parameters, parameter_needs
from longlens.weights.parameters import ParameterNeed
from tests.golden.tiny_models import CASES, case_weights
from tests.model.released_configs import DEEPSEEK_V32, GLM_5, GLM_5_2, LLAMA


def config_of(values: dict[str, object]) -> ModelConfig:
    return read_huggingface_config(values).config


def glm_needs() -> tuple[ParameterNeed, ...]:
    return parameter_needs(config_of(GLM_5_2))


def count(needs: tuple[ParameterNeed, ...], prefix: str) -> int:
    return sum(need.num_elements for need in needs if need.name.startswith(prefix))


def test_the_shapes_of_glm_5_2_sum_to_the_published_number_of_parameters() -> None:
    assert num_parameters(config_of(GLM_5_2)) == 753_329_940_480


def test_backbone_and_draft_layer_have_their_published_shares() -> None:
    needs = glm_needs()
    assert sum(need.num_elements for need in needs if need.is_run) == 743_377_019_904
    assert sum(need.num_elements for need in needs if not need.is_run) == 9_952_920_576


# Matrices, then norms.
PARTS = {
    "attention of a shared layer": ("model.layers.3.self_attn.", 165_019_648 + 2_560),
    "indexer": ("model.layers.0.self_attn.indexer.", 9_371_648 + 256),
    "dense feed-forward": ("model.layers.0.mlp.", 226_492_416),
    "one shared expert": ("model.layers.3.mlp.shared_experts.", 37_748_736),
    "256 routed experts": ("model.layers.3.mlp.experts.", 256 * 37_748_736),
    "router": ("model.layers.3.mlp.gate.", 1_572_864 + 256),
    "embedding": ("model.embed_tokens.", 154_880 * 6144),
}


@pytest.mark.parametrize(("prefix", "expected"), PARTS.values(), ids=PARTS)
def test_each_part_of_glm_5_2_has_its_count(prefix: str, expected: int) -> None:
    assert count(glm_needs(), prefix) == expected


def test_only_full_layers_and_the_draft_layer_own_an_indexer() -> None:
    owners = {int(need.name.split(".")[2]) for need in glm_needs() if ".indexer." in need.name}
    assert owners == {0, 1, 2, *range(6, 78, 4), 78}
    assert count(parameter_needs(config_of(GLM_5)), "") - count(glm_needs(), "") == 57 * (9_371_648 + 256)


def test_deepseek_v3_2_has_its_671_billion_parameters_and_its_indexers() -> None:
    needs = parameter_needs(config_of(DEEPSEEK_V32))
    indexer = 64 * 128 * 1536 + 128 * 7168 + 2 * 128 + 64 * 7168
    without_indexers = sum(need.num_elements for need in needs if need.is_run and ".indexer." not in need.name)
    assert without_indexers == 671_026_419_200
    assert count(needs, "model.layers.5.self_attn.indexer.") == indexer


def test_a_tied_model_needs_no_head() -> None:
    names = {need.name for need in parameter_needs(config_of(LLAMA))}
    assert "lm_head.weight" not in names
    assert num_parameters(config_of(LLAMA)) == 134_515_008  # SmolLM2-135M


def test_names_are_unique_and_begin_with_the_embedding() -> None:
    names = [need.name for need in glm_needs()]
    assert len(set(names)) == len(names)
    assert names[0] == "model.embed_tokens.weight"
    assert names[-1].startswith("model.layers.78.")


def test_what_decides_a_choice_stays_in_fp32() -> None:
    kinds = {need.name.split(".", 3)[-1] for need in glm_needs() if need.precision == "fp32"}
    assert kinds == {
        "self_attn.indexer.weights_proj.weight",
        "mlp.gate.weight",
        "mlp.gate.e_score_correction_bias",
    }


def test_frequency_factors_are_needed_only_where_the_file_has_them() -> None:
    config = config_of(LLAMA)
    with_factors = replace(config, rope=replace(config.rope, has_factor_tensor=True))
    extra = set(parameter_needs(with_factors)) - set(parameter_needs(config))
    assert extra == {ParameterNeed("model.rope_freqs", (32,), "fp32")}


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_golden_model_needs_as_many_numbers_as_it_has(case: str) -> None:
    held = sum(prod(array.shape) for array in case_weights(case).values())
    assert num_parameters(config_of(CASES[case])) == held

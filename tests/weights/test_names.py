from __future__ import annotations

import pytest

from longlens.model.config_huggingface import read_huggingface_config
from longlens.model.needs import parameter_needs
from longlens.weights.names import NAME_ROWS, WITHOUT_EFFECT, Arrangement, is_indexer_tensor, tensor_name
from tests.formats.make_glm_5_2_shaped import gguf_tensors, huggingface_tensors
from tests.golden.tiny_models import CASES, case_weights
from tests.model.released_configs import DEEPSEEK_V32, GLM_5_2, LLAMA, Config

MODELS = {"glm_moe_dsa": GLM_5_2, "deepseek_v32": DEEPSEEK_V32, "llama": LLAMA, "with biases": CASES["llama_bias"]}


def names_of(config: Config, layout: str) -> list[str]:
    return [tensor_name(need.name, layout)[0] for need in parameter_needs(read_huggingface_config(config).config)]


def expanded(names: list[str], num_experts: int) -> set[str]:
    return {name.replace("{expert}", str(expert)) for name in names for expert in range(num_experts)}


def test_a_parameter_stands_in_the_table_once() -> None:
    parameters = [row.parameter for row in NAME_ROWS]
    assert len(set(parameters)) == len(parameters)


def test_a_gguf_name_belongs_to_one_parameter() -> None:
    patterns = [row.gguf.pattern for row in NAME_ROWS]
    assert len(set(patterns)) == len(patterns)


def test_a_hugging_face_name_belongs_to_one_parameter_but_for_kv_b_which_is_cut_in_two() -> None:
    owners: dict[str, list[Arrangement]] = {}
    for row in NAME_ROWS:
        owners.setdefault(row.huggingface.pattern, []).append(row.huggingface.arrangement)
    shared = {pattern: kinds for pattern, kinds in owners.items() if len(kinds) > 1}
    assert shared == {"model.layers.{layer}.self_attn.kv_b_proj.weight": [Arrangement.KEY_ROWS, Arrangement.VALUE_ROWS]}


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_every_need_has_a_name_of_its_own_in_gguf_and_in_hugging_face(config: Config) -> None:
    needs = parameter_needs(read_huggingface_config(config).config)
    in_gguf = names_of(config, "gguf")
    assert len(set(in_gguf)) == len(needs)
    halves = sum(need.name.endswith("kv_b_proj.value") for need in needs)
    assert len(set(names_of(config, "safetensors"))) == len(needs) - halves


def test_the_names_of_glm_5_2_are_those_of_the_published_checkpoint() -> None:
    published = {name for name, _ in huggingface_tensors()}
    assert expanded(names_of(GLM_5_2, "safetensors"), 256) == published
    assert len(published) == 59_585


def test_the_names_of_glm_5_2_are_those_that_the_gguf_converter_writes() -> None:
    assert set(names_of(GLM_5_2, "gguf")) == {name for name, _, _ in gguf_tensors()}


@pytest.mark.parametrize("case", sorted(CASES))
def test_the_names_of_a_golden_model_are_those_of_its_weights(case: str) -> None:
    assert expanded(names_of(CASES[case], "safetensors"), 16) == set(case_weights(case))


EXAMPLES = [
    ("model.layers.77.self_attn.q_a_proj.weight", "blk.77.attn_q_a.weight", Arrangement.SAME),
    ("model.layers.3.self_attn.kv_b_proj.key", "blk.3.attn_k_b.weight", Arrangement.TRANSPOSED),
    ("model.layers.3.self_attn.kv_b_proj.value", "blk.3.attn_v_b.weight", Arrangement.SAME),
    ("model.layers.12.mlp.experts.down_proj.weight", "blk.12.ffn_down_exps.weight", Arrangement.SAME),
    ("model.layers.3.mlp.gate.e_score_correction_bias", "blk.3.exp_probs_b.bias", Arrangement.SAME),
    ("lm_head.weight", "output.weight", Arrangement.SAME),
]


@pytest.mark.parametrize(("parameter", "name", "arrangement"), EXAMPLES)
def test_gguf_names_carry_the_layer_and_the_arrangement(parameter: str, name: str, arrangement: Arrangement) -> None:
    assert tensor_name(parameter, "gguf") == (name, arrangement)


def test_experts_of_a_hugging_face_checkpoint_leave_their_number_open() -> None:
    name = tensor_name("model.layers.12.mlp.experts.up_proj.weight", "safetensors")
    assert name == ("model.layers.12.mlp.experts.{expert}.up_proj.weight", Arrangement.PER_EXPERT)


def test_a_parameter_that_the_table_lacks_is_a_defect_of_ours() -> None:
    with pytest.raises(KeyError):
        tensor_name("model.layers.0.self_attn.z_proj.weight", "gguf")


@pytest.mark.parametrize(
    "name",
    [
        "blk.5.indexer.attn_k.weight",
        "blk.5.indexer.k_norm.bias",
        "model.layers.5.self_attn.indexer.wq_b.weight",
        "model.layers.5.self_attn.indexer.wk.weight_scale_inv",
    ],
)
def test_tensors_of_an_indexer_are_known_by_name(name: str) -> None:
    assert is_indexer_tensor(name)


@pytest.mark.parametrize("name", ["blk.5.attn_k.weight", "blk.5.indexer.novel.weight", "indexer.proj.weight"])
def test_other_tensors_are_not_taken_for_an_indexers(name: str) -> None:
    assert not is_indexer_tensor(name)


@pytest.mark.parametrize(
    ("name", "has_no_effect"),
    [
        ("blk.78.nextn.embed_tokens.weight", True),
        ("model.layers.61.shared_head.head.weight", True),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", True),
        ("model.layers.3.mlp.experts.0.up_proj.input_scale", True),
        ("model.layers.78.eh_proj.weight", False),
        ("model.layers.0.self_attn.q_proj.weight", False),
    ],
)
def test_copies_tables_and_quantisers_notes_change_nothing(name: str, has_no_effect: bool) -> None:
    assert (WITHOUT_EFFECT.fullmatch(name) is not None) == has_no_effect

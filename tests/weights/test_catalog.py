from __future__ import annotations

from dataclasses import replace

import pytest

from longlens.errors import ParameterError, UnsupportedModelError
from longlens.formats.tensors import TensorInfo
from longlens.model.config import ModelConfig
from longlens.model.config_huggingface import read_huggingface_config
from longlens.model.needs import parameter_needs
from longlens.weights.catalog import Catalog, build_catalog
from longlens.weights.parameters import ParameterNeed
from tests.formats.make_glm_5_2_shaped import gguf_tensors, huggingface_tensors
from tests.golden.tiny_models import CASES
from tests.model.released_configs import DEEPSEEK_V32, GLM_5_2, LLAMA, Config
from tests.weights.tensor_lists import by_name, complete, info

MODELS = {"glm_moe_dsa": CASES["glm_topk8"], "with a draft layer": CASES["glm_tame"], "deepseek": DEEPSEEK_V32}
MODELS |= {"llama": LLAMA, "llama with biases": CASES["llama_bias"]}
Tensors = dict[str, TensorInfo]


def needs_of(config: Config) -> tuple[ParameterNeed, ...]:
    return parameter_needs(read_huggingface_config(config).config)


def small(layout: str = "safetensors", config: Config = CASES["glm_tame"]) -> Tensors:
    return complete(needs_of(config), layout)


def catalog_of(tensors: Tensors, layout: str = "safetensors", config: Config = CASES["glm_tame"]) -> Catalog:
    return build_catalog(needs_of(config), tensors, layout)


@pytest.mark.parametrize("layout", ["gguf", "safetensors"])
@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_a_complete_checkpoint_leaves_no_need_and_no_tensor_over(config: Config, layout: str) -> None:
    tensors = small(layout, config)
    catalog = catalog_of(tensors, layout, config)
    assert list(catalog.sources) == [need.name for need in needs_of(config)]
    assert catalog.unknown == catalog.ignored == ()
    assert catalog.num_bytes == sum(tensor.num_bytes for tensor in tensors.values())


def test_the_published_headers_of_glm_5_2_fit_its_needs() -> None:
    tensors = by_name(info(name, shape) for name, shape in huggingface_tensors())
    catalog = catalog_of(tensors, config=GLM_5_2)
    assert catalog.unknown == catalog.ignored == ()
    assert catalog.has_mtp
    assert catalog.num_bytes == 2 * 753_329_940_480


def test_a_gguf_of_glm_5_2_fits_its_needs() -> None:
    tensors = by_name(info(*tensor) for tensor in gguf_tensors())
    catalog = catalog_of(tensors, "gguf", GLM_5_2)
    assert catalog.unknown == catalog.ignored == ()
    assert catalog.num_bytes == sum(tensor.num_bytes for tensor in tensors.values())


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "lm_head.weight",
        "model.layers.2.self_attn.kv_b_proj.weight",
        "model.layers.3.mlp.experts.15.down_proj.weight",
        "model.layers.0.self_attn.indexer.weights_proj.weight",
        "model.layers.3.mlp.gate.e_score_correction_bias",
    ],
)
def test_a_missing_tensor_is_an_error_by_name(name: str) -> None:
    tensors = small()
    del tensors[name]
    with pytest.raises(ParameterError, match=f"'{name}' is missing"):
        catalog_of(tensors)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("model.layers.0.self_attn.q_a_proj.weight", "safetensors"),
        ("model.layers.0.self_attn.kv_b_proj.weight", "safetensors"),
        ("model.layers.3.mlp.experts.7.up_proj.weight", "safetensors"),
        ("model.norm.weight", "safetensors"),
        ("blk.0.attn_k_b.weight", "gguf"),
        ("blk.3.ffn_up_exps.weight", "gguf"),
    ],
)
def test_a_misshapen_tensor_is_an_error_with_both_shapes(name: str, layout: str) -> None:
    tensors = small(layout)
    right = tensors[name].shape
    tensors[name] = info(name, (*right[:-1], right[-1] + 2))
    with pytest.raises(ParameterError, match=f"'{name}' has shape") as caught:
        catalog_of(tensors, layout)
    assert str(list(right)) in caught.value.fault


def test_a_key_half_that_is_not_transposed_is_misshapen() -> None:
    tensors = small("gguf")
    heads, latent, nope = tensors["blk.0.attn_k_b.weight"].shape
    tensors["blk.0.attn_k_b.weight"] = info("blk.0.attn_k_b.weight", (heads, nope, latent))
    with pytest.raises(ParameterError, match=r"blk\.0\.attn_k_b\.weight"):
        catalog_of(tensors, "gguf")


def test_axes_of_size_one_may_be_dropped() -> None:
    need = ParameterNeed("model.layers.0.mlp.experts.up_proj.weight", (4, 1, 6))
    name = "blk.0.ffn_up_exps.weight"
    assert build_catalog([need], {name: info(name, (4, 6))}, "gguf").sources[need.name].need == need


FP8_NAME = "model.layers.0.self_attn.q_a_proj.weight"


@pytest.mark.parametrize("suffix", ["_scale_inv", "_scale"])
@pytest.mark.parametrize("type_name", ["F8_E4M3", "F8_E5M2"])
def test_fp8_is_found_together_with_its_scales(suffix: str, type_name: str) -> None:
    tensors = small()
    shape = tensors[FP8_NAME].shape
    tensors |= by_name([info(FP8_NAME, shape, type_name), info(FP8_NAME + suffix, (1, 1), "F32")])
    catalog = catalog_of(tensors)
    (stored,) = catalog.sources[FP8_NAME].tensors
    assert stored.scale is not None
    assert stored.scale.name == FP8_NAME + suffix
    assert stored.num_bytes == shape[0] * shape[1] + 4
    assert catalog.unknown == ()


def test_fp8_without_scales_is_an_error_by_name() -> None:
    tensors = small()
    tensors[FP8_NAME] = info(FP8_NAME, tensors[FP8_NAME].shape, "F8_E4M3")
    with pytest.raises(ParameterError, match=f"'{FP8_NAME}' is FP8, but '{FP8_NAME}_scale_inv' is missing"):
        catalog_of(tensors)


def test_scales_of_a_tensor_that_is_not_fp8_are_unknown() -> None:
    assert catalog_of(small() | by_name([info(f"{FP8_NAME}_scale", (1,))])).unknown == (f"{FP8_NAME}_scale",)


@pytest.mark.parametrize("type_name", ["U8", "I8", "I32"])
def test_whole_numbers_are_no_weights(type_name: str) -> None:
    tensors = small()
    tensors[FP8_NAME] = info(FP8_NAME, tensors[FP8_NAME].shape, type_name)
    with pytest.raises(UnsupportedModelError, match=rf"'{FP8_NAME}' holds whole numbers \({type_name}\)"):
        catalog_of(tensors)


def test_unknown_tensors_are_named_in_the_order_of_the_file() -> None:
    extra = [info("model.layers.0.self_attn.sinks", (4,)), info("visual.patch.weight", (4,))]
    assert catalog_of(small() | by_name(extra)).unknown == ("model.layers.0.self_attn.sinks", "visual.patch.weight")


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("gguf", ["blk.2.indexer.attn_k.weight", "blk.2.indexer.proj.weight"]),
        (
            "safetensors",
            [
                "model.layers.2.self_attn.indexer.wk.weight",
                "model.layers.2.self_attn.indexer.wk.weight_scale_inv",
                "model.layers.2.self_attn.indexer.k_norm.bias",
            ],
        ),
    ],
)
def test_indexer_tensors_on_shared_layers_are_ignored_by_name(layout: str, names: list[str]) -> None:
    tensors = small(layout, CASES["glm_topk8"]) | by_name(info(name, (4, 4)) for name in names)
    catalog = catalog_of(tensors, layout, CASES["glm_topk8"])  # layer 2 of FFSFSSSF is shared
    assert catalog.ignored == tuple(names)
    assert catalog.unknown == ()


def test_copies_of_the_embedding_in_the_draft_layer_are_ignored() -> None:
    copies = ["model.layers.8.embed_tokens.weight", "model.layers.8.shared_head.head.weight"]
    catalog = catalog_of(small() | by_name(info(name, (320, 64)) for name in copies))
    assert catalog.ignored == tuple(copies)
    assert catalog.unknown == ()


@pytest.mark.parametrize(("layout", "layer"), [("gguf", "blk.8."), ("safetensors", "model.layers.8.")])
def test_a_file_without_the_draft_layer_is_complete_for_what_is_run(layout: str, layer: str) -> None:
    tensors = {name: tensor for name, tensor in small(layout).items() if not name.startswith(layer)}
    catalog = catalog_of(tensors, layout)
    assert not catalog.has_mtp
    assert list(catalog.sources) == [need.name for need in needs_of(CASES["glm_tame"]) if need.is_run]
    assert catalog.unknown == ()


def test_a_draft_layer_is_recognised_and_kept() -> None:
    catalog = catalog_of(small())
    assert catalog.has_mtp
    assert "model.layers.8.eh_proj.weight" in catalog.sources


def test_half_a_draft_layer_is_an_error_by_name() -> None:
    tensors = small()
    del tensors["model.layers.8.eh_proj.weight"]
    with pytest.raises(ParameterError, match=r"'model\.layers\.8\.eh_proj\.weight' is missing"):
        catalog_of(tensors)


def test_a_claim_of_endless_experts_ends_at_the_first_that_is_missing() -> None:
    need = ParameterNeed("model.layers.0.mlp.experts.up_proj.weight", (2**45, 4, 4))
    with pytest.raises(ParameterError, match=r"experts\.0\.up_proj\.weight' is missing"):
        build_catalog([need], {}, "safetensors")


def test_a_tied_model_may_carry_its_head_anyway_and_says_so() -> None:
    config: ModelConfig = read_huggingface_config(CASES["llama_tied"]).config
    tensors = complete(parameter_needs(replace(config, tie_word_embeddings=False)), "safetensors")
    assert build_catalog(parameter_needs(config), tensors, "safetensors").unknown == ("lm_head.weight",)

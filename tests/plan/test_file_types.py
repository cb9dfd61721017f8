from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.errors import UsageError
from longlens.formats.checkpoint import open_checkpoint
from longlens.formats.element_types import SAFETENSORS_TYPES
from longlens.formats.tensors import TensorInfo
from longlens.model.config import IndexerConfig, MlaConfig, ModelConfig, MoeConfig
from longlens.model.config_huggingface import read_huggingface_config
from longlens.model.config_reading import read_config
from longlens.model.needs import num_parameters, parameter_needs
from longlens.plan.file_types import (
    FILE_TYPES,
    WEIGHT_CLASSES,
    catalog_bytes,
    class_parameters,
    stored_bytes,
    weight_class,
)
from longlens.plan.presets import MODEL_PRESETS
from longlens.units import GIB
from longlens.weights.catalog import build_catalog
from longlens.weights.names import Arrangement, tensor_name
from tests.golden.tiny_models import CASES

FIXTURES = Path(__file__).parents[1] / "fixtures"
# Widest first. FP8 keeps what Q8_0 quantises, and BF16 what F16 files hold in F32, so they stand apart.
LADDER = ("f32", "f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0")
WITH_MTP = read_huggingface_config(CASES["glm_tame"]).config


def total(config: ModelConfig, file_type: str) -> int:
    return sum(stored_bytes(config, file_type).values())


def glm(name: str = "glm-5.2") -> ModelConfig:
    return MODEL_PRESETS[name].config


def test_classes_of_glm_5_2_are_the_published_counts() -> None:
    classes = class_parameters(glm())
    assert classes["attention"] == 78 * 165_019_648
    assert classes["indexer"] == 21 * 9_371_648
    assert classes["dense_ffn"] == 3 * 226_492_416
    assert classes["router"] == 75 * (1_572_864 + 256)
    assert classes["experts"] == 75 * 256 * 37_748_736
    assert classes["shared_experts"] == 75 * 37_748_736
    assert classes["embedding"] == classes["head"] == 154_880 * 6144
    assert classes["norms"] == 78 * (2 * 6144 + 2_560) + 21 * 256 + 6144
    assert classes["mtp"] == 9_952_920_576


def test_a_tied_head_is_the_embedding() -> None:
    classes = class_parameters(MODEL_PRESETS["smollm2-135m"].config)
    assert (classes["embedding"], classes["head"]) == (49_152 * 576, 0)


def test_every_parameter_of_every_preset_has_a_class() -> None:
    for preset in MODEL_PRESETS.values():
        found = {weight_class(need, preset.config) for need in parameter_needs(preset.config)}
        assert found <= set(WEIGHT_CLASSES), preset.name
        assert sum(class_parameters(preset.config).values()) == num_parameters(preset.config)


def test_glm_5_2_is_as_large_as_its_published_files() -> None:
    assert total(glm(), "bf16") == 2 * 753_329_940_480 + 2 * 76 * 256, "1.51 TB; router biases in F32"
    assert total(glm(), "fp8") / 1e9 == pytest.approx(755.6, abs=0.05), "zai-org/GLM-5.2-FP8"


def test_glm_5_1_is_as_large_as_published_gguf_files() -> None:
    # https://huggingface.co/ubergarm/GLM-5.1-GGUF: Q8_0 746.302 GiB, BF16 1404.406 GiB (indexer.proj was BF16 then)
    assert total(glm("glm-5.1"), "q8_0") / GIB == pytest.approx(746.302, abs=0.0005)
    head_weights = 79 * 32 * 6144 * 2
    assert (total(glm("glm-5.1"), "f16") - head_weights) / GIB == pytest.approx(1404.406, abs=0.0015)


def test_deepseeks_fp8_files_are_as_large_as_published() -> None:
    config = MODEL_PRESETS["deepseek-v3.2"].config
    # DeepSeek-V3 is V3.2 without indexers; its files hold embedding and head a second time.
    # https://huggingface.co/deepseek-ai/DeepSeek-V3: 688,586,727,753 bytes, headers of 163 shards (10 MB) included
    copies = 2 * 2 * config.vocab_size * config.hidden_size
    without = total(replace(config, indexer=None), "fp8") + copies
    assert without == pytest.approx(688_586_727_753, rel=3e-5)
    assert without < 688_586_727_753


def test_the_articles_model_in_q4_k_m_is_as_large_as_the_article_says() -> None:
    assert total(glm("glm-5.2-64b"), "q4_k_m") / 1e9 == pytest.approx(38.2, rel=0.01)


def test_smollm2_is_as_large_as_its_published_file() -> None:
    # model.safetensors of HuggingFaceTB/SmolLM2-135M: 269 MB
    assert total(MODEL_PRESETS["smollm2-135m"].config, "bf16") == 269_030_016


def test_fp8_counts_a_scale_for_every_begun_block() -> None:
    stored = stored_bytes(glm(), "fp8")
    # The grids of q_a, q_b, kv_a (576 rows begin a fifth block), kv_b and o, as the headers of GLM-5.2-FP8 have them.
    scales = 16 * 48 + 128 * 16 + 5 * 48 + 224 * 4 + 48 * 128
    assert stored["attention"] == 78 * (165_019_648 + 4 * scales)
    assert stored["router"] == 75 * (2 * 1_572_864 + 4 * 256)
    assert stored["embedding"] == 2 * 154_880 * 6144


def test_an_unknown_file_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"ud-iq1_s.*\n.*q4_k_m"):
        stored_bytes(glm(), "ud-iq1_s")


@pytest.mark.parametrize("file_type", FILE_TYPES)
def test_every_file_type_counts_all_classes(file_type: str) -> None:
    stored = stored_bytes(WITH_MTP, file_type)
    assert tuple(stored) == WEIGHT_CLASSES
    assert all(stored[name] > 0 for name in WEIGHT_CLASSES)


@st.composite
def geometries(draw: st.DrawFn) -> ModelConfig:
    """GLM's shape with sizes that fit blocks, or do not."""
    size = st.sampled_from((24, 32, 64, 192, 256, 576))
    base = MODEL_PRESETS["glm-5.2-64b"].config
    layers = draw(st.integers(1, 12))
    assert isinstance(base.attention, MlaConfig)
    assert base.indexer is not None
    assert base.moe is not None
    attention = replace(
        base.attention,
        num_attention_heads=draw(st.integers(1, 4)),
        q_lora_rank=draw(size),
        kv_lora_rank=draw(size),
        v_head_dim=draw(size),
    )
    return replace(
        base,
        vocab_size=draw(st.integers(8, 64)),
        hidden_size=draw(size),
        intermediate_size=draw(size),
        num_hidden_layers=layers,
        num_nextn_predict_layers=draw(st.integers(0, 1)),
        attention=attention,
        indexer=_indexer(base.indexer, layers),
        moe=_experts(base.moe, layers, draw(st.sampled_from((2, 8, 16))), draw(size)),
        tie_word_embeddings=draw(st.booleans()),
    )


def _indexer(indexer: IndexerConfig, layers: int) -> IndexerConfig:
    return replace(indexer, is_full=tuple(layer % 3 == 0 for layer in range(layers)))


def _experts(moe: MoeConfig, layers: int, experts: int, width: int) -> MoeConfig:
    sparse = tuple(layer > 0 for layer in range(layers))
    return replace(moe, n_routed_experts=experts, num_experts_per_tok=2, moe_intermediate_size=width, is_sparse=sparse)


@given(geometries())
def test_a_narrower_type_never_takes_more(config: ModelConfig) -> None:
    sizes = [stored_bytes(config, file_type) for file_type in LADDER]
    for wider, narrower in pairwise(sizes):
        assert all(wider[name] >= narrower[name] for name in WEIGHT_CLASSES)


@given(geometries(), st.sampled_from(FILE_TYPES))
def test_one_more_layer_never_takes_less(config: ModelConfig, file_type: str) -> None:
    assert config.indexer is not None
    assert config.moe is not None
    layers = config.num_hidden_layers + 1
    longer = replace(
        config,
        num_hidden_layers=layers,
        indexer=_indexer(config.indexer, layers),
        moe=_experts(config.moe, layers, config.moe.n_routed_experts, config.moe.moe_intermediate_size),
    )
    assert total(longer, file_type) > total(config, file_type)


@pytest.mark.parametrize("name", ["tiny-glm-Q4_K_M.gguf", "tiny-glm", "tiny-llama-Q8_0.gguf", "wide-glm-Q6_K.gguf"])
def test_classes_of_a_file_sum_to_its_parameters(name: str) -> None:
    with open_checkpoint(FIXTURES / name) as checkpoint:
        config = read_config(checkpoint.layout, checkpoint.metadata, checkpoint.tensors.keys()).config
        catalog = build_catalog(parameter_needs(config), checkpoint.tensors, checkpoint.layout)
        total_bytes = checkpoint.total_bytes
    assert sum(catalog_bytes(catalog, config).values()) == catalog.num_bytes == total_bytes


def test_a_quantised_file_has_the_bytes_of_its_type_in_every_class() -> None:
    with open_checkpoint(FIXTURES / "wide-glm-Q4_K_M.gguf") as checkpoint:
        config = read_config(checkpoint.layout, checkpoint.metadata, checkpoint.tensors.keys()).config
        catalog = build_catalog(parameter_needs(config), checkpoint.tensors, checkpoint.layout)
    assert catalog_bytes(catalog, config) == stored_bytes(config, "q4_k_m")


def fp8_header(config: ModelConfig) -> Iterator[TensorInfo]:
    """The tensors of a block-FP8 repository, as their headers list them."""
    heads = config.attention.num_attention_heads
    for need in parameter_needs(config):
        pattern, arrangement = tensor_name(need.name, "safetensors")
        shape, copies = need.shape, 1
        if arrangement is Arrangement.VALUE_ROWS:
            continue  # part of the tensor of the key rows
        if arrangement is Arrangement.KEY_ROWS:
            assert isinstance(config.attention, MlaConfig)
            shape = (heads * (need.shape[1] + config.attention.v_head_dim), need.shape[2])
        elif arrangement is Arrangement.PER_EXPERT:
            copies, shape = need.shape[0], need.shape[1:]
        for expert in range(copies):
            name = pattern.replace("{expert}", str(expert))
            kept = ("embed_tokens", "lm_head", "mlp.gate.", "weights_proj", "eh_proj", "norm")
            if name.endswith("e_score_correction_bias"):
                yield tensor(name, shape, "F32", 4)
            elif any(part in name for part in kept):
                yield tensor(name, shape, "BF16", 2)
            else:
                yield tensor(name, shape, "F8_E4M3", 1)
                yield tensor(f"{name}_scale_inv", tuple(-(-size // 128) for size in shape), "F32", 4)


def tensor(name: str, shape: tuple[int, ...], kind: str, width: int) -> TensorInfo:
    num_elements = 1
    for size in shape:
        num_elements *= size
    return TensorInfo(name, shape, SAFETENSORS_TYPES[kind], 0, 0, width * num_elements)


def test_a_header_of_fp8_weights_has_the_bytes_of_fp8() -> None:
    config = MODEL_PRESETS["pocket"].config
    untied = replace(config, tie_word_embeddings=False)
    tensors = {info.name: info for info in fp8_header(untied)}
    stored = catalog_bytes(build_catalog(parameter_needs(untied), tensors, "safetensors"), untied)
    expected = stored_bytes(untied, "fp8")
    # The catalogue splits the scales of kv_b between keys and values, a byte at most is rounded away in each.
    assert stored["attention"] == pytest.approx(expected["attention"], abs=untied.num_hidden_layers)
    assert stored["mtp"] == pytest.approx(expected["mtp"], abs=1)
    rest = set(WEIGHT_CLASSES) - {"attention", "mtp"}
    assert {name: stored[name] for name in rest} == {name: expected[name] for name in rest}
    assert sum(expected.values()) == sum(info.num_bytes for info in tensors.values())

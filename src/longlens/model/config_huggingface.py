"""config.json -> ModelConfig.

Source: transformers 5.23, configuration_glm_moe_dsa.py, configuration_deepseek_v32.py, configuration_llama.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from longlens.errors import UnsupportedModelError
from longlens.model.config import (
    SUPPORTED_ARCHITECTURES,
    Architecture,
    ConfigReading,
    GqaConfig,
    IndexerConfig,
    LinearScaling,
    Llama3Scaling,
    MlaConfig,
    ModelConfig,
    MoeConfig,
    RopeConfig,
    RopeScaling,
    YarnScaling,
)
from longlens.model.config_keys import MOST_LAYERS, KeyReader
from longlens.model.schedule import full_layers_of_frequency, full_layers_of_pattern, full_layers_of_types

# Keys that change nothing that longlens computes: training, bookkeeping, or a second spelling of another key.
_WITHOUT_EFFECT = frozenset(
    {
        "_name_or_path",
        "architectures",
        "dtype",
        "torch_dtype",
        "transformers_version",
        "initializer_range",
        "attention_dropout",
        "pretraining_tp",
        "ep_size",
        "use_cache",
        "eos_token_id",
        "pad_token_id",
        "bos_token_id",
        "head_dim",
        "qk_head_dim",
        "layer_types",
        "output_router_logits",
        "router_aux_loss_coef",
        "aux_loss_alpha",
        "seq_aux",
        "moe_router_dtype",
        "index_share_for_mtp_iteration",
        "auto_map",
        "is_llama_config",
        "return_dict",
        "output_hidden_states",
        "chunk_size_feed_forward",
        "is_encoder_decoder",
        "id2label",
        "label2id",
        "problem_type",
        "output_attentions",
        "tokenizer_class",
        "num_key_value_heads",
        "name_or_path",
        "transformers.js_config",
    }
)


def read_huggingface_config(values: Mapping[str, object], source: str = "config.json") -> ConfigReading:
    """Read a Hugging Face configuration.

    Args:
        values: the parsed config.json.
        source: how to name it in errors.

    Raises:
        UnsupportedModelError: a `model_type` that longlens does not run.
        ConfigError: a missing key that changes the mathematics, or a value that is not understood.
    """
    architecture = _architecture(values, source)
    keys = KeyReader(values, source)
    keys.value("model_type")
    _check_quantisation(keys)
    read = _read_llama if architecture == "llama" else _read_dsa
    config = read(keys, architecture)
    return ConfigReading(config, keys.unknown(_WITHOUT_EFFECT))


def _architecture(values: Mapping[str, object], source: str) -> Architecture:
    model_type = values.get("model_type")
    for architecture in SUPPORTED_ARCHITECTURES:
        if model_type == architecture:
            return architecture
    raise UnsupportedModelError(
        f"{source}: model_type is {model_type!r}, which longlens does not run",
        f"it runs {', '.join(SUPPORTED_ARCHITECTURES)}",
    )


def _check_quantisation(keys: KeyReader) -> None:
    if keys.has("quantization_config"):
        keys.section("quantization_config").choice("quant_method", ("fp8",))


def _read_dsa(keys: KeyReader, architecture: Architecture) -> ModelConfig:
    layers = keys.integer("num_hidden_layers", most=MOST_LAYERS)
    keys.choice("hidden_act", ("silu",))
    rope_dim = keys.integer("qk_rope_head_dim")
    scaling, theta = _rope_scaling(keys)
    is_interleaved = keys.flag("rope_interleave", default=True)
    return ModelConfig(
        architecture=architecture,
        vocab_size=keys.integer("vocab_size"),
        hidden_size=keys.integer("hidden_size"),
        intermediate_size=keys.integer("intermediate_size"),
        num_hidden_layers=layers,
        num_nextn_predict_layers=keys.integer("num_nextn_predict_layers", default=0, least=0, most=MOST_LAYERS),
        rms_norm_eps=keys.number("rms_norm_eps"),
        max_position_embeddings=keys.integer("max_position_embeddings"),
        tie_word_embeddings=keys.flag("tie_word_embeddings", default=False),
        rope=RopeConfig(theta, rope_dim, is_interleaved, scaling),
        attention=_mla(keys, scaling, is_interleaved=is_interleaved),
        indexer=_indexer(keys, architecture, layers),
        moe=_moe(keys, layers),
        mlp_bias=_refuse_true(keys, "mlp_bias"),
    )


def _mla(keys: KeyReader, scaling: RopeScaling | None, *, is_interleaved: bool) -> MlaConfig:
    nope, rope = keys.integer("qk_nope_head_dim"), keys.integer("qk_rope_head_dim")
    return MlaConfig(
        num_attention_heads=keys.integer("num_attention_heads"),
        q_lora_rank=keys.integer("q_lora_rank"),
        kv_lora_rank=keys.integer("kv_lora_rank"),
        qk_nope_head_dim=nope,
        qk_rope_head_dim=rope,
        v_head_dim=keys.integer("v_head_dim"),
        latent_norm_eps=keys.number("rms_norm_eps"),
        softmax_scale=mla_softmax_scale(nope + rope, scaling),
        attention_bias=_refuse_true(keys, "attention_bias"),
        is_rope_interleaved=is_interleaved,
    )


def mla_softmax_scale(qk_head_dim: int, scaling: RopeScaling | None) -> float:
    """Scale of MLA's scores: qk_head_dim ** -0.5, times YaRN's squared amplitude where mscale_all_dim is set.

    Source: DeepSeek-V3.2, inference/model.py; transformers, `yarn_apply_mscale`.
    """
    scale: float = qk_head_dim**-0.5
    if isinstance(scaling, YarnScaling) and scaling.mscale_all_dim and scaling.factor > 1:
        scale *= (0.1 * scaling.mscale_all_dim * math.log(scaling.factor) + 1.0) ** 2
    return scale


def _indexer(keys: KeyReader, architecture: Architecture, layers: int) -> IndexerConfig:
    if keys.has("indexer_types"):
        is_full = full_layers_of_types(keys.sequence("indexer_types"))
    elif keys.has("index_topk_pattern"):
        is_full = full_layers_of_pattern(keys.value("index_topk_pattern"))
    else:
        frequency = keys.integer("index_topk_freq", default=1, least=0)
        offset = keys.integer("index_skip_topk_offset", default=2)
        is_full = full_layers_of_frequency(layers, frequency, offset)
    for second_spelling in ("index_topk_pattern", "index_topk_freq", "index_skip_topk_offset"):
        keys.has(second_spelling)
    return IndexerConfig(
        index_n_heads=keys.integer("index_n_heads"),
        index_head_dim=keys.integer("index_head_dim"),
        index_topk=keys.integer("index_topk"),
        is_rope_interleaved=keys.flag("indexer_rope_interleave", default=architecture == "glm_moe_dsa"),
        is_full=is_full[:layers] if len(is_full) == layers + 1 else is_full,
    )


def _moe(keys: KeyReader, layers: int) -> MoeConfig:
    keys.choice("scoring_func", ("sigmoid",), default="sigmoid")
    keys.choice("topk_method", ("noaux_tc",), default="noaux_tc")
    return MoeConfig(
        n_routed_experts=_num_experts(keys),
        num_experts_per_tok=keys.integer("num_experts_per_tok"),
        n_shared_experts=keys.integer("n_shared_experts", least=0),
        moe_intermediate_size=keys.integer("moe_intermediate_size"),
        n_group=keys.integer("n_group"),
        topk_group=keys.integer("topk_group"),
        norm_topk_prob=keys.flag("norm_topk_prob"),
        routed_scaling_factor=keys.number("routed_scaling_factor"),
        is_sparse=_sparse_layers(keys, layers),
    )


def _num_experts(keys: KeyReader) -> int:
    number = keys.integer("n_routed_experts")
    for second_spelling in ("num_experts", "num_local_experts"):
        if keys.has(second_spelling) and keys.integer(second_spelling) != number:
            raise keys.refuse(second_spelling, keys.value(second_spelling), f"{number}, as n_routed_experts says")
    return number


def _sparse_layers(keys: KeyReader, layers: int) -> tuple[bool, ...]:
    if keys.has("moe_layer_freq") and keys.integer("moe_layer_freq") != 1:
        raise keys.refuse("moe_layer_freq", keys.value("moe_layer_freq"), "1")
    if not keys.has("mlp_layer_types"):
        dense = keys.integer("first_k_dense_replace", least=0)
        return tuple(layer >= dense for layer in range(layers))
    keys.has("first_k_dense_replace")
    types = keys.sequence("mlp_layer_types")
    for word in types:
        if word not in ("dense", "sparse"):
            raise keys.refuse("mlp_layer_types", word, "'dense' or 'sparse'")
    return tuple(word == "sparse" for word in types)


def _read_llama(keys: KeyReader, architecture: Architecture) -> ModelConfig:
    keys.choice("hidden_act", ("silu",), default="silu")
    heads, hidden = keys.integer("num_attention_heads"), keys.integer("hidden_size")
    head_dim = keys.integer("head_dim") if keys.has("head_dim") else hidden // heads
    scaling, theta = _rope_scaling(keys, default_theta=10000.0)
    return ModelConfig(
        architecture=architecture,
        vocab_size=keys.integer("vocab_size"),
        hidden_size=hidden,
        intermediate_size=keys.integer("intermediate_size"),
        num_hidden_layers=keys.integer("num_hidden_layers", most=MOST_LAYERS),
        num_nextn_predict_layers=0,
        rms_norm_eps=keys.number("rms_norm_eps"),
        max_position_embeddings=keys.integer("max_position_embeddings"),
        tie_word_embeddings=keys.flag("tie_word_embeddings", default=False),
        rope=RopeConfig(theta, head_dim, keys.flag("rope_interleaved", default=False), scaling),
        attention=GqaConfig(
            num_attention_heads=heads,
            num_key_value_heads=keys.integer("num_key_value_heads", default=heads),
            head_dim=head_dim,
            attention_bias=keys.flag("attention_bias", default=False),
        ),
        mlp_bias=keys.flag("mlp_bias", default=False),
    )


def _rope_scaling(keys: KeyReader, default_theta: float | None = None) -> tuple[RopeScaling | None, float]:
    """Read `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before it)."""
    section = next((keys.section(key) for key in ("rope_parameters", "rope_scaling") if keys.has(key)), None)
    if section is not None and section.has("rope_theta"):
        keys.has("rope_theta")
        theta = section.number("rope_theta")
    else:
        theta = keys.number("rope_theta", default=default_theta)
    keys.has("rope_scaling")
    if section is None:
        return None, theta
    spelling = "rope_type" if section.has("rope_type") else "type"
    kind = section.choice(spelling, ("default", "linear", "yarn", "llama3"), default="default")
    section.has("type")
    scaling = _scaling(section, kind)
    for key in section.unknown(frozenset({"partial_rotary_factor"})):
        raise section.refuse(key, section.value(key), f"no such key for rope_type {kind!r}")
    if section.has("partial_rotary_factor") and section.number("partial_rotary_factor") != 1.0:
        raise section.refuse("partial_rotary_factor", section.value("partial_rotary_factor"), "1.0")
    return scaling, theta


def _scaling(section: KeyReader, kind: str) -> RopeScaling | None:
    if kind == "default":
        return None
    factor = section.number("factor")
    if kind == "linear":
        return LinearScaling(factor)
    original = section.integer("original_max_position_embeddings")
    if kind == "llama3":
        return Llama3Scaling(factor, original, section.number("low_freq_factor"), section.number("high_freq_factor"))
    if section.has("truncate") and not section.flag("truncate"):
        raise section.refuse("truncate", False, "true")
    return YarnScaling(
        factor=factor,
        original_max_position_embeddings=original,
        beta_fast=section.number("beta_fast", default=32.0),
        beta_slow=section.number("beta_slow", default=1.0),
        mscale=section.number("mscale", default=0.0, may_be_zero=True),
        mscale_all_dim=section.number("mscale_all_dim", default=0.0, may_be_zero=True),
        attention_factor=section.number("attention_factor") if section.has("attention_factor") else None,
    )


def _refuse_true(keys: KeyReader, key: str) -> bool:
    if keys.flag(key, default=False):
        raise keys.refuse(key, True, "false")
    return False

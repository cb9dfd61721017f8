"""GGUF metadata -> ModelConfig.

Source: llama.cpp, src/models/glm-dsa.cpp, deepseek32.cpp, llama.cpp and its converter; gguf-py, constants.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from longlens.errors import UnsupportedModelError
from longlens.model.config import (
    Architecture,
    ConfigReading,
    GqaConfig,
    IndexerConfig,
    LinearScaling,
    MlaConfig,
    ModelConfig,
    MoeConfig,
    RopeConfig,
    RopeScaling,
    YarnScaling,
)
from longlens.model.config_huggingface import mla_softmax_scale
from longlens.model.config_keys import MOST_LAYERS, KeyReader
from longlens.model.schedule import full_layers_of_frequency

_ARCHITECTURES: dict[str, Architecture] = {"glm-dsa": "glm_moe_dsa", "deepseek32": "deepseek_v32", "llama": "llama"}
# GLM-5.2's schedule, used by llama.cpp too for files that carry no `attention.indexer.types`.
_GLM_5_2_CONTEXT = 1_048_576
_GLM_5_2_FREQUENCY, _GLM_5_2_OFFSET = 4, 3
_SIGMOID_GATING = 2
_WITHOUT_EFFECT = frozenset(
    {
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "rope.scaling.finetuned",
        "rope.dimension_sections",
        "expert_gating_func",
        "attention.layer_norm_epsilon",
        "vocab_size",
    }
)


def read_gguf_config(metadata: Mapping[str, object], tensor_names: Collection[str]) -> ConfigReading:
    """Read a GGUF file's metadata.

    Args:
        metadata: all key-value pairs of the file.
        tensor_names: names of its tensors; their presence says whether embeddings are tied and biases exist.

    Raises:
        UnsupportedModelError: a `general.architecture` that longlens does not run.
        ConfigError: a missing key that changes the mathematics, or a value that is not understood.
    """
    name = metadata.get("general.architecture")
    architecture = _ARCHITECTURES.get(name) if isinstance(name, str) else None
    if architecture is None:
        raise UnsupportedModelError(
            f"general.architecture is {name!r}, which longlens does not run",
            f"it runs {', '.join(_ARCHITECTURES)} (GGUF names)",
        )
    keys = KeyReader(metadata, "GGUF metadata", prefix=f"{name}.")
    read = _read_llama if architecture == "llama" else _read_dsa
    config = read(keys, architecture, tensor_names, _vocab_size(keys, metadata))
    return ConfigReading(config, keys.unknown(_WITHOUT_EFFECT))


def _vocab_size(keys: KeyReader, metadata: Mapping[str, object]) -> int:
    tokens = metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, list | tuple):
        return len(tokens)
    return keys.integer("vocab_size")


def _read_dsa(
    keys: KeyReader, architecture: Architecture, tensor_names: Collection[str], vocab_size: int
) -> ModelConfig:
    blocks = keys.integer("block_count", most=MOST_LAYERS)
    mtp = keys.integer("nextn_predict_layers", default=0, least=0, most=blocks - 1)
    layers = blocks - mtp
    scaling = _rope_scaling(keys)
    rope_dim = keys.integer("rope.dimension_count")
    eps = keys.number("attention.layer_norm_rms_epsilon")
    context = keys.integer("context_length")
    key_length = keys.integer("attention.key_length_mla")
    return ModelConfig(
        architecture=architecture,
        vocab_size=vocab_size,
        hidden_size=keys.integer("embedding_length"),
        intermediate_size=keys.integer("feed_forward_length"),
        num_hidden_layers=layers,
        num_nextn_predict_layers=mtp,
        rms_norm_eps=eps,
        max_position_embeddings=context,
        tie_word_embeddings="output.weight" not in tensor_names,
        rope=RopeConfig(keys.number("rope.freq_base"), rope_dim, is_interleaved=True, scaling=scaling),
        attention=MlaConfig(
            num_attention_heads=keys.integer("attention.head_count"),
            q_lora_rank=keys.integer("attention.q_lora_rank"),
            kv_lora_rank=keys.integer("attention.kv_lora_rank"),
            qk_nope_head_dim=key_length - rope_dim,
            qk_rope_head_dim=rope_dim,
            v_head_dim=keys.integer("attention.value_length_mla"),
            latent_norm_eps=eps,
            softmax_scale=mla_softmax_scale(key_length, scaling),
        ),
        indexer=_indexer(keys, architecture, layers, context),
        moe=_moe(keys, layers),
    )


def _indexer(keys: KeyReader, architecture: Architecture, layers: int, context: int) -> IndexerConfig:
    if keys.has("attention.indexer.types"):
        types = keys.sequence("attention.indexer.types")
        for value in types:
            if not isinstance(value, bool):
                raise keys.refuse("attention.indexer.types", value, "true (full) or false (shared)")
        is_full = tuple(bool(value) for value in types)
    elif architecture == "glm_moe_dsa" and context >= _GLM_5_2_CONTEXT:
        is_full = full_layers_of_frequency(layers, _GLM_5_2_FREQUENCY, _GLM_5_2_OFFSET)
    else:
        is_full = (True,) * layers
    return IndexerConfig(
        index_n_heads=keys.integer("attention.indexer.head_count"),
        index_head_dim=keys.integer("attention.indexer.key_length"),
        index_topk=keys.integer("attention.indexer.top_k"),
        is_rope_interleaved=architecture == "glm_moe_dsa",
        is_full=is_full[:layers] if len(is_full) == layers + 1 else is_full,
    )


def _moe(keys: KeyReader, layers: int) -> MoeConfig:
    gating = keys.integer("expert_gating_func", default=_SIGMOID_GATING)
    if gating != _SIGMOID_GATING:
        raise keys.refuse("expert_gating_func", gating, "2 (sigmoid)")
    dense = keys.integer("leading_dense_block_count", default=0, least=0)
    return MoeConfig(
        n_routed_experts=keys.integer("expert_count"),
        num_experts_per_tok=keys.integer("expert_used_count"),
        n_shared_experts=keys.integer("expert_shared_count", least=0),
        moe_intermediate_size=keys.integer("expert_feed_forward_length"),
        n_group=keys.integer("expert_group_count", default=1),
        topk_group=keys.integer("expert_group_used_count", default=1),
        norm_topk_prob=keys.flag("expert_weights_norm", default=False),
        routed_scaling_factor=keys.number("expert_weights_scale", default=1.0),
        is_sparse=tuple(layer >= dense for layer in range(layers)),
    )


def _read_llama(
    keys: KeyReader, architecture: Architecture, tensor_names: Collection[str], vocab_size: int
) -> ModelConfig:
    heads, hidden = keys.integer("attention.head_count"), keys.integer("embedding_length")
    head_dim = keys.integer("attention.key_length") if keys.has("attention.key_length") else hidden // heads
    return ModelConfig(
        architecture=architecture,
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=keys.integer("feed_forward_length"),
        num_hidden_layers=keys.integer("block_count", most=MOST_LAYERS),
        num_nextn_predict_layers=0,
        rms_norm_eps=keys.number("attention.layer_norm_rms_epsilon"),
        max_position_embeddings=keys.integer("context_length"),
        tie_word_embeddings="output.weight" not in tensor_names,
        rope=RopeConfig(
            theta=keys.number("rope.freq_base", default=10000.0),
            dim=keys.integer("rope.dimension_count", default=head_dim),
            # llama.cpp's converter reorders the rows of q and k, which turns half-split rotary into pairs.
            is_interleaved=True,
            scaling=_rope_scaling(keys),
            has_factor_tensor="rope_freqs.weight" in tensor_names,
        ),
        attention=GqaConfig(
            num_attention_heads=heads,
            num_key_value_heads=keys.integer("attention.head_count_kv", default=heads),
            head_dim=head_dim,
            attention_bias="blk.0.attn_q.bias" in tensor_names,
        ),
        mlp_bias="blk.0.ffn_gate.bias" in tensor_names,
    )


def _rope_scaling(keys: KeyReader) -> RopeScaling | None:
    kind = keys.choice("rope.scaling.type", ("none", "linear", "yarn"), default="none")
    if kind == "none":
        return None
    factor = keys.number("rope.scaling.factor")
    if kind == "linear":
        return LinearScaling(factor)
    # The converter writes 0.1 * mscale_all_dim here and drops mscale; in every released model the two are equal.
    mscale = keys.number("rope.scaling.yarn_log_multiplier", default=0.0, may_be_zero=True) / 0.1
    if keys.has("rope.scaling.yarn_ext_factor") and keys.number("rope.scaling.yarn_ext_factor") != 1.0:
        raise keys.refuse("rope.scaling.yarn_ext_factor", keys.value("rope.scaling.yarn_ext_factor"), "1.0")
    attention_factor = "rope.scaling.yarn_attn_factor"
    return YarnScaling(
        factor=factor,
        original_max_position_embeddings=keys.integer("rope.scaling.original_context_length"),
        beta_fast=keys.number("rope.scaling.yarn_beta_fast", default=32.0),
        beta_slow=keys.number("rope.scaling.yarn_beta_slow", default=1.0),
        mscale=mscale,
        mscale_all_dim=mscale,
        attention_factor=keys.number(attention_factor) if keys.has(attention_factor) else None,
    )

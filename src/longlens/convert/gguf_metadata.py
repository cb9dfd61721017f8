"""A model's configuration as GGUF metadata, under the names that llama.cpp reads for glm-dsa.

Source: llama.cpp, src/models/glm-dsa.cpp and conversion/glm.py; `longlens.model.config_gguf` is the way back.
"""

from __future__ import annotations

from longlens.convert.gguf_writer import MetadataValue
from longlens.errors import UnsupportedModelError
from longlens.model.config import IndexerConfig, MlaConfig, ModelConfig, MoeConfig

ARCHITECTURE = "glm-dsa"
_SIGMOID_GATING = 2


def metadata_of_config(config: ModelConfig) -> dict[str, MetadataValue]:
    """Return everything that the model's mathematics depends on, keys in llama.cpp's spelling.

    Raises:
        UnsupportedModelError: not glm_moe_dsa, or a configuration that this layout cannot say.
    """
    attention, indexer, moe = config.attention, config.indexer, config.moe
    if config.architecture != "glm_moe_dsa" or not isinstance(attention, MlaConfig) or indexer is None or moe is None:
        raise UnsupportedModelError(
            f"{config.architecture} cannot be written as GGUF", "longlens writes glm_moe_dsa; use llama.cpp's converter"
        )
    if config.rope.scaling is not None:
        raise UnsupportedModelError(
            "a scaled rotary embedding cannot be written as GGUF", "use llama.cpp's converter for this model"
        )
    keys = _trunk(config) | _attention(config, attention) | _indexer(indexer) | _experts(moe)
    return {f"{ARCHITECTURE}.{key}": value for key, value in keys.items()}


def _trunk(config: ModelConfig) -> dict[str, MetadataValue]:
    return {
        "block_count": config.num_hidden_layers + config.num_nextn_predict_layers,
        "nextn_predict_layers": config.num_nextn_predict_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "vocab_size": config.vocab_size,
    }


def _attention(config: ModelConfig, attention: MlaConfig) -> dict[str, MetadataValue]:
    return {
        "attention.head_count": attention.num_attention_heads,
        # One latent is cached for all heads: multi-query attention, as far as a cache is concerned.
        "attention.head_count_kv": 1,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "attention.q_lora_rank": attention.q_lora_rank,
        "attention.kv_lora_rank": attention.kv_lora_rank,
        "attention.key_length": attention.latent_width,
        "attention.value_length": attention.kv_lora_rank,
        "attention.key_length_mla": attention.qk_head_dim,
        "attention.value_length_mla": attention.v_head_dim,
        "rope.dimension_count": config.rope.dim,
        "rope.freq_base": float(config.rope.theta),
    }


def _indexer(indexer: IndexerConfig) -> dict[str, MetadataValue]:
    return {
        "attention.indexer.head_count": indexer.index_n_heads,
        "attention.indexer.key_length": indexer.index_head_dim,
        "attention.indexer.top_k": indexer.index_topk,
        "attention.indexer.types": indexer.is_full,
    }


def _experts(moe: MoeConfig) -> dict[str, MetadataValue]:
    num_dense = sum(not sparse for sparse in moe.is_sparse)
    if any(sparse != (layer >= num_dense) for layer, sparse in enumerate(moe.is_sparse)):
        raise UnsupportedModelError(
            "dense layers behind sparse ones cannot be written as GGUF", "only leading layers may be dense"
        )
    return {
        "leading_dense_block_count": num_dense,
        "expert_count": moe.n_routed_experts,
        "expert_used_count": moe.num_experts_per_tok,
        "expert_shared_count": moe.n_shared_experts,
        "expert_feed_forward_length": moe.moe_intermediate_size,
        "expert_group_count": moe.n_group,
        "expert_group_used_count": moe.topk_group,
        "expert_gating_func": _SIGMOID_GATING,
        "expert_weights_scale": float(moe.routed_scaling_factor),
        "expert_weights_norm": moe.norm_topk_prob,
    }

"""Which parameters a model wants, by name, shape and precision. The sum of the shapes is the model's size.

Source: transformers, modeling_glm_moe_dsa.py, modeling_deepseek_v32.py, modeling_llama.py; the released checkpoints'
headers for the multi-token prediction layer.
"""

from __future__ import annotations

from collections.abc import Iterator

from longlens.model.config import GqaConfig, IndexerConfig, MlaConfig, ModelConfig, MoeConfig
from longlens.weights.parameters import ParameterNeed


def parameter_needs(config: ModelConfig) -> tuple[ParameterNeed, ...]:
    """List every parameter of a model, embedding first, the multi-token prediction layer last."""
    return tuple(_needs(config))


def num_parameters(config: ModelConfig) -> int:
    """Weights of the model, those of the multi-token prediction layer included."""
    return sum(need.num_elements for need in parameter_needs(config))


def _needs(config: ModelConfig) -> Iterator[ParameterNeed]:
    hidden = config.hidden_size
    yield ParameterNeed("model.embed_tokens.weight", (config.vocab_size, hidden))
    if config.rope.has_factor_tensor:
        yield ParameterNeed("model.rope_freqs", (config.rope.dim // 2,), "fp32")
    for layer in range(config.num_hidden_layers):
        yield from _layer_needs(config, layer, f"model.layers.{layer}.")
    yield ParameterNeed("model.norm.weight", (hidden,))
    if not config.tie_word_embeddings:
        yield ParameterNeed("lm_head.weight", (config.vocab_size, hidden))
    for layer in range(config.num_hidden_layers, config.num_hidden_layers + config.num_nextn_predict_layers):
        yield from _mtp_needs(config, f"model.layers.{layer}.")


def _layer_needs(config: ModelConfig, layer: int, prefix: str) -> Iterator[ParameterNeed]:
    yield ParameterNeed(f"{prefix}input_layernorm.weight", (config.hidden_size,))
    if isinstance(config.attention, MlaConfig):
        yield from _mla_needs(config.attention, config.hidden_size, f"{prefix}self_attn.")
        # Layers past the decoder's (the multi-token prediction layer) own an indexer.
        if config.indexer is not None and (layer >= config.num_hidden_layers or config.indexer.is_full[layer]):
            indexer_prefix = f"{prefix}self_attn.indexer."
            yield from _indexer_needs(config.indexer, config.hidden_size, config.attention.q_lora_rank, indexer_prefix)
    else:
        yield from _gqa_needs(config.attention, config.hidden_size, f"{prefix}self_attn.")
    yield ParameterNeed(f"{prefix}post_attention_layernorm.weight", (config.hidden_size,))
    if config.moe is not None and (layer >= config.num_hidden_layers or config.moe.is_sparse[layer]):
        yield from _moe_needs(config.moe, config.hidden_size, f"{prefix}mlp.")
    else:
        yield from _feed_forward_needs(config, config.intermediate_size, f"{prefix}mlp.")


def _mla_needs(mla: MlaConfig, hidden: int, prefix: str) -> Iterator[ParameterNeed]:
    heads = mla.num_attention_heads
    yield ParameterNeed(f"{prefix}q_a_proj.weight", (mla.q_lora_rank, hidden))
    yield ParameterNeed(f"{prefix}q_a_layernorm.weight", (mla.q_lora_rank,))
    yield ParameterNeed(f"{prefix}q_b_proj.weight", (heads * mla.qk_head_dim, mla.q_lora_rank))
    yield ParameterNeed(f"{prefix}kv_a_proj_with_mqa.weight", (mla.latent_width, hidden))
    yield ParameterNeed(f"{prefix}kv_a_layernorm.weight", (mla.kv_lora_rank,))
    yield ParameterNeed(f"{prefix}kv_b_proj.key", (heads, mla.qk_nope_head_dim, mla.kv_lora_rank))
    yield ParameterNeed(f"{prefix}kv_b_proj.value", (heads, mla.v_head_dim, mla.kv_lora_rank))
    yield ParameterNeed(f"{prefix}o_proj.weight", (hidden, heads * mla.v_head_dim))


def _indexer_needs(indexer: IndexerConfig, hidden: int, rank: int, prefix: str) -> Iterator[ParameterNeed]:
    width = indexer.index_head_dim
    yield ParameterNeed(f"{prefix}wq_b.weight", (indexer.index_n_heads * width, rank))
    yield ParameterNeed(f"{prefix}wk.weight", (width, hidden))
    yield ParameterNeed(f"{prefix}k_norm.weight", (width,))
    yield ParameterNeed(f"{prefix}k_norm.bias", (width,))
    yield ParameterNeed(f"{prefix}weights_proj.weight", (indexer.index_n_heads, hidden), "fp32")


def _gqa_needs(gqa: GqaConfig, hidden: int, prefix: str) -> Iterator[ParameterNeed]:
    queries = gqa.num_attention_heads * gqa.head_dim
    keys = gqa.num_key_value_heads * gqa.head_dim
    shapes = {"q": (queries, hidden), "k": (keys, hidden), "v": (keys, hidden), "o": (hidden, queries)}
    for name, shape in shapes.items():
        yield ParameterNeed(f"{prefix}{name}_proj.weight", shape)
        if gqa.attention_bias:
            yield ParameterNeed(f"{prefix}{name}_proj.bias", shape[:1])


def _feed_forward_needs(config: ModelConfig, width: int, prefix: str) -> Iterator[ParameterNeed]:
    hidden = config.hidden_size
    for name, shape in (("gate", (width, hidden)), ("up", (width, hidden)), ("down", (hidden, width))):
        yield ParameterNeed(f"{prefix}{name}_proj.weight", shape)
        if config.mlp_bias:
            yield ParameterNeed(f"{prefix}{name}_proj.bias", shape[:1])


def _moe_needs(moe: MoeConfig, hidden: int, prefix: str) -> Iterator[ParameterNeed]:
    experts, width = moe.n_routed_experts, moe.moe_intermediate_size
    yield ParameterNeed(f"{prefix}gate.weight", (experts, hidden), "fp32")
    yield ParameterNeed(f"{prefix}gate.e_score_correction_bias", (experts,), "fp32")
    yield ParameterNeed(f"{prefix}experts.gate_proj.weight", (experts, width, hidden))
    yield ParameterNeed(f"{prefix}experts.up_proj.weight", (experts, width, hidden))
    yield ParameterNeed(f"{prefix}experts.down_proj.weight", (experts, hidden, width))
    if moe.n_shared_experts:
        shared = width * moe.n_shared_experts
        yield ParameterNeed(f"{prefix}shared_experts.gate_proj.weight", (shared, hidden))
        yield ParameterNeed(f"{prefix}shared_experts.up_proj.weight", (shared, hidden))
        yield ParameterNeed(f"{prefix}shared_experts.down_proj.weight", (hidden, shared))


def _mtp_needs(config: ModelConfig, prefix: str) -> Iterator[ParameterNeed]:
    hidden = config.hidden_size
    extras = (
        ParameterNeed(f"{prefix}enorm.weight", (hidden,)),
        ParameterNeed(f"{prefix}hnorm.weight", (hidden,)),
        ParameterNeed(f"{prefix}eh_proj.weight", (hidden, 2 * hidden)),
        ParameterNeed(f"{prefix}shared_head.norm.weight", (hidden,)),
    )
    for need in (*extras, *_layer_needs(config, config.num_hidden_layers, prefix)):
        yield ParameterNeed(need.name, need.shape, need.precision, is_run=False)

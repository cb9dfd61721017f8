"""Counts the arithmetic of a token, by its place in the sequence and by the kind of attention.

A multiply-add counts as two. Counted are the products with weight matrices, the core of attention (scores and weighted
sum) and the indexer's scoring. Not counted are norms, rotary, softmax, the choice of top-k and the router's ranking:
together they stay far below a thousandth. The multi-token prediction layer is not run and not counted.

Source: DeepSeek-V3.2 for the indexer's scoring; the absorbed form of latent attention as in FlashMLA.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from longlens.errors import UsageError
from longlens.model.config import GqaConfig, IndexerConfig, MlaConfig, ModelConfig
from longlens.model.needs import parameter_needs

AttentionKind = Literal["gqa", "dense_mla", "dsa_every_layer", "index_share"]
AttentionForm = Literal["absorbed", "expanded"]
ATTENTION_KINDS: tuple[AttentionKind, ...] = ("gqa", "dense_mla", "dsa_every_layer", "index_share")

# The grouped-query model that a latent one is compared with: common in models of this size.
COMPARED_KV_HEADS = 8
COMPARED_HEAD_DIM = 128


@dataclass(frozen=True)
class Flops:
    """Floating-point operations, multiply and add counted apart.

    Attributes:
        linear: products with weight matrices, the output head included.
        attention: scores of attended tokens and the weighted sum of their rows.
        indexer: scoring of every visible token on the full layers.
    """

    linear: int
    attention: int
    indexer: int

    @property
    def total(self) -> int:
        """All three together."""
        return self.linear + self.attention + self.indexer


FlopsPerToken = Flops


def own_attention(config: ModelConfig) -> AttentionKind:
    """The kind of attention that a checkpoint has."""
    if isinstance(config.attention, GqaConfig):
        return "gqa"
    return "dense_mla" if config.indexer is None else "index_share"


def attention_kinds(config: ModelConfig) -> tuple[AttentionKind, ...]:
    """The kinds that can be counted for a model: a grouped-query model has its own only."""
    if isinstance(config.attention, GqaConfig):
        return ("gqa",)
    return ATTENTION_KINDS if config.indexer is not None else ("gqa", "dense_mla")


def flops_per_token(
    config: ModelConfig,
    position: int,
    *,
    attention: AttentionKind | None = None,
    form: AttentionForm = "absorbed",
) -> FlopsPerToken:
    """Count the operations of one token at a position, counted from 0: it sees position + 1 tokens.

    Args:
        config: the model.
        position: the token's place in its sequence.
        attention: the model's own kind if None. "gqa" of a latent model is one with the same layers, hidden size and
            matrices (its linear part is that of the latent model without an indexer), as many query heads of 128 as
            the model has heads, and 8 key-value heads of 128. "dsa_every_layer" has an indexer on every layer.
        form: how latent attention is computed; grouped-query attention has one form.

    Raises:
        UsageError: a negative position, or a kind that the model's geometry does not define.
    """
    if position < 0:
        raise UsageError(f"position {position} is before the first token", "positions count from 0")
    kind = _checked_kind(config, attention)
    seen = position + 1
    return Flops(
        linear=linear_flops(config, attention=kind),
        attention=_core_flops_per_row(config, kind, form) * _attended(config, kind, seen),
        indexer=_scoring_flops_per_row(config, kind) * seen,
    )


def prefill_flops(
    config: ModelConfig,
    prompt_tokens: int,
    *,
    first_position: int = 0,
    attention: AttentionKind | None = None,
    form: AttentionForm = "absorbed",
    has_every_logit: bool = False,
) -> Flops:
    """Count the operations of reading a prompt, in closed form.

    Args:
        config: the model.
        prompt_tokens: tokens that are read.
        first_position: position of the first of them; what stands before is in the cache.
        attention: as in `flops_per_token`.
        form: as in `flops_per_token`.
        has_every_logit: the output head runs for every token; otherwise for the last one only, as a prefill does.

    Returns:
        The sum of `flops_per_token` over the positions, less the output heads that are not run.

    Raises:
        UsageError: a negative count, or a kind that the model's geometry does not define.
    """
    if prompt_tokens < 0 or first_position < 0:
        raise UsageError(f"{prompt_tokens} tokens from position {first_position} on", "neither may be negative")
    kind = _checked_kind(config, attention)
    end = first_position + prompt_tokens
    heads = prompt_tokens if has_every_logit else min(prompt_tokens, 1)
    body = linear_flops(config, attention=kind) - head_flops(config)
    attended = _attended_until(config, kind, end) - _attended_until(config, kind, first_position)
    return Flops(
        linear=body * prompt_tokens + head_flops(config) * heads,
        attention=_core_flops_per_row(config, kind, form) * attended,
        indexer=_scoring_flops_per_row(config, kind) * (_triangle(end) - _triangle(first_position)),
    )


def head_flops(config: ModelConfig) -> int:
    """Operations of the output head for one token."""
    return 2 * config.vocab_size * config.hidden_size


def linear_flops(config: ModelConfig, *, attention: AttentionKind | None = None) -> int:
    """Operations with weight matrices for one token; they do not depend on its position.

    Of the routed experts those that a token is sent to are counted. Both forms of latent attention multiply every
    token with `kv_b_proj` once.
    """
    kind = _checked_kind(config, attention)
    total = head_flops(config)
    for need in parameter_needs(config):
        name = need.name
        # Vectors (norms, biases) are added, not multiplied; the embedding is looked up; the head is counted above.
        if len(need.shape) < 2 or not need.is_run or name in ("model.embed_tokens.weight", "lm_head.weight"):
            continue
        if ".self_attn.indexer." in name:
            continue  # counted below by the layers that this kind gives one
        elements = need.num_elements
        if config.moe is not None and ".mlp.experts." in name:
            elements = elements // config.moe.n_routed_experts * config.moe.num_experts_per_tok
        total += 2 * elements
    return total + num_indexers(config, kind) * indexer_projection_flops(config)


def num_indexers(config: ModelConfig, kind: AttentionKind) -> int:
    """Layers that score the visible tokens."""
    if config.indexer is None or kind in ("gqa", "dense_mla"):
        return 0
    return config.num_hidden_layers if kind == "dsa_every_layer" else len(config.indexer.full_layers)


def indexer_projection_flops(config: ModelConfig) -> int:
    """Operations of one indexer's three matrices for one token; 0 for a model without an indexer."""
    if config.indexer is None or not isinstance(config.attention, MlaConfig):
        return 0
    heads, width = config.indexer.index_n_heads, config.indexer.index_head_dim
    queries = heads * width * config.attention.q_lora_rank
    return 2 * (queries + width * config.hidden_size + heads * config.hidden_size)


def scoring_flops_per_row(indexer: IndexerConfig, *, has_head_sum: bool = True) -> int:
    """Operations with which one indexer scores one visible token.

    Args:
        indexer: its heads and their width.
        has_head_sum: the weighted sum over heads is counted beside the dot products.
    """
    products = 2 * indexer.index_n_heads * indexer.index_head_dim
    return products + (2 * indexer.index_n_heads if has_head_sum else 0)


def _scoring_flops_per_row(config: ModelConfig, kind: AttentionKind) -> int:
    return 0 if config.indexer is None else num_indexers(config, kind) * scoring_flops_per_row(config.indexer)


def _core_flops_per_row(config: ModelConfig, kind: AttentionKind, form: AttentionForm) -> int:
    """Operations of all layers and heads for one attended token: its score and its part of the sum."""
    attention = config.attention
    heads = config.num_hidden_layers * attention.num_attention_heads
    if isinstance(attention, GqaConfig):
        return heads * 4 * attention.head_dim
    if kind == "gqa":
        return heads * 4 * COMPARED_HEAD_DIM
    if form == "absorbed":
        return heads * 2 * (attention.latent_width + attention.kv_lora_rank)
    return heads * 2 * (attention.qk_head_dim + attention.v_head_dim)


def _attended(config: ModelConfig, kind: AttentionKind, seen: int) -> int:
    return min(seen, config.indexer.index_topk) if config.indexer and num_indexers(config, kind) else seen


def _attended_until(config: ModelConfig, kind: AttentionKind, end: int) -> int:
    """Attended tokens of positions 0..end-1 together."""
    if config.indexer is None or not num_indexers(config, kind):
        return _triangle(end)
    topk = config.indexer.index_topk
    return _triangle(min(end, topk)) + max(0, end - topk) * topk


def _triangle(count: int) -> int:
    return count * (count + 1) // 2


def _checked_kind(config: ModelConfig, attention: AttentionKind | None) -> AttentionKind:
    if attention is None:
        return own_attention(config)
    kinds = attention_kinds(config)
    if attention not in kinds:
        raise UsageError(
            f"attention {attention!r} is not defined for a {config.architecture} model of this geometry",
            f"choose {' or '.join(kinds)}",
        )
    return attention

"""What a step allocates beside weights and cache, counted from what the plain kernels do.

A layer holds the rows of a chunk in a few forms at once; attention, the indexer and the experts work on tiles that keep
each operation near `TILE_BYTES`, whatever the context.

Source: kernels/reference.py, model/mla.py, model/gqa.py, model/indexer.py, model/experts.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from longlens.model.config import GqaConfig, IndexerConfig, MlaConfig, ModelConfig, MoeConfig
from longlens.model.state import ELEMENT_BYTES
from longlens.plan.plan import ComputeElement
from longlens.units import MIB

# kernels.reference.SCRATCH_BYTES, which a plan cannot import without torch; a test holds them together.
TILE_BYTES = 3 * MIB
# Measured on one processor (500 shapes): what oneDNN keeps for each shape of product that it has compiled, and how many
# of them at most.
_COMPILED_BYTES, _MOST_COMPILED = round(0.64 * MIB), 1024
# Token counts of experts that differ, as a multiple of the mean count.
_SPREAD = 1.8
_WIDE, _POSITION = 4, 4
_KEY_TILE = 4096


@dataclass(frozen=True)
class StepShape:
    """The largest step of a run.

    Attributes:
        chunk_tokens: tokens that are computed.
        context: tokens that are cached at most, these included.
        num_sequences: sequences of that length.
        compute_element: of weights and activations.
        cache_element_bytes: bytes of a cached value as it is gathered.
        gather_above_tokens: cached tokens above which attention gathers rows; None: never.
    """

    chunk_tokens: int
    context: int
    num_sequences: int
    compute_element: ComputeElement
    cache_element_bytes: int
    gather_above_tokens: int | None

    @property
    def value_bytes(self) -> int:
        """Bytes of an activation."""
        return ELEMENT_BYTES[self.compute_element]

    @property
    def is_narrow(self) -> bool:
        """Whether reductions need wider copies."""
        return self.value_bytes < _WIDE


def scratch_bytes(config: ModelConfig, step: StepShape) -> int:
    """The most that a step holds at once beside weights and cache: the greediest part of a layer, or the logits."""
    tokens = step.chunk_tokens
    attention = config.attention
    if isinstance(attention, GqaConfig):
        parts = [_grouped_attention(attention, step)]
    else:
        parts = [_latent_attention(config, attention, step)]
        if config.indexer is not None:
            parts.append(_indexer(config, attention, config.indexer, step))
    if config.moe is not None:
        parts.append(_experts(config, config.moe, step))
    parts.append(_feed_forward(config.intermediate_size, step))
    # The residual stream, its sum and the rows after the norm stay while a part works, and so do the angles of the
    # rotary and the positions that the last full layer chose; slots say where rows lie, twice as many as they grow.
    held = 3 * tokens * config.hidden_size * step.value_bytes + tokens * config.rope.dim * _WIDE
    slots = 2 * 8 * step.context * step.num_sequences
    return max(held + _positions(config, step) + max(parts), _logits(config, step)) + slots


def compiled_products_bytes(config: ModelConfig, step: StepShape) -> int:
    """What oneDNN keeps for 16-bit products, on a processor: every number of tokens an expert gets is a new shape.

    An expert has two shapes of product: gate and up share one.
    """
    if not step.is_narrow or config.moe is None:
        return 0
    chunks = -(-step.context // step.chunk_tokens)
    experts = config.moe.n_routed_experts
    draws = chunks * sum(config.moe.is_sparse) * experts
    mean = step.chunk_tokens * config.moe.num_experts_per_tok / experts
    return min(_MOST_COMPILED, 2 * min(draws, round(_SPREAD * mean))) * _COMPILED_BYTES


def _positions(config: ModelConfig, step: StepShape) -> int:
    """Bytes of one full layer's choice for every token of a step."""
    if config.indexer is None:
        return 0
    return step.chunk_tokens * min(config.indexer.index_topk, step.context) * _POSITION


def _grouped_attention(gqa: GqaConfig, step: StepShape) -> int:
    tokens, context = step.chunk_tokens, step.context
    queries = tokens * gqa.num_attention_heads * gqa.head_dim
    keys = tokens * gqa.num_key_value_heads * gqa.head_dim
    projected = (2 * queries + 2 * keys) * step.value_bytes
    # Keys and values are repeated for every head, in fp32, all positions of them.
    repeated = 2 * context * (gqa.num_attention_heads + gqa.num_key_value_heads) * gqa.head_dim * _WIDE
    gathered = context * gqa.num_key_value_heads * gqa.head_dim * step.cache_element_bytes
    widened = (2 * queries * _WIDE) if step.is_narrow else queries * _WIDE
    tile = _tile(gqa.num_attention_heads * context * 2 * _WIDE, tokens)
    return projected + repeated + gathered + widened + tile


def _latent_attention(config: ModelConfig, mla: MlaConfig, step: StepShape) -> int:
    tokens = step.chunk_tokens
    heads = mla.num_attention_heads
    queries = tokens * (mla.q_lora_rank + heads * (mla.qk_head_dim + mla.qk_rope_head_dim)) * step.value_bytes
    out = tokens * heads * mla.v_head_dim * step.value_bytes
    wide = (out * _WIDE // step.value_bytes) if step.is_narrow else 0
    up = heads * mla.kv_lora_rank * (mla.qk_nope_head_dim + mla.v_head_dim) * _WIDE if step.is_narrow else 0
    threshold = step.gather_above_tokens
    dense_context = step.context if threshold is None else min(step.context, threshold)
    rows = dense_context * mla.latent_width * _WIDE * 2
    dense = rows + 2 * _tile(heads * dense_context * 2 * _WIDE, tokens)
    sparse = 0
    if threshold is not None and step.context > threshold and config.indexer is not None:
        row = mla.latent_width * (step.cache_element_bytes + _WIDE) + 2 * _WIDE * heads
        sparse = 2 * _tile(config.indexer.index_topk * row + 2 * _WIDE * heads * mla.latent_width, tokens)
    return queries + out + wide + up + max(dense, sparse)


def _indexer(config: ModelConfig, mla: MlaConfig, indexer: IndexerConfig, step: StepShape) -> int:
    tokens = step.chunk_tokens
    queries = tokens * (mla.q_lora_rank + mla.num_attention_heads * mla.qk_head_dim) * step.value_bytes
    own = tokens * indexer.index_n_heads * (2 * indexer.index_head_dim * step.value_bytes + _WIDE)
    wide = tokens * config.hidden_size * _WIDE if step.is_narrow else 0
    keys = min(_KEY_TILE, step.context)
    row = indexer.index_n_heads * keys * _WIDE + (min(indexer.index_topk, step.context) + _KEY_TILE) * 32
    return queries + own + wide + _positions(config, step) + _tile(row, tokens)


def _experts(config: ModelConfig, moe: MoeConfig, step: StepShape) -> int:
    tokens, hidden = step.chunk_tokens, config.hidden_size
    routed = tokens * moe.n_routed_experts * 3 * _WIDE
    # At worst every token goes to the same experts: one expert's rows, and the sum of all, in fp32.
    one = tokens * (3 * moe.moe_intermediate_size + 2 * hidden) * step.value_bytes + tokens * hidden * _WIDE
    return tokens * hidden * _WIDE + routed + one


def _feed_forward(width: int, step: StepShape) -> int:
    """Gate, its SiLU, up, and their product."""
    return 4 * step.chunk_tokens * width * step.value_bytes


def _logits(config: ModelConfig, step: StepShape) -> int:
    """Rows that are sampled from: computed, split, and kept by each sequence."""
    return 4 * step.num_sequences * config.vocab_size * _WIDE


def _tile(bytes_per_token: int, tokens: int) -> int:
    """A tile's bytes: at most `TILE_BYTES`, but for one token at least; rounded up, so that more is never less."""
    return min(tokens * bytes_per_token, max(TILE_BYTES, bytes_per_token))

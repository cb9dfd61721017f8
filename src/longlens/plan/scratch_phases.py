"""The blocks of memory that a step holds at once, in each part of a layer, counted from what the kernels do.

Attention, the indexer and the experts work on tiles that keep each operation near `TILE_BYTES`, whatever the context.

Source: kernels/reference.py, kernels/attention_inputs.py, model/layer.py, mla.py, gqa.py, indexer.py, experts.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from longlens.model.config import GqaConfig, IndexerConfig, MlaConfig, ModelConfig, MoeConfig
from longlens.model.state import ELEMENT_BYTES
from longlens.plan.packed import NativeWeights
from longlens.plan.plan import ComputeElement
from longlens.units import MIB

# kernels.reference.SCRATCH_BYTES, which a plan cannot import without torch; a test holds them together.
TILE_BYTES = 3 * MIB
_WIDE, _POSITION = 4, 4
_KEY_TILE = 4096

Blocks = list[int]


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
        native: weights of a run with C++ kernels; None with plain ones.
    """

    chunk_tokens: int
    context: int
    num_sequences: int
    compute_element: ComputeElement
    cache_element_bytes: int
    gather_above_tokens: int | None
    native: NativeWeights | None = None

    @property
    def value_bytes(self) -> int:
        """Bytes of an activation."""
        return ELEMENT_BYTES[self.compute_element]

    @property
    def is_narrow(self) -> bool:
        """Whether reductions need wider copies."""
        return self.value_bytes < _WIDE

    def rows(self, width: int) -> int:
        """Bytes of activations of this width."""
        return self.chunk_tokens * width * self.value_bytes

    def wide_rows(self, width: int) -> int:
        """Bytes of fp32 rows of this width."""
        return self.chunk_tokens * width * _WIDE


def layer_phases(config: ModelConfig, step: StepShape) -> Iterator[Blocks]:
    """List the blocks of each part of a layer."""
    stream = step.rows(config.hidden_size)
    angles = 2 * [step.wide_rows(config.rope.dim) // 2]
    # The residual stream and the rows after the norm; positions that the last full layer chose.
    held = [stream, stream, *angles, *_positions(config, step)]
    attention = config.attention
    if isinstance(attention, GqaConfig):
        parts = _grouped_attention(attention, step)
    else:
        parts = _latent_attention(config, attention, step)
    for blocks in parts:
        yield held + blocks
    # From here on the layer's input is held beside the sum.
    held = [stream, *held]
    yield held + _feed_forward(config, config.intermediate_size, step)
    if config.moe is not None:
        for blocks in _experts(config, config.moe, step):
            yield held + blocks


def _positions(config: ModelConfig, step: StepShape) -> Blocks:
    """One full layer's choice for every token of a step."""
    if config.indexer is None:
        return []
    return [step.chunk_tokens * min(config.indexer.index_topk, step.context) * _POSITION]


def _rotation(width: int, step: StepShape) -> Blocks:
    """Two results of half the width, of two products each, put together."""
    blocks = 4 * [step.wide_rows(width) // 2]
    return blocks + 2 * [step.wide_rows(width) // 2] if step.is_narrow else blocks


def _product(width: int, rows: int, step: StepShape) -> Blocks:
    """Rows of `width` times a matrix of `rows`; the C++ kernels compute in fp32."""
    if step.native is not None and step.is_narrow:
        return [step.wide_rows(width), step.wide_rows(rows), step.rows(rows)]
    return [step.rows(rows)]


def _grouped_attention(gqa: GqaConfig, step: StepShape) -> Iterator[Blocks]:
    context, heads, groups, width = step.context, gqa.num_attention_heads, gqa.num_key_value_heads, gqa.head_dim
    queries, keys = step.rows(heads * width), step.rows(groups * width)
    yield [queries, queries, *_rotation(heads * width, step)]
    projected = [queries, keys, keys]
    # Keys and values are gathered, and repeated for every head in fp32, all positions of them.
    stored = 2 * [context * groups * width * _WIDE]
    gathered = [context * groups * width * step.cache_element_bytes] if step.cache_element_bytes < _WIDE else []
    repeated = 2 * [context * heads * width * _WIDE]
    # Those of the step before were smaller, so that these do not fit where they lay; expanded weights leave the heap
    # with room for them.
    before = 0 if step.native is None else max(0, context - step.chunk_tokens)
    outgrown = 2 * [before * heads * width * _WIDE]
    wide = [step.wide_rows(heads * width)] if step.is_narrow else []
    out = step.wide_rows(heads * width)
    tile = _tile(heads * context * 2 * _WIDE, step.chunk_tokens)
    yield [*projected, *gathered, *stored, *repeated, *outgrown, *wide, out, tile // 2, tile // 2]
    yield [*projected, queries, out]


def _latent_attention(config: ModelConfig, mla: MlaConfig, step: StepShape) -> Iterator[Blocks]:
    heads, rank, rope = mla.num_attention_heads, mla.kv_lora_rank, mla.qk_rope_head_dim
    latent, query = step.rows(mla.q_lora_rank), step.rows(heads * mla.qk_head_dim)
    turned, rows = step.rows(heads * rope), step.rows(mla.latent_width)
    yield [latent, *_product(mla.q_lora_rank, heads * mla.qk_head_dim, step)]
    yield [latent, query, *_rotation(heads * rope, step)]
    yield [latent, query, turned, rows, step.rows(rank), rows]
    inputs = [latent, query, turned, rows]
    if config.indexer is not None:
        for blocks in _indexer(config, config.indexer, rope, step):
            yield inputs + blocks
    is_widened = step.is_narrow or (step.native is not None and step.native.has_packed_up)
    up = [heads * rank * width * _WIDE for width in (mla.qk_nope_head_dim, mla.v_head_dim)] if is_widened else []
    out = step.rows(heads * mla.v_head_dim)
    for blocks in _attended(config, mla, step):
        yield [*inputs, *up, *blocks]
    yield [*inputs, out, out]
    yield [*inputs, out, *_product(heads * mla.v_head_dim, config.hidden_size, step)]


def _attended(config: ModelConfig, mla: MlaConfig, step: StepShape) -> Iterator[Blocks]:
    heads, tokens = mla.num_attention_heads, step.chunk_tokens
    out = step.wide_rows(heads * mla.v_head_dim)
    threshold = step.gather_above_tokens
    context = step.context if threshold is None else min(step.context, threshold)
    tile = _tile(heads * context * 2 * _WIDE, tokens)
    yield [*(2 * [context * mla.latent_width * _WIDE]), out, tile, tile]
    if threshold is not None and step.context > threshold and config.indexer is not None:
        row = mla.latent_width * (step.cache_element_bytes + _WIDE) + 2 * _WIDE * heads
        tile = _tile(config.indexer.index_topk * row + 2 * _WIDE * heads * mla.latent_width, tokens)
        yield [step.rows(heads * mla.v_head_dim), tile, tile]


def _indexer(config: ModelConfig, indexer: IndexerConfig, rope: int, step: StepShape) -> Iterator[Blocks]:
    heads, width = indexer.index_n_heads, indexer.index_head_dim
    query, key, head_weights = step.rows(heads * width), step.rows(width), step.wide_rows(heads)
    wide = [step.wide_rows(config.hidden_size)] if step.is_narrow else []
    yield [*_product(config.hidden_size, heads * width, step), key, head_weights, *wide]
    yield [query, key, head_weights, *_rotation(heads * rope, step), query]
    yield [query, query, key, key, head_weights]
    keys = min(_KEY_TILE, step.context)
    row = heads * keys * _WIDE + (min(indexer.index_topk, step.context) + _KEY_TILE) * 32
    yield [query, key, head_weights, *_positions(config, step), _tile(row, step.chunk_tokens)]


def _experts(config: ModelConfig, moe: MoeConfig, step: StepShape) -> Iterator[Blocks]:
    tokens, hidden = step.chunk_tokens, config.hidden_size
    yield 3 * [step.wide_rows(moe.n_routed_experts)]
    chosen = [tokens * moe.num_experts_per_tok * 2 * _WIDE, tokens * moe.num_experts_per_tok * _WIDE]
    total = step.wide_rows(hidden)
    if step.native is not None and step.native.experts is not None:
        yield [*chosen, total, *((total, step.rows(hidden)) if step.is_narrow else ())]
    else:
        # At worst every token goes to the same experts: one expert's rows, its result, and that with its weights.
        yield [*chosen, total, step.rows(hidden), *_feed_forward(config, moe.moe_intermediate_size, step), total]
    if moe.n_shared_experts:
        width = moe.moe_intermediate_size * moe.n_shared_experts
        yield [*chosen, step.rows(hidden), *_feed_forward(config, width, step), step.rows(hidden)]


def _feed_forward(config: ModelConfig, width: int, step: StepShape) -> Blocks:
    """Gate, which becomes the product where it lies, up, and the result."""
    result = step.rows(config.hidden_size)
    if step.native is not None and (config.hidden_size, width) in step.native.forwards:
        wide = step.wide_rows(config.hidden_size)
        return [wide, wide, result] if step.is_narrow else [result]
    return [step.rows(width), step.rows(width), result]


def _tile(bytes_per_token: int, tokens: int) -> int:
    """A tile's bytes: at most `TILE_BYTES`, but for one token at least; rounded up, so that more is never less."""
    return min(tokens * bytes_per_token, max(TILE_BYTES, bytes_per_token))

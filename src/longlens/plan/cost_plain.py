"""A step in plain torch, counted: the operations that `model/` and `kernels/reference.py` dispatch, with their sizes.

A test runs the model and compares: FLOPs of matrix products, and numbers of dispatched operations.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from longlens.model.config import GqaConfig, IndexerConfig, MlaConfig, ModelConfig, MoeConfig
from longlens.plan.cost_plain_attention import dense_attend, gqa_attend, index_and_select, sparse_attend
from longlens.plan.cost_plain_parts import (
    StepShape,
    feed_forward,
    gather_rows,
    layer_norm,
    narrow,
    project,
    rms_norm,
    rotate,
    walk,
    widen,
    write_rows,
)
from longlens.plan.work import PartName, Tally, Work


@dataclass(frozen=True)
class _LayerKind:
    """Layers that dispatch the same operations."""

    is_full: bool
    is_sparse: bool


def step_work(
    config: ModelConfig, shape: StepShape, *, gather_above_tokens: int | None, wants_logits: bool
) -> dict[PartName, Work]:
    """Count a step of one sequence.

    Args:
        config: the model.
        shape: tokens and types of the step.
        gather_above_tokens: cached tokens above which attention gathers selected rows; None follows the configuration.
        wants_logits: the head runs for the last token, which is sampled from.
    """
    tally = Tally()
    _ends(tally, config, shape)
    threshold = config.gather_threshold_tokens if gather_above_tokens is None else gather_above_tokens
    is_gathering = threshold is not None and shape.num_positions > threshold
    for kind, count in _layer_kinds(config).items():
        tally.times = count
        _layer(tally, config, shape, kind, is_gathering=is_gathering)
    tally.times = 1
    if wants_logits:
        _head(tally, config, shape)
    return tally.work()


def num_distinct_experts(moe: MoeConfig, num_tokens: int) -> float:
    """Experts that at least one of some tokens goes to, expected when every choice is as likely as any other."""
    return moe.n_routed_experts * (1 - (1 - moe.num_experts_per_tok / moe.n_routed_experts) ** num_tokens)


def _layer_kinds(config: ModelConfig) -> Counter[_LayerKind]:
    is_full = (False,) * config.num_hidden_layers if config.indexer is None else config.indexer.is_full
    is_sparse = (False,) * config.num_hidden_layers if config.moe is None else config.moe.is_sparse
    return Counter(_LayerKind(full, sparse) for full, sparse in zip(is_full, is_sparse, strict=True))


def _ends(tally: Tally, config: ModelConfig, shape: StepShape) -> None:
    """Token ids, angles, embedding and the last norm."""
    tokens, angles = shape.num_tokens, shape.num_tokens * config.rope.dim / 2
    tally.dispatch(9, views=9)
    tally.sweep("map", angles, 3)
    tally.sweep("softmax", angles, 2)  # cosine and sine cost about what an exponential does
    gather_rows(tally, tokens, config.hidden_size * (4 if shape.element == "f32" else 2), config.vocab_size)
    rms_norm(tally, shape, tokens, config.hidden_size)


def _head(tally: Tally, config: ModelConfig, shape: StepShape) -> None:
    """Logits of the last row, and the greedy choice of a token."""
    tally.part = "head"
    tally.dispatch(1, views=6)
    project(tally, shape, 1, config.hidden_size, config.vocab_size)
    widen(tally, shape.element, config.vocab_size)
    walk(tally, "copy", config.vocab_size)
    walk(tally, "reduce", config.vocab_size, 2)
    walk(tally, "compare", config.vocab_size)
    walk(tally, "places", config.vocab_size)
    tally.dispatch(2, views=2)


def _layer(tally: Tally, config: ModelConfig, shape: StepShape, kind: _LayerKind, *, is_gathering: bool) -> None:
    tally.part = "norms"
    size = shape.num_tokens * config.hidden_size
    for _ in range(2):
        rms_norm(tally, shape, shape.num_tokens, config.hidden_size)
    walk(tally, "map", size, 2)
    if isinstance(config.attention, GqaConfig):
        _gqa(tally, config, config.attention, shape)
    elif config.indexer is not None:
        _mla(tally, config, config.attention, shape)
        if kind.is_full:
            _indexer(tally, config, config.indexer, shape)
        _attention(tally, config.attention, config.indexer, shape, is_gathering=is_gathering)
    if kind.is_sparse and config.moe is not None:
        _moe(tally, config.moe, config.hidden_size, shape)
    else:
        tally.part = "feed_forward"
        feed_forward(tally, shape, shape.num_tokens, (config.hidden_size, config.intermediate_size))


def _mla(tally: Tally, config: ModelConfig, mla: MlaConfig, shape: StepShape) -> None:
    """The projections of latent attention, and its rows into the cache."""
    tally.part = "projections"
    tokens, hidden, heads = shape.num_tokens, config.hidden_size, mla.num_attention_heads
    project(tally, shape, tokens, hidden, mla.q_lora_rank)
    rms_norm(tally, shape, tokens, mla.q_lora_rank)
    project(tally, shape, tokens, mla.q_lora_rank, heads * mla.qk_head_dim)
    rotate(tally, shape, tokens * heads * mla.qk_rope_head_dim, is_interleaved=mla.is_rope_interleaved)
    project(tally, shape, tokens, hidden, mla.latent_width)
    rms_norm(tally, shape, tokens, mla.kv_lora_rank)
    rotate(tally, shape, tokens * mla.qk_rope_head_dim, is_interleaved=mla.is_rope_interleaved)
    walk(tally, "copy", tokens * mla.latent_width, 2)
    write_rows(tally, shape, mla.latent_width)
    tally.sweep("copy", tokens * heads * mla.v_head_dim)
    tally.dispatch(views=10)
    project(tally, shape, tokens, heads * mla.v_head_dim, hidden)


def _attention(tally: Tally, mla: MlaConfig, indexer: IndexerConfig, shape: StepShape, *, is_gathering: bool) -> None:
    tally.part = "attention"
    num_selected = min(indexer.index_topk, shape.num_positions)
    if is_gathering:
        sparse_attend(tally, shape, mla, num_selected)
    else:
        is_dense = shape.num_positions <= indexer.index_topk
        dense_attend(tally, shape, mla, 0 if is_dense else num_selected)


def _indexer(tally: Tally, config: ModelConfig, indexer: IndexerConfig, shape: StepShape) -> None:
    if not isinstance(config.attention, MlaConfig):
        return
    tally.part = "indexer"
    mla, tokens, hidden = config.attention, shape.num_tokens, config.hidden_size
    heads, width = indexer.index_n_heads, indexer.index_head_dim
    project(tally, shape, tokens, mla.q_lora_rank, heads * width)
    project(tally, shape, tokens, hidden, width)
    layer_norm(tally, shape, tokens, width)
    widen(tally, shape.element, tokens * hidden)
    tally.dispatch(2, views=3)
    tally.product(("f32", tokens, hidden, heads))
    for size in (tokens * heads, tokens):
        rotate(tally, shape, size * mla.qk_rope_head_dim, is_interleaved=indexer.is_rope_interleaved)
        walk(tally, "copy", size * width)
    tally.dispatch(views=7)
    write_rows(tally, shape, width)
    if shape.num_positions > indexer.index_topk:
        index_and_select(tally, shape, indexer)
        return
    tally.dispatch(3, views=1)
    walk(tally, "compare", tokens * shape.num_positions)
    walk(tally, "map", tokens * shape.num_positions)


def _gqa(tally: Tally, config: ModelConfig, gqa: GqaConfig, shape: StepShape) -> None:
    tally.part = "projections"
    tokens, hidden = shape.num_tokens, config.hidden_size
    queries, keys = gqa.num_attention_heads * gqa.head_dim, gqa.num_key_value_heads * gqa.head_dim
    for width in (queries, keys, keys):
        project(tally, shape, tokens, hidden, width)
    for width in (queries, keys):
        turned = tokens * width * config.rope.dim / gqa.head_dim
        rotate(tally, shape, turned, is_interleaved=config.rope.is_interleaved)
        walk(tally, "copy", tokens * width)
    for _ in range(2):
        write_rows(tally, shape, keys)
    walk(tally, "turn", tokens * queries)
    tally.dispatch(views=14)
    project(tally, shape, tokens, queries, hidden)
    tally.part = "attention"
    gqa_attend(tally, shape, gqa)


def _moe(tally: Tally, moe: MoeConfig, hidden: int, shape: StepShape) -> None:
    """Router, the loop over the experts that some token goes to, and the shared expert."""
    tally.part = "experts"
    tokens, scores = shape.num_tokens, shape.num_tokens * moe.n_routed_experts
    chosen = tokens * moe.num_experts_per_tok
    widen(tally, shape.element, tokens * hidden)
    tally.product(("f32", tokens, hidden, moe.n_routed_experts))
    # matmul, sigmoid, add, sort, gather, sum, add, div, mul; conversions, slices, and what `tolist` looks at
    tally.dispatch(9 if moe.norm_topk_prob else 6, views=9)
    tally.sweep("softmax", scores)
    tally.sweep("map", scores, 1)
    tally.sweep("sort", scores)
    if moe.n_group > 1:
        tally.dispatch(9, views=4)
        tally.sweep("map", scores, 2)
    tally.dispatch(1, views=1)
    tally.sweep("map", tokens * hidden)
    distinct = num_distinct_experts(moe, tokens)
    rows = chosen / distinct
    # eq, where, two indexes, mul, index_add_; three selects, unsqueeze, a conversion
    tally.dispatch(6, views=5, times=distinct)
    tally.sweep("compare", chosen, distinct)
    tally.sweep("places", chosen, distinct)
    gather_rows(tally, rows, hidden * 4, tokens, 2 * distinct)
    feed_forward(tally, shape, rows, (hidden, moe.moe_intermediate_size), distinct)
    tally.sweep("map", rows * hidden, distinct)
    narrow(tally, shape.element, tokens * hidden)
    if moe.n_shared_experts:
        feed_forward(tally, shape, tokens, (hidden, moe.moe_intermediate_size * moe.n_shared_experts))
        walk(tally, "map", tokens * hidden)

"""The table of operations: what a token costs at a context, under four kinds of attention."""

from __future__ import annotations

from longlens.model.config import ModelConfig
from longlens.plan.chart import Chart, Curve
from longlens.plan.flops import (
    COMPARED_HEAD_DIM,
    COMPARED_KV_HEADS,
    AttentionForm,
    AttentionKind,
    attention_kinds,
    flops_per_token,
    own_attention,
)
from longlens.plan.table import Cell, Column, Table

CONTEXTS = (8192, 32_768, 65_536, 131_072, 262_144, 524_288, 1_048_576)
_SIDES: tuple[tuple[str, AttentionKind, AttentionForm], ...] = (
    ("GQA", "gqa", "absorbed"),
    ("dense MLA absorbed", "dense_mla", "absorbed"),
    ("dense MLA expanded", "dense_mla", "expanded"),
    ("DSA every layer", "dsa_every_layer", "absorbed"),
    ("IndexShare", "index_share", "absorbed"),
)


def flops_table(name: str, config: ModelConfig) -> Table:
    """Operations of the last token of a context, and how many times more the others take than the model's own kind.

    Contexts beyond the model's own length are left out.
    """
    kinds = attention_kinds(config)
    sides = [side for side in _SIDES if side[1] in kinds]
    own = own_attention(config)
    quotients = [side for side in sides if side[1] != own]
    own_name = next(side[0] for side in sides if side[1] == own)
    columns = [Column("context", "tokens")]
    columns += [Column(side[0], "flops") for side in sides]
    columns += [Column(f"{side[0]} / {own_name}", "ratio") for side in quotients]
    contexts = [context for context in CONTEXTS if context <= config.max_position_embeddings]
    rows = tuple(_row(config, context, sides, quotients, own) for context in contexts)
    curves = tuple(
        Curve(side[0], tuple((float(row[0] or 0), float(row[1 + number] or 0)) for row in rows))
        for number, side in enumerate(sides)
    )
    return Table(
        "flops",
        f"{name}: operations of one token by context (a multiply-add counts as two)",
        tuple(columns),
        rows,
        _notes(config),
        Chart(f"{name}: operations of one token", "context in tokens", "FLOP a token", curves) if rows else None,
    )


def _row(
    config: ModelConfig,
    context: int,
    sides: list[tuple[str, AttentionKind, AttentionForm]],
    quotients: list[tuple[str, AttentionKind, AttentionForm]],
    own: AttentionKind,
) -> tuple[Cell, ...]:
    totals = {side: flops_per_token(config, context - 1, attention=side[1], form=side[2]).total for side in sides}
    base = flops_per_token(config, context - 1, attention=own).total
    return (context, *totals.values(), *(totals[side] / base for side in quotients))


def _notes(config: ModelConfig) -> tuple[str, ...]:
    notes = ["the last token of the context is counted; weights, the core of attention and the indexer's scoring"]
    if own_attention(config) != "gqa":
        heads = config.attention.num_attention_heads
        notes.append(
            f"GQA is a model of the same layers, hidden size and matrices with {heads} query heads of "
            f"{COMPARED_HEAD_DIM} over {COMPARED_KV_HEADS} key-value heads of {COMPARED_HEAD_DIM}, attending to all"
        )
        notes.append("absorbed: attention in the latent's space, as decode runs; expanded: keys and values a head")
    if config.indexer is not None:
        full = len(config.indexer.full_layers)
        notes.append(
            f"IndexShare: {full} of {config.num_hidden_layers} layers have an indexer; it chooses "
            f"{config.indexer.index_topk} tokens; choosing itself is not counted"
        )
    return tuple(notes)

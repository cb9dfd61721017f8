"""The table of the cache: bytes a token and a sequence in every format."""

from __future__ import annotations

from longlens.model.config import ModelConfig
from longlens.plan.cache_formats import CacheFormat, cache_formats
from longlens.plan.chart import Chart, Curve
from longlens.plan.table import Cell, Column, Table, format_tokens

CONTEXTS = (8192, 65_536, 262_144, 1_048_576)


def kv_table(name: str, config: ModelConfig) -> Table:
    """Bytes of the cache by format, without the multi-token prediction layer.

    Contexts beyond the model's own length are left out.
    """
    formats = cache_formats(config)
    contexts = [context for context in CONTEXTS if context <= config.max_position_embeddings]
    stored = next(item for item in formats if item.name == "bf16")
    columns = (
        Column("format"),
        Column("bytes a token", "bytes a token"),
        Column("of these index keys", "bytes a token"),
        *(Column(format_tokens(context), "bytes") for context in contexts),
        Column("against bf16", "ratio"),
        Column("stored by longlens"),
    )
    rows = tuple(_row(item, contexts, stored) for item in formats)
    curves = tuple(Curve(item.name, tuple((float(c), float(item.bytes_at(c))) for c in contexts)) for item in formats)
    return Table(
        "kv",
        f"{name}: bytes of the cache of one sequence by format",
        columns,
        rows,
        _notes(config),
        Chart(f"{name}: cache of one sequence", "context in tokens", "bytes", curves) if contexts else None,
    )


def _row(item: CacheFormat, contexts: list[int], stored: CacheFormat) -> tuple[Cell, ...]:
    return (
        item.name,
        item.bytes_per_token,
        item.index_bytes,
        *(item.bytes_at(context) for context in contexts),
        item.bytes_per_token / stored.bytes_per_token,
        "yes" if item.is_stored else "no",
    )


def _notes(config: ModelConfig) -> tuple[str, ...]:
    notes = ["one sequence; a multi-token prediction layer is not counted"]
    if config.indexer is not None:
        full, layers = len(config.indexer.full_layers), config.num_hidden_layers
        notes.append(f"index keys lie on the {full} full layers; 'on all layers' is a cache made for all {layers}")
        notes.append("an fp8 or int8 index key carries one fp32 scale")
    return tuple(notes)

"""Attention and selection in plain torch, counted as `kernels/reference.py` dispatches them."""

from __future__ import annotations

from dataclasses import dataclass

from longlens.model.config import GqaConfig, IndexerConfig, MlaConfig
from longlens.plan.cost_plain_parts import (
    KEY_TILE,
    StepShape,
    Tiles,
    batch_of,
    choose_best,
    far_share,
    gather_rows,
    narrow,
    tiles_of,
    widen,
)
from longlens.plan.work import Tally

_SLOT_BYTES = 8


@dataclass(frozen=True)
class Attended:
    """What `ReferenceKernels._attend` is called with.

    Attributes:
        heads: heads of the call.
        width: values of a query and of a key.
        value_width: values of a value.
        is_shared: keys and values are the same for all heads.
        num_selected: positions of the selection that a mask narrows to; 0 without one.
    """

    heads: int
    width: int
    value_width: int
    is_shared: bool
    num_selected: int = 0


def sparse_attend(tally: Tally, shape: StepShape, mla: MlaConfig, num_selected: int) -> None:
    """`Kernels.sparse_attend`: rows gathered, absorbed form."""
    heads, width, rank, k = mla.num_attention_heads, mla.latent_width, mla.kv_lora_rank, num_selected
    _widen_up(tally, shape, mla)
    tally.dispatch(views=1)
    row_bytes = width * (shape.cached_bytes + 4)
    tiles = tiles_of(shape.num_tokens, k * (row_bytes + 8 * heads) + 8 * heads * width)
    t, weight = tiles.size, tiles.weight
    _absorb(tally, shape, mla, tiles)
    # to(int64), clamp, two gathers, bmm, mul_, lt, masked_fill_, softmax, bmm, copy_; slices, flatten, view, transpose
    tally.dispatch(11, views=6, times=tiles.count)
    tally.sweep("map", t * k, 3 * weight)
    gather_rows(tally, t * k, _SLOT_BYTES, shape.num_positions, weight)
    gather_rows(tally, t * k, width * shape.cached_bytes, shape.num_positions, weight)
    widen(tally, shape.cache_element, t * k * width, weight=weight, times=tiles.count)
    batch_of(tally, t, (heads, width, k), weight)
    for name in ("inplace", "mask", "softmax"):
        tally.sweep(name, t * heads * k, weight)
    batch_of(tally, t, (heads, k, rank), weight)
    _raise_to_values(tally, mla, tiles)
    tally.sweep("copy", t * heads * mla.v_head_dim, weight)


def dense_attend(tally: Tally, shape: StepShape, mla: MlaConfig, num_selected: int) -> None:
    """`Kernels.dense_attend` in the form that `MlaAttention` finds cheaper; 0 selected means all visible ones."""
    rows = shape.num_positions * mla.latent_width
    _widen_up(tally, shape, mla)
    tally.dispatch(1, views=1)
    tally.sweep("copy", rows * shape.cached_bytes / 4)
    widen(tally, shape.cache_element, rows)
    attend = _attend_expanded if is_expanded(shape, mla) else _attend_absorbed
    attend(tally, shape, mla, num_selected)
    narrow(tally, shape.element, shape.num_tokens * mla.num_attention_heads * mla.v_head_dim)


def is_expanded(shape: StepShape, mla: MlaConfig) -> bool:
    """Which form `MlaAttention` chooses below the gather threshold."""
    saved = shape.num_tokens * (mla.kv_lora_rank + mla.latent_width - mla.qk_head_dim - mla.v_head_dim)
    return saved > mla.kv_lora_rank * (mla.qk_nope_head_dim + mla.v_head_dim)


def gqa_attend(tally: Tally, shape: StepShape, gqa: GqaConfig) -> None:
    """`Kernels.gqa_attend`: every cached row, repeated for every query head."""
    heads, width = gqa.num_attention_heads, gqa.head_dim
    stored = shape.num_positions * gqa.num_key_value_heads * width
    tally.dispatch(4, views=7)
    tally.sweep("copy", stored * shape.cached_bytes / 4, 2)
    widen(tally, shape.cache_element, stored, weight=2, times=2)
    widen(tally, shape.element, shape.num_tokens * heads * width)
    tally.sweep("repeat", shape.num_positions * heads * width, 2)
    _attend(tally, shape, Attended(heads, width, width, is_shared=False), shape.num_tokens)
    narrow(tally, shape.element, shape.num_tokens * heads * width)


def index_and_select(tally: Tally, shape: StepShape, indexer: IndexerConfig) -> None:
    """`Kernels.index_and_select`: scores over tiles of keys, reduced to a running top-k."""
    heads, width = indexer.index_n_heads, indexer.index_head_dim
    kept = min(indexer.index_topk, shape.num_positions)
    per_token = heads * min(KEY_TILE, shape.num_positions) * 4 + (kept + KEY_TILE) * 32
    tiles = tiles_of(shape.num_tokens, per_token)
    # arange, add, gt, where, copy_; slices, promote_types, empty, unsqueeze
    tally.dispatch(5, views=6, times=tiles.count)
    visible = tiles.mean_seen(shape.first_position, at_least=kept)
    num_key_tiles = -(-int(visible) // KEY_TILE)
    keys = visible / num_key_tiles
    dispatched, weight = tiles.count * num_key_tiles, tiles.weight * num_key_tiles
    # gather, matmul, relu_, bmm, isfinite, all, its answer, arange, gt, masked_fill_; slices and other views
    tally.dispatch(10, views=9, times=dispatched)
    tally.sweep("copy", keys * width * shape.cached_bytes / 4, weight)
    t = tiles.size
    widen(tally, shape.element, t * heads * width, weight=weight, times=dispatched)
    widen(tally, shape.cache_element, keys * width, weight=weight, times=dispatched)
    tally.product(("f32", t * heads, width, keys), weight)
    tally.sweep("inplace", t * heads * keys, weight)
    batch_of(tally, t, (1, heads, keys), weight)
    tally.sweep("map", t * keys, weight)
    tally.sweep("compare", t * keys, 2 * weight)
    tally.sweep("mask", t * keys, weight)
    _choose(tally, tiles, visible, kept)


def _choose(tally: Tally, tiles: Tiles, visible: float, kept: int) -> None:
    """The running top-k: a join for every tile of keys, and a choice where more is joined than is kept."""
    num_key_tiles = -(-int(visible) // KEY_TILE)
    columns = (visible + kept * (num_key_tiles - 1)) / num_key_tiles
    size = tiles.size * columns
    tally.dispatch(2, times=tiles.count * num_key_tiles)
    tally.sweep("copy", size, 2 * tiles.weight * num_key_tiles)
    choices = num_key_tiles - (min(visible, KEY_TILE) <= kept)
    # topk, gt, eq, sum, rsub, cumsum, le, and, or, nonzero, two gathers; slice, select, view
    tally.dispatch(12, views=3, times=tiles.count * choices)
    weight = tiles.weight * choices
    choose_best(tally, tiles.size, columns, kept, weight)
    tally.sweep("compare", size, 5 * weight)
    for name in ("reduce", "running_sum", "places"):
        tally.sweep(name, size, weight)
    tally.sweep("pick", tiles.size * kept, 2 * weight)


def _attend_absorbed(tally: Tally, shape: StepShape, mla: MlaConfig, num_selected: int) -> None:
    heads, rank = mla.num_attention_heads, mla.kv_lora_rank
    tiles = tiles_of(shape.num_tokens, heads * (shape.num_positions + mla.latent_width) * 8)
    tally.dispatch(views=1)
    tally.dispatch(1, views=5 if num_selected else 4, times=tiles.count)
    _absorb(tally, shape, mla, tiles)
    attended = Attended(heads, mla.latent_width, rank, is_shared=True, num_selected=num_selected)
    _attend(tally, shape, attended, tiles.tile)
    _raise_to_values(tally, mla, tiles)
    tally.sweep("copy", tiles.size * heads * mla.v_head_dim, tiles.weight)


def _attend_expanded(tally: Tally, shape: StepShape, mla: MlaConfig, num_selected: int) -> None:
    rank, nope, value = mla.kv_lora_rank, mla.qk_nope_head_dim, mla.v_head_dim
    seen = shape.num_positions
    head_tiles = tiles_of(mla.num_attention_heads, seen * (2 * nope + mla.qk_rope_head_dim + value) * 8)
    h, weight, times = head_tiles.size, head_tiles.weight, head_tiles.count
    tally.dispatch(views=1)
    # two cats, two matmuls, copy_; slices, transposes and an expand
    tally.dispatch(5, views=13, times=times)
    queries = shape.num_tokens * h
    widen(tally, shape.element, queries * mla.qk_head_dim, weight=weight, times=times)
    tally.sweep("turn", queries * mla.qk_head_dim, weight)
    tally.sweep("copy", seen * h * mla.qk_head_dim, weight)
    batch_of(tally, h, (seen, rank, nope), weight)
    batch_of(tally, h, (seen, rank, value), weight)
    tally.sweep("turn", queries * value, weight)
    outer, tally.times = tally.times, tally.times * weight
    attended = Attended(h, mla.qk_head_dim, value, is_shared=False, num_selected=num_selected)
    _attend(tally, shape, attended, shape.num_tokens)
    tally.times = outer


def _attend(tally: Tally, shape: StepShape, attended: Attended, outer_tile: int) -> None:
    """`ReferenceKernels._attend` for all tokens: in the caller's tiles, and in its own inside them."""
    tokens, seen, heads = shape.num_tokens, shape.num_positions, attended.heads
    tiles = Tiles(tokens, min(tiles_of(tokens, heads * seen * 8).tile, outer_tile))
    num_outer = -(-tokens // outer_tile)
    tally.dispatch(1, views=1, times=num_outer)
    tally.sweep("map", seen, num_outer)
    # arange, add, le, matmul, mul_, not, masked_fill_, softmax, matmul, copy_; slices, unsqueeze, transpose
    tally.dispatch(10, views=6, times=tiles.count)
    t, weight, mean_seen = tiles.size, tiles.weight, tiles.mean_seen(shape.first_position)
    tally.sweep("compare", t * mean_seen, 2 * weight)
    if attended.num_selected:
        _membership(tally, tiles, seen, attended.num_selected)
    scores, values = (attended.width, mean_seen), (mean_seen, attended.value_width)
    if attended.is_shared:
        tally.sweep("turn", heads * t * attended.width, weight)
        for inner, outer in (scores, values):
            tally.product(("f32", heads * t, inner, outer), weight)
    else:
        for inner, outer in (scores, values):
            batch_of(tally, heads, (t, inner, outer), weight)
    for name in ("inplace", "mask", "softmax"):
        tally.sweep(name, heads * t * mean_seen, weight)
    tally.sweep("copy", heads * t * attended.value_width, weight)


def _membership(tally: Tally, tiles: Tiles, seen: int, num_selected: int) -> None:
    """The selection as booleans: zeros, lt, where, to(int64), scatter_, and; slices."""
    tally.dispatch(6, views=4, times=tiles.count)
    tally.sweep("compare", tiles.size * seen, 2 * tiles.weight)
    tally.sweep("map", tiles.size * num_selected, 3 * tiles.weight)
    tally.sweep("pick", tiles.size * num_selected, tiles.weight)


def _widen_up(tally: Tally, shape: StepShape, mla: MlaConfig) -> None:
    tally.dispatch(views=1)
    a_value = mla.num_attention_heads * mla.kv_lora_rank
    widen(tally, shape.element, a_value * mla.qk_nope_head_dim)
    widen(tally, shape.element, a_value * mla.v_head_dim)


def _absorb(tally: Tally, shape: StepShape, mla: MlaConfig, tiles: Tiles) -> None:
    """Einsum and cat; two slices, two conversions."""
    heads, queries = mla.num_attention_heads, tiles.size * mla.num_attention_heads
    tally.dispatch(2, views=2, times=tiles.count)
    widen(tally, shape.element, queries * mla.qk_nope_head_dim, weight=tiles.weight, times=tiles.count)
    widen(tally, shape.element, queries * mla.qk_rope_head_dim, weight=tiles.weight, times=tiles.count)
    _with_heads_weights(tally, heads, (tiles.size, mla.qk_nope_head_dim, mla.kv_lora_rank), tiles.weight)
    tally.sweep("turn", queries * mla.latent_width, tiles.weight)


def _raise_to_values(tally: Tally, mla: MlaConfig, tiles: Tiles) -> None:
    tally.dispatch(1, times=tiles.count)
    sizes = (tiles.size, mla.kv_lora_rank, mla.v_head_dim)
    _with_heads_weights(tally, mla.num_attention_heads, sizes, tiles.weight)


def _with_heads_weights(tally: Tally, heads: int, sizes: tuple[int, int, int], weight: float) -> None:
    """Rows times each head's weights, tile after tile; the first tile brings them into a cache, if one holds them."""
    _, inner, outer = sizes
    again = (weight - 1) * (1 - far_share(4 * heads * inner * outer))
    tally.product(("heads", *sizes), heads * (weight - again))
    batch_of(tally, heads, sizes, again)

"""What the C++ kernels keep beside weights and cache.

Every kind of buffer grows to the largest job that it was needed for and stays, so that their sizes add up: rounded
activations, the same in panels, tiles of weights, hidden rows of feed-forwards and experts.

Source: native/activations.hpp, matmul.cpp, experts.cpp, few_rows.cpp, attend.cpp.
"""

from __future__ import annotations

from longlens.model.config import GqaConfig, ModelConfig
from longlens.plan.packed import NativeWeights

# Widths are padded to so many numbers; a number takes an int8 in two orders and a 32nd of four floats.
_CHUNK, _ROUNDED_BYTES = 256, 2.5
# A panel of twelve tokens takes 1.5 bytes a number; up to so many tokens need none.
_PANEL_TOKENS, _PANEL_BYTES, _FEWEST_IN_PANELS = 12, 1.5, 4
_TILE_BYTES, _MOST_FINE_TOKENS = 20, 256
_FEW_TOKENS, _PIECE_POSITIONS, _WIDE = 8, 256, 4
_PIECES_PER_THREAD = 8


def native_scratch_bytes(config: ModelConfig, weights: NativeWeights, num_tokens: int, num_positions: int) -> int:
    """Bytes that the library holds once it has run a step of each kind.

    Args:
        config: the model.
        weights: what it multiplies with.
        num_tokens: of the largest step.
        num_positions: cached tokens that a step attends to at most.
    """
    return round(_products(weights, num_tokens) + _experts(config, weights, num_tokens)) + _attention(
        config, num_positions
    )


def _products(weights: NativeWeights, num_tokens: int) -> float:
    rounded = panels = tiles = sums = 0.0
    for product in weights.products:
        width = _padded(product.width)
        tokens = min(num_tokens, _MOST_FINE_TOKENS) * 2 if product.is_fine else num_tokens
        rounded = max(rounded, tokens * width * _ROUNDED_BYTES)
        panels = max(panels, _in_panels(tokens) * width * _PANEL_BYTES)
        tiles = max(tiles, _TILE_BYTES * width)
        if product.is_fine:
            sums = max(sums, tokens * product.rows * _WIDE)
    return rounded + panels + tiles + sums


def _experts(config: ModelConfig, weights: NativeWeights, num_tokens: int) -> float:
    """Feed-forwards are one expert that every token goes to; buffers are shared by all."""
    jobs = [(hidden, width, num_tokens, _in_panels(num_tokens)) for hidden, width in weights.forwards]
    if weights.experts is not None and config.moe is not None:
        slots = num_tokens * config.moe.num_experts_per_tok
        # Each expert's last panel is half empty, as a rule.
        panels = _in_panels(slots) + min(slots, config.moe.n_routed_experts) * _PANEL_TOKENS // 2
        jobs.append((*weights.experts, slots, panels))
    rows = hidden_rows = panel_bytes = widened = parts = 0.0
    for hidden, width, slots, in_panels in jobs:
        rows = max(rows, num_tokens * _padded(hidden) * _ROUNDED_BYTES)
        hidden_rows = max(hidden_rows, slots * _padded(width) * _ROUNDED_BYTES)
        panel_bytes = max(panel_bytes, in_panels * max(_padded(hidden), _padded(width)) * _PANEL_BYTES)
        widened = max(widened, 2 * slots * width * _WIDE)
        parts = max(parts, num_tokens * hidden * _WIDE / _PIECES_PER_THREAD)
    return rows + hidden_rows + panel_bytes + widened + parts


def _attention(config: ModelConfig, num_positions: int) -> int:
    """Sums of a few tokens' heads, a piece of the positions each."""
    attention = config.attention
    heads = attention.num_attention_heads
    width = attention.head_dim if isinstance(attention, GqaConfig) else attention.kv_lora_rank
    return _FEW_TOKENS * -(-num_positions // _PIECE_POSITIONS) * heads * (width + 2) * _WIDE


def _padded(width: int) -> int:
    return -(-width // _CHUNK) * _CHUNK


def _in_panels(tokens: int) -> int:
    return 0 if tokens < _FEWEST_IN_PANELS else -(-tokens // _PANEL_TOKENS) * _PANEL_TOKENS

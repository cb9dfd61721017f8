"""Q8_0, Q4_0, Q5_0 and Q5_1: blocks of 32 weights, each rounded to the nearest level of its block's range.

Every operation, its order and its rounding are gguf-py's, so that the bytes are, too. Only the sign of a zero that is
the minimum of a Q5_1 block with zeros of both signs is not: numpy itself does not fix it.

Source: gguf-py, quants.py; ggml, quantize_row_q8_0_ref and its like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

BLOCK_ELEMENTS = 32


def encode_q8_0(weights: Tensor) -> Tensor:
    """Encode whole blocks: an fp16 scale and 32 signed bytes.

    Args:
        weights: fp32, finite, contiguous; a multiple of 32.

    Returns:
        uint8 [blocks, 34].
    """
    blocks = _turned(weights)
    scale = blocks.abs().amax(0) / 127
    scaled = blocks * _inverse(scale)
    # Halves are rounded away from zero, which torch does not do.
    size = scaled.abs()
    whole = size.floor()
    size.sub_(whole).mul_(2).floor_().add_(whole)
    levels = torch.copysign(size, scaled).to(torch.int8).view(torch.uint8)
    return torch.cat([_half_bytes(scale), levels]).t().contiguous()


def encode_q4_0(weights: Tensor) -> Tensor:
    """Encode whole blocks, as `encode_q8_0`: an fp16 scale and 16 bytes; uint8 [blocks, 18]."""
    scale, levels = _from_the_extreme(_turned(weights), 8)
    return torch.cat([_half_bytes(scale), levels[:16] | levels[16:] << 4]).t().contiguous()


def encode_q5_0(weights: Tensor) -> Tensor:
    """Encode whole blocks, as `encode_q8_0`: an fp16 scale, fifth bits, 16 bytes; uint8 [blocks, 22]."""
    scale, levels = _from_the_extreme(_turned(weights), 16)
    return torch.cat([_half_bytes(scale), *_five_bits(levels)]).t().contiguous()


def encode_q5_1(weights: Tensor) -> Tensor:
    """Encode whole blocks, as `encode_q8_0`: fp16 scale and minimum, fifth bits, 16 bytes; uint8 [blocks, 24]."""
    blocks = _turned(weights)
    lowest = blocks.amin(0)
    scale = (blocks.amax(0) - lowest) / 31
    levels = ((blocks - lowest) * _inverse(scale)).add_(0.5).trunc_().clamp_(0, 31).to(torch.uint8)
    return torch.cat([_half_bytes(scale), _half_bytes(lowest), *_five_bits(levels)]).t().contiguous()


NEAREST_ENCODERS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"Q8_0": encode_q8_0, "Q4_0": encode_q4_0, "Q5_0": encode_q5_0, "Q5_1": encode_q5_1}
)


def _turned(weights: Tensor) -> Tensor:
    """[32, blocks]: sums and extremes then run over whole vectors."""
    return weights.view(-1, BLOCK_ELEMENTS).t().contiguous()


def _from_the_extreme(blocks: Tensor, num_negative: int) -> tuple[Tensor, Tensor]:
    """The weight of the largest size becomes the lowest level; scales [blocks] and levels [32, blocks]."""
    scale = _extremes(blocks) / -num_negative
    levels = (blocks * _inverse(scale)).add_(num_negative + 0.5).trunc_().clamp_(0, 2 * num_negative - 1)
    return scale, levels.to(torch.uint8)


def _extremes(blocks: Tensor) -> Tensor:
    highest, lowest = blocks.amax(0), blocks.amin(0)
    extremes = torch.where(highest > -lowest, highest, lowest)
    tied = (highest == -lowest).nonzero().view(-1)
    if len(tied):
        # Of two weights of one size and opposite signs, the first decides; of two zeros, too, which are of one size.
        among = blocks[:, tied]
        extremes[tied] = among.gather(0, among.abs().argmax(0, keepdim=True)).view(-1)
    return extremes


def _inverse(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, 0.0, 1 / scale)


def _five_bits(levels: Tensor) -> list[Tensor]:
    """The fifth bits in 4 bytes, lowest first, and the other four in 16."""
    fifth = (levels >> 4).view(4, 8, -1)
    packed = fifth[:, 0]
    for bit in range(1, 8):
        packed = packed | fifth[:, bit] << bit
    low = levels & 15
    return [packed, low[:16] | low[16:] << 4]


def _half_bytes(values: Tensor) -> Tensor:
    """Little-endian fp16 along the first axis; [2, blocks]."""
    return values.view(-1, 1).half().view(torch.uint8).t()

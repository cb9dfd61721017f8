"""Q4_K, Q5_K and Q6_K: blocks of 256 weights in groups whose scales are whole numbers themselves.

A block's bytes lie along the first axis while it is made and its neighbours along the last, so that every step works
on whole vectors; the pieces are turned at the beginning and at the end.

Source: ggml-common.h (block_q4_K, block_q5_K, block_q6_K); ggml-quants.c for how the groups' scales share a block's.
The last step, a block's two numbers by least squares when all else is chosen, is not ggml's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from longlens.convert.scale_search import (
    WeightedGroups,
    fit_affine,
    fit_symmetric,
    round_affine,
    round_symmetric,
    symmetric_sums,
    weigh,
)

BLOCK_ELEMENTS = 256
_AFFINE_GROUPS, _MOST_SCALE = 8, 63
_SYMMETRIC_GROUPS, _MOST_NEGATIVE_SCALE, _MOST_NEGATIVE_LEVEL = 16, 128, 32
_LEAST_DETERMINANT = 1e-6


class _AffineBlocks(NamedTuple):
    """A weight is `step * scale * level - offset_step * offset`; steps [1, 1, blocks], scales [groups, 1, blocks]."""

    step: Tensor
    offset_step: Tensor
    scales: Tensor
    offsets: Tensor

    def round(self, weights: Tensor, most_level: int, levels: Tensor) -> None:
        scale = self.step * self.scales
        inverse = torch.where(scale > 0, 1 / scale, 0.0)
        round_affine(weights, inverse, -self.offset_step * self.offsets, most_level, levels)


def encode_q4_k(weights: Tensor) -> Tensor:
    """Encode whole blocks.

    Args:
        weights: fp32, finite, contiguous; a multiple of 256.

    Returns:
        uint8 [blocks, 144].
    """
    blocks, levels = _affine_levels(_turned(weights, _AFFINE_GROUPS), 15)
    return torch.cat([*_affine_head(blocks), _nibble_pairs(levels.to(torch.uint8))]).t().contiguous()


def encode_q5_k(weights: Tensor) -> Tensor:
    """Encode whole blocks, as `encode_q4_k`; uint8 [blocks, 176]."""
    blocks, levels = _affine_levels(_turned(weights, _AFFINE_GROUPS), 31)
    whole = levels.to(torch.uint8)
    fifth_bits = whole[0] >> 4
    for group in range(1, _AFFINE_GROUPS):
        fifth_bits |= (whole[group] >> 4) << group
    return torch.cat([*_affine_head(blocks), fifth_bits, _nibble_pairs(whole & 15)]).t().contiguous()


def encode_q6_k(weights: Tensor) -> Tensor:
    """Encode whole blocks, as `encode_q4_k`; uint8 [blocks, 210]."""
    groups = _turned(weights, _SYMMETRIC_GROUPS)
    scales = fit_symmetric(groups, _MOST_NEGATIVE_LEVEL)
    largest = torch.where(-scales.amin(0) > scales.amax(0), scales.amin(0), scales.amax(0))
    step = _half(largest / -_MOST_NEGATIVE_SCALE)
    whole_scales = torch.where(step != 0, scales / step, 0.0)
    whole_scales = whole_scales.round_().clamp_(-_MOST_NEGATIVE_SCALE, _MOST_NEGATIVE_SCALE - 1)
    step, levels = _symmetric_levels(groups, step, whole_scales)
    # In halves of 128 weights, and these in quarters of 32.
    stored = levels.add_(_MOST_NEGATIVE_LEVEL).to(torch.uint8).view(2, 4, 32, -1)
    low, high = stored & 15, stored >> 4
    low_bits = torch.stack([low[:, 0] | low[:, 2] << 4, low[:, 1] | low[:, 3] << 4], 1)
    high_bits = high[:, 0] | high[:, 1] << 2 | high[:, 2] << 4 | high[:, 3] << 6
    num_blocks = stored.shape[-1]
    scale_bytes = whole_scales.view(_SYMMETRIC_GROUPS, num_blocks).to(torch.int8).view(torch.uint8)
    parts = [low_bits.view(128, num_blocks), high_bits.view(64, num_blocks), scale_bytes, _half_bytes(step)]
    return torch.cat(parts).t().contiguous()


K_QUANT_ENCODERS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"Q4_K": encode_q4_k, "Q5_K": encode_q5_k, "Q6_K": encode_q6_k}
)


def _turned(weights: Tensor, num_groups: int) -> Tensor:
    """Bring the blocks to the last axis: [groups, weights of a group, blocks]."""
    blocks = weights.view(-1, BLOCK_ELEMENTS)
    return blocks.t().contiguous().view(num_groups, BLOCK_ELEMENTS // num_groups, len(blocks))


def _affine_levels(weights: Tensor, most_level: int) -> tuple[_AffineBlocks, Tensor]:
    groups = weigh(weights)
    fit = fit_affine(groups, most_level)
    step, scales = _shared(fit.scale)
    offset_step, offsets = _shared(-fit.offset)
    blocks = _AffineBlocks(step, offset_step, scales, offsets)
    levels = torch.empty_like(weights)
    blocks.round(weights, most_level, levels)
    blocks = _refit(groups, blocks, levels)
    blocks.round(weights, most_level, levels)
    return blocks, levels


def _shared(values: Tensor) -> tuple[Tensor, Tensor]:
    """One step a block, of which its groups' values are 0 to 63."""
    step = _half(values.amax(0, keepdim=True) / _MOST_SCALE)
    whole = torch.where(step > 0, values / step, 0.0)
    return step, whole.round_().clamp_(0, _MOST_SCALE)


def _refit(groups: WeightedGroups, blocks: _AffineBlocks, levels: Tensor) -> _AffineBlocks:
    """The two steps of a block by least squares over its groups; as they were where that says nothing."""
    sums = groups.sums(levels, torch.empty_like(levels))
    scales, offsets = blocks.scales, blocks.offsets
    of_scales = (scales * scales * sums.squares).sum(0, keepdim=True)
    of_both = (scales * offsets * sums.levels).sum(0, keepdim=True)
    of_offsets = (offsets * offsets * groups.total).sum(0, keepdim=True)
    with_scales = (scales * sums.products).sum(0, keepdim=True)
    with_offsets = (offsets * groups.total_weighted).sum(0, keepdim=True)
    determinant = of_scales * of_offsets - of_both * of_both
    step = _half((with_scales * of_offsets - of_both * with_offsets) / determinant)
    offset_step = _half((of_both * with_scales - of_scales * with_offsets) / determinant)
    is_sound = (determinant > _LEAST_DETERMINANT * of_scales * of_offsets) & (step > 0) & (offset_step > 0)
    return blocks._replace(
        step=torch.where(is_sound, step, blocks.step),
        offset_step=torch.where(is_sound, offset_step, blocks.offset_step),
    )


def _symmetric_levels(weights: Tensor, step: Tensor, whole_scales: Tensor) -> tuple[Tensor, Tensor]:
    """Round with a block's step, fit the step to these levels, and round again; [1, blocks] and levels."""
    squares, levels, scratch = weights * weights, torch.empty_like(weights), torch.empty_like(weights)
    _round_scaled(weights, step, whole_scales, levels)
    products, level_squares = symmetric_sums(weights, squares, levels, scratch)
    fitted = (whole_scales * products).sum(0) / (whole_scales * whole_scales * level_squares).sum(0)
    fitted = _half(fitted)
    # Not a number, or no number at all, where the levels are all 0.
    step = torch.where(fitted.isfinite() & (fitted != 0), fitted, step)
    _round_scaled(weights, step, whole_scales, levels)
    return step, levels


def _round_scaled(weights: Tensor, step: Tensor, whole_scales: Tensor, levels: Tensor) -> None:
    scale = step * whole_scales
    round_symmetric(weights, torch.where(scale != 0, 1 / scale, 0.0), _MOST_NEGATIVE_LEVEL, levels)


def _affine_head(blocks: _AffineBlocks) -> list[Tensor]:
    """Steps, and scales and offsets of six bits each: four groups whole, the others' upper bits above them."""
    num_blocks = blocks.step.shape[-1]
    scales = blocks.scales.view(_AFFINE_GROUPS, num_blocks).to(torch.uint8)
    offsets = blocks.offsets.view(_AFFINE_GROUPS, num_blocks).to(torch.uint8)
    return [
        _half_bytes(blocks.step),
        _half_bytes(blocks.offset_step),
        scales[:4] | scales[4:] >> 4 << 6,
        offsets[:4] | offsets[4:] >> 4 << 6,
        scales[4:] & 15 | (offsets[4:] & 15) << 4,
    ]


def _nibble_pairs(levels: Tensor) -> Tensor:
    """Two groups in 32 bytes, the second in the upper halves; [128, blocks]."""
    pairs = levels.view(4, 2, 32, -1)
    return (pairs[:, 0] | pairs[:, 1] << 4).view(128, -1)


def _half(values: Tensor) -> Tensor:
    return values.half().float()


def _half_bytes(values: Tensor) -> Tensor:
    """Little-endian fp16 along the first axis; [2, blocks]."""
    return values.view(-1, 1).half().view(torch.uint8).t()

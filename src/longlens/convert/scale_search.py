"""Which scale a group of weights is rounded with: least squares over several ways to round it.

A group's levels depend on its scale and the best scale on its levels. So the group is rounded with a handful of steps,
some wider and some narrower than its range asks for; for each rounding the best scale has a closed form, and the one
with the least weighted error stays. All groups of a piece are searched at once: weights of a group lie along the
middle axis, so that every sum runs over whole vectors.

Source: the idea of ggml's make_qkx2_quants and make_qx_quants, ggml-quants.c; the error in closed form is the sum of
importance * (scale * level + offset - weight) ** 2 without the part that no choice changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

# Levels that the range is cut into, beyond or short of those that exist. ggml tries 21 and ends within 0.3 % of these.
_WIDENINGS = tuple(step / 10 for step in range(-10, 10, 2))
# Below this share of its largest value, the determinant of the fit is rounding: the levels are all alike.
_LEAST_DETERMINANT = 1e-6


class Sums(NamedTuple):
    """Weighted sums over a group, each [groups, 1, blocks]: of the levels, their squares, and levels times weights."""

    levels: Tensor
    squares: Tensor
    products: Tensor


class AffineFit(NamedTuple):
    """Weights are near `scale * level + offset`, scale >= 0 >= offset; `error` compares fits of the same weights."""

    scale: Tensor
    offset: Tensor
    error: Tensor


@dataclass(frozen=True, eq=False)
class WeightedGroups:
    """Weights and how much each one's error counts.

    Attributes:
        weights: fp32 [groups, weights of a group, blocks].
        importance: as `weights`.
        weighted: their product.
        total: sum of the importance of each group, [groups, 1, blocks].
        total_weighted: sum of the products.
    """

    weights: Tensor
    importance: Tensor
    weighted: Tensor
    total: Tensor
    total_weighted: Tensor

    def sums(self, levels: Tensor, scratch: Tensor) -> Sums:
        """Add up what a fit to these levels needs; `scratch` has their shape and is overwritten."""
        torch.mul(self.importance, levels, out=scratch)
        of_levels = scratch.sum(1, keepdim=True)
        of_squares = scratch.mul_(levels).sum(1, keepdim=True)
        torch.mul(self.weighted, levels, out=scratch)
        return Sums(of_levels, of_squares, scratch.sum(1, keepdim=True))


def weigh(weights: Tensor) -> WeightedGroups:
    """Let a weight's error count by its size plus the group's root mean square, as ggml does.

    Args:
        weights: fp32 [groups, weights of a group, blocks].
    """
    importance = weights.abs()
    importance += (weights * weights).mean(1, keepdim=True).sqrt_()
    weighted = importance * weights
    return WeightedGroups(weights, importance, weighted, importance.sum(1, keepdim=True), weighted.sum(1, keepdim=True))


def fit_affine(groups: WeightedGroups, most_level: int) -> AffineFit:
    """Find the scale and the offset of each group for levels from 0 to `most_level`.

    A group whose weights are all one negative number has scale 0.
    """
    weights = groups.weights
    highest = weights.amax(1, keepdim=True)
    lowest = weights.amin(1, keepdim=True).clamp_(max=0)
    levels, scratch = torch.empty_like(weights), torch.empty_like(weights)
    best = AffineFit((highest - lowest) / most_level, lowest, torch.full_like(lowest, torch.inf))
    for widening in (*_WIDENINGS, None):
        # The last rounding is the best fit's own.
        inverse = 1 / best.scale if widening is None else (most_level + widening) / (highest - best.offset)
        round_affine(weights, inverse, best.offset, most_level, levels)
        fit = _least_squares(groups, groups.sums(levels, scratch))
        # Not a number where a group has no range: the fit that it began with stays.
        better = fit.error < best.error
        best = AffineFit(*(torch.where(better, new, old) for new, old in zip(fit, best, strict=True)))
    return best


def round_affine(weights: Tensor, inverse: Tensor, offset: Tensor, most_level: int, levels: Tensor) -> None:
    """Round into `levels`: the nearest of 0 ... most_level to (weight - offset) * inverse."""
    torch.addcmul(-offset * inverse, weights, inverse, out=levels).round_().clamp_(0, most_level)


def fit_symmetric(weights: Tensor, num_negative: int) -> Tensor:
    """Find the scale, of either sign, of each group for levels from -num_negative to num_negative - 1.

    A weight's error counts by the weight's square.

    Args:
        weights: fp32 [groups, weights of a group, blocks].
        num_negative: as many levels are negative; the group's extreme weight becomes the last of them.

    Returns:
        [groups, 1, blocks]; 0 where all weights are.
    """
    highest, lowest = weights.amax(1, keepdim=True), weights.amin(1, keepdim=True)
    extreme = torch.where(-lowest > highest, lowest, highest)
    squares = weights * weights
    levels, scratch = torch.empty_like(weights), torch.empty_like(weights)
    scale, gain = torch.zeros_like(extreme), torch.zeros_like(extreme)
    for widening in (*_WIDENINGS, None):
        inverse = 1 / scale if widening is None else -(num_negative + widening) / extreme
        round_symmetric(weights, inverse, num_negative, levels)
        products, level_squares = symmetric_sums(weights, squares, levels, scratch)
        # The weighted squares that the fit explains; not a number where all weights are 0.
        explained = products * products / level_squares
        better = explained > gain
        scale = torch.where(better, products / level_squares, scale)
        gain = torch.where(better, explained, gain)
    return scale


def round_symmetric(weights: Tensor, inverse: Tensor, num_negative: int, levels: Tensor) -> None:
    """Round into `levels`: the nearest of -num_negative ... num_negative - 1 to weight * inverse."""
    torch.mul(weights, inverse, out=levels).round_().clamp_(-num_negative, num_negative - 1)


def symmetric_sums(weights: Tensor, squares: Tensor, levels: Tensor, scratch: Tensor) -> tuple[Tensor, Tensor]:
    """Add up weight ** 3 * level and weight ** 2 * level ** 2 of each group; `levels` and `scratch` are overwritten."""
    levels.mul_(weights)
    torch.mul(squares, levels, out=scratch)
    products = scratch.sum(1, keepdim=True)
    return products, levels.mul_(levels).sum(1, keepdim=True)


def _least_squares(groups: WeightedGroups, sums: Sums) -> AffineFit:
    """The best scale and offset for given levels, in closed form; an offset above 0 cannot be stored and becomes 0."""
    total, weighted = groups.total, groups.total_weighted
    determinant = total * sums.squares - sums.levels * sums.levels
    scale = (total * sums.products - weighted * sums.levels) / determinant
    offset = (sums.squares * weighted - sums.levels * sums.products) / determinant
    through_zero = (offset > 0) | (determinant <= _LEAST_DETERMINANT * total * sums.squares)
    scale = torch.where(through_zero, sums.products / sums.squares, scale)
    offset = torch.where(through_zero, 0.0, offset)
    error = scale * (scale * sums.squares + 2 * (offset * sums.levels - sums.products))
    error += offset * (offset * total - 2 * weighted)
    return AffineFit(scale, offset, error)

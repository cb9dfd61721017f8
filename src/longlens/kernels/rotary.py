"""Rotary position embedding of queries and keys. Angles come from the model's table (`model/rope.py`)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Angles:
    """Cosines and sines for the tokens of a step, [T, rotary dims / 2], fp32."""

    cos_TR: Tensor
    sin_TR: Tensor

    def rows(self, start: int, stop: int) -> Angles:
        """Angles of tokens start..stop-1 of the step."""
        return Angles(self.cos_TR[start:stop], self.sin_TR[start:stop])


def rotate(x: Tensor, angles: Angles, *, is_interleaved: bool) -> Tensor:
    """Rotate the last axis of x, [T, ..., R], by the angles of its tokens.

    Pairs are (2j, 2j+1) when interleaved, (j, j + R/2) when not. Computed in fp32 or better, returned in x's type.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    shape = (x.shape[0], *([1] * (x.dim() - 2)), x.shape[-1] // 2)
    cos, sin = angles.cos_TR.to(wide).view(shape), angles.sin_TR.to(wide).view(shape)
    if is_interleaved:
        first, second = x[..., 0::2].to(wide), x[..., 1::2].to(wide)
    else:
        first, second = x.to(wide).chunk(2, -1)
    turned = (first * cos - second * sin, second * cos + first * sin)
    rotated = torch.stack(turned, -1).flatten(-2) if is_interleaved else torch.cat(turned, -1)
    return rotated.to(x.dtype)

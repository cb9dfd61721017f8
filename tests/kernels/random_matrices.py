"""Packed matrices of random bits with tame scales, and activations rounded as the C++ kernels round them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from longlens.formats.element_types import GGML_TYPES
from longlens.kernels.packed import PackedTensor
from longlens.kernels.packed_experts import PackedExperts

TYPES = {kind.name: kind for kind in GGML_TYPES.values()}
# Where a block's halves lie: its scale, and its minimum if it has one.
_HALVES = {
    **dict.fromkeys(("Q4_K", "Q5_K", "Q4_1", "Q5_1"), (0, 2)),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q6_K": (208,),
    "TQ1_0": (52,),
    "TQ2_0": (64,),
    **dict.fromkeys(("MXFP4", "NVFP4", "IQ1_M"), ()),
}
# Bytes that are scales in another way, and what they become: 2^-7 of E8M0, numbers of E4M3, the upper half of an fp16.
_SCALE_BYTES = {"MXFP4": {0: 120}, "NVFP4": dict.fromkeys(range(4), 0x18), "IQ1_M": {51: 0, 53: 0, 55: 0x20}}


def half_places(name: str) -> tuple[int, ...]:
    """Where in a block of that type its halves lie: its scale, then its minimum if it has one."""
    return _HALVES.get(name, (0,))


def random_matrix(name: str, shape: tuple[int, ...], seed: int = 0) -> PackedTensor:
    """Blocks of one type: every bit random, the halves between 0.005 and 0.015."""
    kind = TYPES[name]
    generator = np.random.default_rng(seed)
    num_blocks = int(np.prod(shape)) // kind.block_elements
    blocks = generator.integers(0, 256, (num_blocks, kind.block_bytes), dtype=np.uint8)
    for place in half_places(name):
        halves = generator.uniform(0.005, 0.015, (num_blocks, 1)).astype(np.float16)
        blocks[:, place : place + 2] = halves.view(np.uint8)
    for place, scale in _SCALE_BYTES.get(name, {}).items():
        blocks[:, place] = scale
    return PackedTensor(blocks.reshape(-1), kind, shape)


def random_experts(names: tuple[str, str, str], num_experts: int, hidden: int, width: int) -> PackedExperts:
    """A bank of experts: gate and up [width, hidden], down [hidden, width]."""
    shapes = ((num_experts, width, hidden), (num_experts, width, hidden), (num_experts, hidden, width))
    return PackedExperts(
        *(random_matrix(name, shape, i) for i, (name, shape) in enumerate(zip(names, shapes, strict=True)))
    )


def random_rows(tokens: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed))


def rounded(x_TX: Tensor) -> Tensor:
    """What is left of activations: int8 times a scale for every 32 numbers, in fp64."""
    groups = x_TX.float().reshape(x_TX.shape[0], -1, 32)
    largest = groups.abs().amax(-1, keepdim=True)
    inverse = torch.where(largest > 0, 127 / largest, 0)
    return ((groups * inverse).round().double() * (largest / 127).double()).reshape(x_TX.shape)


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Norm of the difference, relative to theirs."""
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())

"""The angles of rotary position embedding: one table for queries, keys and the indexer.

Frequencies are formed in fp32 and multiplied by fp32 positions, as transformers and vLLM do: near 1M tokens a more
precise table would differ from the one that checkpoints were validated with.

Source: arXiv 2104.09864 (rotary), arXiv 2309.00071 (YaRN), Llama 3.1's scaling as in transformers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from longlens.kernels.rotary import Angles
from longlens.model.config import LinearScaling, Llama3Scaling, RopeConfig, YarnScaling


class RotaryTable:
    """The frequencies of a model, and the angles of any positions."""

    def __init__(self, rope: RopeConfig, device: torch.device, factors_R: Tensor | None = None) -> None:
        """Compute the frequencies; `factors_R` divides each of them (GGUF's `rope_freqs`)."""
        frequencies_R = frequencies_of(rope)
        if factors_R is not None:
            frequencies_R = frequencies_R / factors_R.cpu().float()
        self._frequencies_R = frequencies_R.to(device)
        self._amplitude = amplitude_of(rope)

    def angles(self, positions_T: Tensor) -> Angles:
        """Cosines and sines of some positions."""
        angles_TR = positions_T.to(self._frequencies_R.device).float()[:, None] * self._frequencies_R
        return Angles(angles_TR.cos() * self._amplitude, angles_TR.sin() * self._amplitude)


def frequencies_of(rope: RopeConfig) -> Tensor:
    """Radians a position, one per pair, fp32."""
    exponents_R = torch.arange(0, rope.dim, 2, dtype=torch.float32) / rope.dim
    scaling = rope.scaling
    if isinstance(scaling, YarnScaling):
        return _yarn_frequencies(rope, scaling, rope.theta**exponents_R)
    frequencies_R: Tensor = 1.0 / rope.theta**exponents_R
    if isinstance(scaling, LinearScaling):
        return frequencies_R / scaling.factor
    if isinstance(scaling, Llama3Scaling):
        return _llama3_frequencies(frequencies_R, scaling)
    return frequencies_R


def amplitude_of(rope: RopeConfig) -> float:
    """Factor on cosines and sines: 1 but for YaRN."""
    scaling = rope.scaling
    if not isinstance(scaling, YarnScaling):
        return 1.0
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    if scaling.mscale and scaling.mscale_all_dim:
        return _mscale(scaling.factor, scaling.mscale) / _mscale(scaling.factor, scaling.mscale_all_dim)
    return _mscale(scaling.factor, 1.0)


def _mscale(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def _yarn_frequencies(rope: RopeConfig, yarn: YarnScaling, powers_R: Tensor) -> Tensor:
    low = max(math.floor(_yarn_dim(rope, yarn, yarn.beta_fast)), 0)
    high: float = min(math.ceil(_yarn_dim(rope, yarn, yarn.beta_slow)), rope.dim - 1)
    if low == high:
        high += 0.001  # as transformers: keeps the ramp finite
    ramp_R = ((torch.arange(rope.dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    keep_R = 1 - ramp_R
    return (1.0 / (yarn.factor * powers_R)) * (1 - keep_R) + (1.0 / powers_R) * keep_R


def _yarn_dim(rope: RopeConfig, yarn: YarnScaling, rotations: float) -> float:
    """The dim whose frequency turns `rotations` times within the original context."""
    turns = yarn.original_max_position_embeddings / (rotations * 2 * math.pi)
    return rope.dim * math.log(turns) / (2 * math.log(rope.theta))


def _llama3_frequencies(frequencies_R: Tensor, llama3: Llama3Scaling) -> Tensor:
    wavelength_R = 2 * math.pi / frequencies_R
    original = llama3.original_max_position_embeddings
    longest, shortest = original / llama3.low_freq_factor, original / llama3.high_freq_factor
    slowed_R = torch.where(wavelength_R > longest, frequencies_R / llama3.factor, frequencies_R)
    width = llama3.high_freq_factor - llama3.low_freq_factor
    smooth_R = (original / wavelength_R - llama3.low_freq_factor) / width
    blended_R = (1 - smooth_R) * frequencies_R / llama3.factor + smooth_R * frequencies_R
    is_between = (wavelength_R >= shortest) & (wavelength_R <= longest)
    return torch.where(is_between, blended_R, slowed_R)

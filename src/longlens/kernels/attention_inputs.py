"""What latent attention and its indexer begin with, made of smaller operations of the same kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from longlens.kernels.interface import IndexInputs, IndexInputWeights, Kernels, MlaInputs, MlaInputWeights
from longlens.kernels.rotary import Angles, rotate


def mla_inputs(kernels: Kernels, hidden_TD: Tensor, weights: MlaInputWeights, angles: Angles) -> MlaInputs:
    """Project, normalise and rotate, as `Kernels.mla_inputs`."""
    is_interleaved = weights.is_rope_interleaved
    latent_TQ = kernels.rms_norm(
        kernels.project(hidden_TD, weights.q_a_proj, is_fine=weights.is_selecting),
        weights.q_a_layernorm,
        weights.eps,
    )
    query_THX = kernels.project(latent_TQ, weights.q_b_proj).view(hidden_TD.shape[0], weights.num_heads, -1)
    nope_THN = query_THX[..., : weights.nope_dim]
    rope_THR = rotate(query_THX[..., weights.nope_dim :], angles, is_interleaved=is_interleaved)
    compressed_TX = kernels.project(hidden_TD, weights.kv_a_proj_with_mqa)
    latent_rank = weights.kv_a_layernorm.shape[0]
    key_TR = compressed_TX[:, latent_rank:]
    latent_TC = kernels.rms_norm(compressed_TX[:, :latent_rank], weights.kv_a_layernorm, weights.eps)
    rows_TX = torch.cat([latent_TC, rotate(key_TR, angles, is_interleaved=is_interleaved)], -1)
    return MlaInputs(latent_TQ, nope_THN, rope_THR, rows_TX)


def index_inputs(
    kernels: Kernels, hidden_TD: Tensor, latent_TQ: Tensor, weights: IndexInputWeights, angles: Angles
) -> IndexInputs:
    """Project, normalise and rotate, as `Kernels.index_inputs`."""
    heads, width = weights.num_heads, weights.k_norm_weight.shape[0]
    query_TJI = kernels.project(latent_TQ, weights.wq_b, is_fine=True).view(-1, heads, width)
    key_TI = kernels.layer_norm(
        kernels.project(hidden_TD, weights.wk, is_fine=True), weights.k_norm_weight, weights.k_norm_bias, weights.eps
    )
    # fp32 before any scaling: rounding these to bf16 flips near-tied selections.
    wide = torch.promote_types(hidden_TD.dtype, torch.float32)
    head_weights_TJ = kernels.project(hidden_TD.to(wide), weights.weights_proj.to(wide)) * (heads * width) ** -0.5
    return IndexInputs(_turn(query_TJI, weights, angles), _turn(key_TI, weights, angles), head_weights_TJ)


def _turn(x: Tensor, weights: IndexInputWeights, angles: Angles) -> Tensor:
    rope, rest = x[..., : weights.rope_dim], x[..., weights.rope_dim :]
    return torch.cat([rotate(rope, angles, is_interleaved=weights.is_rope_interleaved), rest], -1)

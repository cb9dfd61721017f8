"""Grouped-query attention of the llama architecture.

Source: arXiv 2305.13245; transformers, LlamaAttention.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from longlens.kernels.interface import GqaQuery, Kernels, Matrix
from longlens.kernels.rotary import rotate
from longlens.model.config import GqaConfig, RopeConfig
from longlens.model.step import Step


@dataclass(frozen=True)
class Projection:
    """A linear layer, with a bias where the checkpoint has one."""

    weight_YX: Matrix
    bias_Y: Tensor | None = None


@dataclass(frozen=True)
class GqaWeights:
    """Weights of one layer's attention, named as in the checkpoint."""

    q_proj: Projection
    k_proj: Projection
    v_proj: Projection
    o_proj: Projection


class GqaAttention:
    """Attention of one layer over every cached position."""

    def __init__(self, config: GqaConfig, rope: RopeConfig, layer: int, weights: GqaWeights, kernels: Kernels) -> None:
        """Hold one layer's attention."""
        self._config = config
        self._rope = rope
        self._layer = layer
        self._weights = weights
        self._kernels = kernels

    def forward(self, step: Step, hidden_TD: Tensor) -> Tensor:
        """Attend, for all sequences of a step; returns out_TD before the residual sum."""
        config, weights = self._config, self._weights
        query_THN = self._rotate(self._project(hidden_TD, weights.q_proj), step)
        key_TX = self._rotate(self._project(hidden_TD, weights.k_proj), step).flatten(1)
        value_TX = self._project(hidden_TD, weights.v_proj).flatten(1)
        out_THN = torch.empty_like(query_THN)
        for span in step.spans:
            rows = slice(span.first_row, span.stop_row)
            span.state.write("key", self._layer, key_TX[rows], span.first_position)
            span.state.write("value", self._layer, value_TX[rows], span.first_position)
            out_THN[rows] = self._kernels.gqa_attend(
                GqaQuery(query_THN[rows], span.first_position),
                span.state.rows("key", self._layer, span.num_positions),
                span.state.rows("value", self._layer, span.num_positions),
                scale=config.head_dim**-0.5,
            )
        return self._kernels.project(out_THN.flatten(1), weights.o_proj.weight_YX, weights.o_proj.bias_Y)

    def _project(self, hidden_TD: Tensor, projection: Projection) -> Tensor:
        heads_TX = self._kernels.project(hidden_TD, projection.weight_YX, projection.bias_Y)
        return heads_TX.view(hidden_TD.shape[0], -1, self._config.head_dim)

    def _rotate(self, x_THN: Tensor, step: Step) -> Tensor:
        dim, is_interleaved = self._rope.dim, self._rope.is_interleaved
        turned = rotate(x_THN[..., :dim], step.angles, is_interleaved=is_interleaved)
        return torch.cat([turned, x_THN[..., dim:]], -1)

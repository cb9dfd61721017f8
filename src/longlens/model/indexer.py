"""The lightning indexer of a full layer: which cached positions each token attends to.

Source: DeepSeek-V3.2 (arXiv 2512.02556); transformers, GlmMoeDsaIndexer and DeepseekV32Indexer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from longlens.kernels.interface import IndexQuery, Kernels, Matrix
from longlens.model.config import INDEXER_NORM_EPS, IndexerConfig
from longlens.model.rope import rotate
from longlens.model.step import Span, Step


@dataclass(frozen=True)
class IndexerWeights:
    """Weights of one indexer, named as in the checkpoint. `weights_proj` is fp32."""

    wq_b: Matrix
    wk: Matrix
    k_norm_weight: Tensor
    k_norm_bias: Tensor
    weights_proj: Tensor


class Indexer:
    """Scores every visible position for every token, and keeps the best."""

    def __init__(
        self, config: IndexerConfig, rope_dim: int, layer: int, weights: IndexerWeights, kernels: Kernels
    ) -> None:
        """Hold one layer's indexer; its heads are laid out [rope_dim rotated | rest], the reverse of MLA's."""
        self._config = config
        self._rope_dim = rope_dim
        self._layer = layer
        self._weights = weights
        self._kernels = kernels

    def select(self, step: Step, hidden_TD: Tensor, query_latent_TQ: Tensor) -> tuple[Tensor, ...]:
        """Write this step's index keys and choose positions.

        Args:
            step: the packed sequences.
            hidden_TD: the layer's input after its norm.
            query_latent_TQ: the query latent after its norm, shared with MLA.

        Returns:
            positions_TK of each sequence, int32, ascending, -1 padded.
        """
        query_TJI, key_TI, head_weights_TJ = self._project(step, hidden_TD, query_latent_TQ)
        chosen = []
        for span in step.spans:
            rows = slice(span.first_row, span.stop_row)
            span.state.write("index_key", self._layer, key_TI[rows], span.first_position)
            query = IndexQuery(query_TJI[rows], head_weights_TJ[rows], span.first_position)
            chosen.append(step.trace.selection(self._layer, span.number, self._select_span(span, query)))
        return tuple(chosen)

    def _project(self, step: Step, hidden_TD: Tensor, query_latent_TQ: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        config, weights, kernels = self._config, self._weights, self._kernels
        heads, width = config.index_n_heads, config.index_head_dim
        query_TJI = kernels.project(query_latent_TQ, weights.wq_b).view(-1, heads, width)
        key_TI = kernels.layer_norm(
            kernels.project(hidden_TD, weights.wk), weights.k_norm_weight, weights.k_norm_bias, INDEXER_NORM_EPS
        )
        # fp32 before any scaling: rounding these to bf16 flips near-tied selections.
        wide = torch.promote_types(hidden_TD.dtype, torch.float32)
        head_weights_TJ = kernels.project(hidden_TD.to(wide), weights.weights_proj.to(wide)) * (heads * width) ** -0.5
        return self._rotate(query_TJI, step), self._rotate(key_TI, step), head_weights_TJ

    def _rotate(self, x: Tensor, step: Step) -> Tensor:
        rope, rest = x[..., : self._rope_dim], x[..., self._rope_dim :]
        turned = rotate(rope, step.angles, is_interleaved=self._config.is_rope_interleaved)
        return torch.cat([turned, rest], -1)

    def _select_span(self, span: Span, query: IndexQuery) -> Tensor:
        keys = span.state.rows("index_key", self._layer, span.num_positions)
        if span.num_positions <= self._config.index_topk:
            return visible_positions(span, query.query_TJI.device)
        return self._kernels.index_and_select(query, keys, topk=self._config.index_topk)


def visible_positions(span: Span, device: torch.device) -> Tensor:
    """Every position that each token of a span may see, as a selection: [T, S], int32, -1 padded."""
    places_S = torch.arange(span.num_positions, dtype=torch.int32, device=device)
    own_T = span.first_position + torch.arange(span.num_rows, dtype=torch.int32, device=device)
    return torch.where(places_S <= own_T[:, None], places_S, -1)

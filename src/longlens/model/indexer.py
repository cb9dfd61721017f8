"""The lightning indexer of a full layer: which cached positions each token attends to.

Source: DeepSeek-V3.2 (arXiv 2512.02556); transformers, GlmMoeDsaIndexer and DeepseekV32Indexer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from longlens.kernels.interface import IndexInputWeights, IndexQuery, Kernels, Matrix
from longlens.model.config import INDEXER_NORM_EPS, IndexerConfig
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
        self._layer = layer
        self._kernels = kernels
        self._inputs = IndexInputWeights(
            wq_b=weights.wq_b,
            wk=weights.wk,
            k_norm_weight=weights.k_norm_weight,
            k_norm_bias=weights.k_norm_bias,
            eps=INDEXER_NORM_EPS,
            weights_proj=weights.weights_proj,
            num_heads=config.index_n_heads,
            rope_dim=rope_dim,
            is_rope_interleaved=config.is_rope_interleaved,
        )

    def select(self, step: Step, hidden_TD: Tensor, query_latent_TQ: Tensor) -> tuple[Tensor, ...]:
        """Write this step's index keys and choose positions.

        Args:
            step: the packed sequences.
            hidden_TD: the layer's input after its norm.
            query_latent_TQ: the query latent after its norm, shared with MLA.

        Returns:
            positions_TK of each sequence, int32, ascending, -1 padded.
        """
        inputs = self._kernels.index_inputs(hidden_TD, query_latent_TQ, self._inputs, step.angles)
        chosen = []
        for span in step.spans:
            rows = slice(span.first_row, span.stop_row)
            span.state.write("index_key", self._layer, inputs.key_TI[rows], span.first_position)
            query = IndexQuery(inputs.query_TJI[rows], inputs.head_weights_TJ[rows], span.first_position)
            chosen.append(step.trace.selection(self._layer, span.number, self._select_span(span, query)))
        return tuple(chosen)

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

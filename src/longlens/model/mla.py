"""Multi-head latent attention over the selected positions.

Source: DeepSeek-V2 (arXiv 2405.04434), section 2.1; transformers, GlmMoeDsaAttention.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from longlens.kernels.interface import (
    AttentionForm,
    CachedRows,
    Kernels,
    Matrix,
    MlaInputWeights,
    MlaQuery,
    PackedUpProjections,
    UpProjections,
)
from longlens.model.config import MlaConfig
from longlens.model.indexer import Indexer
from longlens.model.step import Span, Step


@dataclass(frozen=True)
class AttentionPolicy:
    """Which of the equal ways to compute attention is used.

    Attributes:
        gather_above_tokens: cached tokens above which selected rows are gathered. Up to it every visible row is
            used (at most `index_topk` of them) or a mask narrows them to the selection.
        short_form: form below the threshold; None chooses by arithmetic cost.
    """

    gather_above_tokens: int
    short_form: AttentionForm | None = None


@dataclass(frozen=True)
class MlaWeights:
    """Weights of one layer's attention, named as in the checkpoint; kv_b_proj is split per head."""

    q_a_proj: Matrix
    q_a_layernorm: Tensor
    q_b_proj: Matrix
    kv_a_proj_with_mqa: Matrix
    kv_a_layernorm: Tensor
    kv_b_proj: UpProjections
    o_proj: Matrix


@dataclass(frozen=True)
class MlaPlace:
    """Where a layer stands: its number and the full layer whose positions it uses."""

    layer: int
    leader: int
    index_topk: int


class MlaAttention:
    """Attention of one layer. A full layer has an indexer; a shared layer has none."""

    def __init__(
        self,
        config: MlaConfig,
        place: MlaPlace,
        weights: MlaWeights,
        indexer: Indexer | None,
        kernels: Kernels,
        policy: AttentionPolicy,
    ) -> None:
        """Hold one layer's attention."""
        self._config = config
        self._place = place
        self._weights = weights
        self._indexer = indexer
        self._kernels = kernels
        self._policy = policy
        self._inputs = MlaInputWeights(
            q_a_proj=weights.q_a_proj,
            q_a_layernorm=weights.q_a_layernorm,
            q_b_proj=weights.q_b_proj,
            kv_a_proj_with_mqa=weights.kv_a_proj_with_mqa,
            kv_a_layernorm=weights.kv_a_layernorm,
            eps=config.latent_norm_eps,
            num_heads=config.num_attention_heads,
            nope_dim=config.qk_nope_head_dim,
            is_rope_interleaved=config.is_rope_interleaved,
            is_selecting=indexer is not None,
        )

    def forward(self, step: Step, hidden_TD: Tensor) -> Tensor:
        """Attend, for all sequences of a step.

        Args:
            step: the packed sequences; the rows of this layer are written to their caches.
            hidden_TD: the layer's input after its norm.

        Returns:
            out_TD, before the residual sum.
        """
        config, kernels = self._config, self._kernels
        inputs = kernels.mla_inputs(hidden_TD, self._inputs, step.angles)
        for span in step.spans:
            rows_TX = inputs.rows_TX[span.first_row : span.stop_row]
            span.state.write("latent", self._place.layer, rows_TX, span.first_position)
        selections = self._selections(step, hidden_TD, inputs.latent_TQ)
        out_THV = hidden_TD.new_empty(hidden_TD.shape[0], config.num_attention_heads, config.v_head_dim)
        for span, positions_TK in zip(step.spans, selections, strict=True):
            rows = slice(span.first_row, span.stop_row)
            query = MlaQuery(inputs.nope_THN[rows], inputs.rope_THR[rows], span.first_position)
            out_THV[rows] = self._attend(span, query, positions_TK)
        return kernels.project(out_THV.flatten(1), self._weights.o_proj)

    def _selections(self, step: Step, hidden_TD: Tensor, query_latent_TQ: Tensor) -> tuple[Tensor, ...]:
        if self._indexer is not None:
            step.share.put(self._place.layer, self._indexer.select(step, hidden_TD, query_latent_TQ))
        return step.share.take(self._place.leader)

    def _attend(self, span: Span, query: MlaQuery, positions_TK: Tensor) -> Tensor:
        latents = span.state.rows("latent", self._place.layer, span.num_positions)
        up, scale = self._weights.kv_b_proj, self._config.softmax_scale
        if span.num_positions > self._policy.gather_above_tokens:
            return self._kernels.sparse_attend(query, latents, up, positions_TK, scale=scale)
        is_dense = span.num_positions <= self._place.index_topk
        return self._kernels.dense_attend(
            query,
            latents,
            up,
            scale=scale,
            form=self._policy.short_form or self._cheaper_form(query, latents),
            positions_TK=None if is_dense else positions_TK,
        )

    def _cheaper_form(self, query: MlaQuery, latents: CachedRows) -> AttentionForm:
        """Expanding a row pays when enough queries use it: fewer multiplications a score, one expansion a row.

        Packed up-projections are multiplied with at the speed of integers, while expanding rows means to unpack them.
        """
        if isinstance(self._weights.kv_b_proj, PackedUpProjections):
            return "absorbed"
        config = self._config
        absorbed = 2 * config.kv_lora_rank + config.qk_rope_head_dim
        expanded = config.qk_head_dim + config.v_head_dim
        saved = query.nope_THN.shape[0] * (absorbed - expanded) * latents.num_positions
        expansion = config.kv_lora_rank * (config.qk_nope_head_dim + config.v_head_dim) * latents.num_positions
        return "expanded" if saved > expansion else "absorbed"

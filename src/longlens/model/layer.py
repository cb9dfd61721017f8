"""A decoder layer: attention and feed-forward, each behind a norm and added to the residual stream."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from longlens.kernels.interface import Kernels
from longlens.model.step import Step


class SubLayer(Protocol):
    """Attention or feed-forward: rows in, rows out."""

    def forward(self, step: Step, hidden_TD: Tensor) -> Tensor:
        """Compute one part of a layer for all tokens of a step."""
        ...


class DecoderLayer:
    """One of the model's layers."""

    def __init__(
        self, norms: tuple[Tensor, Tensor], eps: float, attention: SubLayer, feed_forward: SubLayer, kernels: Kernels
    ) -> None:
        """Hold a layer; `norms` are input_layernorm and post_attention_layernorm."""
        self._input_norm_D, self._post_norm_D = norms
        self._eps = eps
        self._attention = attention
        self._feed_forward = feed_forward
        self._kernels = kernels

    def forward(self, step: Step, hidden_TD: Tensor) -> Tensor:
        """Run the layer on the residual stream."""
        normed_TD = self._kernels.rms_norm(hidden_TD, self._input_norm_D, self._eps)
        hidden_TD = hidden_TD + self._attention.forward(step, normed_TD)
        normed_TD = self._kernels.rms_norm(hidden_TD, self._post_norm_D, self._eps)
        return hidden_TD + self._feed_forward.forward(step, normed_TD)

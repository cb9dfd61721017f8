"""Feed-forward parts of a layer: dense, or a mixture of experts beside a shared one."""

from __future__ import annotations

from torch import Tensor

from longlens.kernels.interface import ExpertBank, FeedForward, Kernels
from longlens.model.router import Router
from longlens.model.step import Step


class DenseFeedForward:
    """The SwiGLU network of a dense layer."""

    def __init__(self, weights: FeedForward, kernels: Kernels) -> None:
        """Hold one layer's network."""
        self._weights = weights
        self._kernels = kernels

    def forward(self, step: Step, hidden_TD: Tensor) -> Tensor:  # noqa: ARG002
        """Apply the network to every token."""
        return self._kernels.feed_forward(hidden_TD, self._weights)


class MixtureOfExperts:
    """Routed experts, plus a shared expert that every token passes with unit weight."""

    def __init__(
        self, layer: int, router: Router, bank: ExpertBank, shared: FeedForward | None, kernels: Kernels
    ) -> None:
        """Hold one layer's router and experts."""
        self._layer = layer
        self._router = router
        self._bank = bank
        self._shared = shared
        self._kernels = kernels

    def forward(self, step: Step, hidden_TD: Tensor) -> Tensor:
        """Route every token and sum its experts."""
        chosen_TA, expert_weights_TA = self._kernels.route(hidden_TD, self._router.weights)
        expert_ids_TA = step.trace.experts(self._layer, chosen_TA)
        if expert_ids_TA is not chosen_TA:
            expert_weights_TA = self._router.weigh(self._router.scores(hidden_TD), expert_ids_TA)
        out_TD = self._kernels.moe(hidden_TD, expert_ids_TA, expert_weights_TA, self._bank)
        if self._shared is not None:
            out_TD = out_TD + self._kernels.feed_forward(hidden_TD, self._shared)
        return out_TD

"""The router of one layer, from the model's configuration."""

from __future__ import annotations

from torch import Tensor

from longlens.kernels.routing import RouterWeights, choose_experts, router_scores, weigh_experts
from longlens.model.config import MoeConfig


class Router:
    """Sigmoid router with correction bias and optional groups ("noaux_tc"), in fp32."""

    def __init__(self, config: MoeConfig, weight_ED: Tensor, bias_E: Tensor) -> None:
        """Hold one layer's router."""
        self.weights = RouterWeights(
            weight_ED=weight_ED,
            bias_E=bias_E,
            num_chosen=config.num_experts_per_tok,
            num_groups=config.n_group,
            num_kept_groups=config.topk_group,
            is_normalised=config.norm_topk_prob,
            factor=config.routed_scaling_factor,
        )

    def scores(self, hidden_TD: Tensor) -> Tensor:
        """Sigmoids of the router's logits, [T, E], fp32 or better."""
        return router_scores(hidden_TD, self.weights)

    def choose(self, scores_TE: Tensor) -> Tensor:
        """Expert ids of each token, [T, A], best first."""
        return choose_experts(scores_TE, self.weights)

    def weigh(self, scores_TE: Tensor, expert_ids_TA: Tensor) -> Tensor:
        """Weights of the chosen experts, [T, A]: normalised when the model says so, then scaled."""
        return weigh_experts(scores_TE, expert_ids_TA, self.weights)

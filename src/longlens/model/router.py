"""The router: which experts a token goes to, and with what weight.

The correction bias moves the choice only; the weights are the plain sigmoids. A tie is won by the lower expert.

Source: DeepSeek-V3 (arXiv 2412.19437), auxiliary-loss-free balancing; transformers, GlmMoeDsaTopkRouter.
"""

from __future__ import annotations

import torch
from torch import Tensor

from longlens.model.config import MoeConfig


class Router:
    """Sigmoid router with correction bias and optional groups ("noaux_tc"), in fp32."""

    def __init__(self, config: MoeConfig, weight_ED: Tensor, bias_E: Tensor) -> None:
        """Hold one layer's router."""
        self._config = config
        self._weight_ED = weight_ED
        self._bias_E = bias_E

    def scores(self, hidden_TD: Tensor) -> Tensor:
        """Sigmoids of the router's logits, [T, E], fp32 or better."""
        wide = torch.promote_types(hidden_TD.dtype, torch.float32)
        return (hidden_TD.to(wide) @ self._weight_ED.to(wide).T).sigmoid()

    def choose(self, scores_TE: Tensor) -> Tensor:
        """Expert ids of each token, [T, A], best first."""
        choice_TE = scores_TE + self._bias_E.to(scores_TE.dtype)
        if self._config.n_group > 1:
            choice_TE = self._keep_best_groups(choice_TE)
        return _stable_topk(choice_TE, self._config.num_experts_per_tok)

    def weigh(self, scores_TE: Tensor, expert_ids_TA: Tensor) -> Tensor:
        """Weights of the chosen experts, [T, A]: normalised when the model says so, then scaled."""
        weights_TA = scores_TE.gather(1, expert_ids_TA)
        if self._config.norm_topk_prob:
            weights_TA = weights_TA / (weights_TA.sum(-1, keepdim=True) + 1e-20)
        return weights_TA * self._config.routed_scaling_factor

    def _keep_best_groups(self, choice_TE: Tensor) -> Tensor:
        """Leave only the experts of the groups whose two best choices sum highest."""
        groups = self._config.n_group
        choice_TGE = choice_TE.view(choice_TE.shape[0], groups, -1)
        ranks_TG = choice_TGE.topk(2, dim=-1).values.sum(-1)
        kept = _stable_topk(ranks_TG, self._config.topk_group)
        is_kept_TG = torch.zeros_like(ranks_TG, dtype=torch.bool).scatter_(1, kept, True)
        return choice_TGE.masked_fill(~is_kept_TG[..., None], float("-inf")).view_as(choice_TE)


def _stable_topk(values_TX: Tensor, count: int) -> Tensor:
    return values_TX.sort(dim=-1, descending=True, stable=True).indices[:, :count]

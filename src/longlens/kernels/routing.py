"""Which experts a token goes to, and with what weight, in plain torch.

The correction bias moves the choice only; the weights are the plain sigmoids. A tie is won by the lower expert.

Source: DeepSeek-V3 (arXiv 2412.19437), auxiliary-loss-free balancing; transformers, GlmMoeDsaTopkRouter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class RouterWeights:
    """A sigmoid router with correction bias ("noaux_tc").

    Attributes:
        weight_ED: of the logits, fp32.
        bias_E: moves the choice, not the weights.
        num_chosen: experts a token.
        num_groups: groups of experts; with more than one, only the experts of the best groups may be chosen.
        num_kept_groups: how many groups that are.
        is_normalised: the chosen experts' weights sum to `factor`.
        factor: on the weights.
    """

    weight_ED: Tensor
    bias_E: Tensor
    num_chosen: int
    num_groups: int
    num_kept_groups: int
    is_normalised: bool
    factor: float


def router_scores(hidden_TD: Tensor, router: RouterWeights) -> Tensor:
    """Sigmoids of the router's logits, [T, E], fp32 or better."""
    wide = torch.promote_types(hidden_TD.dtype, torch.float32)
    return (hidden_TD.to(wide) @ router.weight_ED.to(wide).T).sigmoid()


def choose_experts(scores_TE: Tensor, router: RouterWeights) -> Tensor:
    """Expert ids of each token, [T, A], best first."""
    choice_TE = scores_TE + router.bias_E.to(scores_TE.dtype)
    if router.num_groups > 1:
        choice_TE = _keep_best_groups(choice_TE, router)
    return _stable_topk(choice_TE, router.num_chosen)


def weigh_experts(scores_TE: Tensor, expert_ids_TA: Tensor, router: RouterWeights) -> Tensor:
    """Weights of the chosen experts, [T, A]: normalised when the model says so, then scaled."""
    weights_TA = scores_TE.gather(1, expert_ids_TA)
    if router.is_normalised:
        weights_TA = weights_TA / (weights_TA.sum(-1, keepdim=True) + 1e-20)
    return weights_TA * router.factor


def _keep_best_groups(choice_TE: Tensor, router: RouterWeights) -> Tensor:
    """Leave only the experts of the groups whose two best choices sum highest."""
    choice_TGE = choice_TE.view(choice_TE.shape[0], router.num_groups, -1)
    ranks_TG = choice_TGE.topk(2, dim=-1).values.sum(-1)
    kept = _stable_topk(ranks_TG, router.num_kept_groups)
    is_kept_TG = torch.zeros_like(ranks_TG, dtype=torch.bool).scatter_(1, kept, True)
    return choice_TGE.masked_fill(~is_kept_TG[..., None], float("-inf")).view_as(choice_TE)


def _stable_topk(values_TX: Tensor, count: int) -> Tensor:
    return values_TX.sort(dim=-1, descending=True, stable=True).indices[:, :count]

"""Choice and weights of experts; the router of a model, against transformers: tests/model/test_router.py."""

from __future__ import annotations

from dataclasses import replace

import torch

from longlens.kernels.routing import RouterWeights, choose_experts, router_scores, weigh_experts

ROUTER = RouterWeights(torch.eye(6), torch.zeros(6), 2, 1, 1, True, 2.0)
HIDDEN = torch.tensor([[0.0, 3.0, 1.0, 2.0, -1.0, 0.5]])


def test_the_bias_moves_the_choice_and_not_the_weights() -> None:
    biased = replace(ROUTER, bias_E=torch.tensor([0.0, 0.0, 0.0, 0.0, 9.0, 0.0]))
    scores_TE = router_scores(HIDDEN, biased)
    assert choose_experts(scores_TE, ROUTER).tolist() == [[1, 3]]
    assert choose_experts(scores_TE, biased).tolist() == [[4, 1]]
    ids_TA = torch.tensor([[4, 1]])
    assert torch.equal(weigh_experts(scores_TE, ids_TA, biased), weigh_experts(scores_TE, ids_TA, ROUTER))


def test_normalised_weights_sum_to_the_factor() -> None:
    scores_TE = router_scores(HIDDEN, ROUTER)
    ids_TA = choose_experts(scores_TE, ROUTER)
    assert torch.allclose(weigh_experts(scores_TE, ids_TA, ROUTER).sum(), torch.tensor(2.0))
    plain = weigh_experts(scores_TE, ids_TA, replace(ROUTER, is_normalised=False))
    assert torch.allclose(plain, 2 * scores_TE.gather(1, ids_TA))


def test_only_experts_of_the_best_groups_are_chosen() -> None:
    grouped = replace(ROUTER, num_groups=3, num_kept_groups=1, num_chosen=2)
    assert choose_experts(router_scores(HIDDEN, grouped), grouped).tolist() == [[3, 2]]


def test_the_lower_expert_wins_a_tie() -> None:
    assert choose_experts(torch.ones(1, 6), ROUTER).tolist() == [[0, 1]]

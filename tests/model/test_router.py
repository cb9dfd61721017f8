from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longlens.model.config import MoeConfig
from longlens.model.router import Router


def moe(experts: int, per_token: int, **changes: Any) -> MoeConfig:
    fields: dict[str, Any] = {
        "n_routed_experts": experts,
        "num_experts_per_tok": per_token,
        "n_shared_experts": 0,
        "moe_intermediate_size": 4,
        "n_group": 1,
        "topk_group": 1,
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.0,
        "is_sparse": (True,),
    }
    return MoeConfig(**(fields | changes))


def router_of(config: MoeConfig, bias: list[float]) -> Router:
    """A router whose logits are its input."""
    return Router(config, torch.eye(config.n_routed_experts), torch.tensor(bias))


def scores_of(probabilities: list[float]) -> torch.Tensor:
    return torch.tensor([probabilities])


def test_scores_are_sigmoids_of_the_logits_in_fp32() -> None:
    router = router_of(moe(3, 1), [0.0] * 3)
    logits = torch.tensor([[0.0, 1.0, -2.0]], dtype=torch.bfloat16)
    scores = router.scores(logits)
    assert scores.dtype == torch.float32
    np.testing.assert_allclose(scores[0].numpy(), 1 / (1 + np.exp(-logits[0].float().numpy())), rtol=1e-6)


def test_the_bias_moves_the_choice_and_not_the_weights() -> None:
    router = router_of(moe(4, 2), [0.0, 0.0, 0.0, 1.0])
    scores = scores_of([0.9, 0.8, 0.3, 0.1])
    chosen = router.choose(scores)
    assert chosen.tolist() == [[3, 0]]
    assert router.weigh(scores, chosen).tolist() == [pytest.approx([0.1, 0.9])]


def test_a_tie_is_won_by_the_lower_expert() -> None:
    router = router_of(moe(6, 3), [0.0] * 6)
    assert router.choose(scores_of([0.5, 0.7, 0.5, 0.5, 0.7, 0.5])).tolist() == [[1, 4, 0]]


def test_a_bias_common_to_all_experts_changes_nothing() -> None:
    scores = torch.rand(50, 16, generator=torch.Generator().manual_seed(0))
    plain, shifted = router_of(moe(16, 4), [0.0] * 16), router_of(moe(16, 4), [8.0] * 16)
    assert torch.equal(plain.choose(scores).sort(-1).values, shifted.choose(scores).sort(-1).values)


@pytest.mark.parametrize("offset", [11.2, 34.5, 1e6, -1e6])
def test_a_huge_bias_never_makes_weights_that_are_no_numbers(offset: float) -> None:
    router = router_of(moe(8, 3, norm_topk_prob=True, routed_scaling_factor=2.5), [offset] * 8)
    scores = router.scores(torch.full((1, 8), -30.0))  # sigmoids near zero vanish beside the bias
    weights = router.weigh(scores, router.choose(scores))
    assert torch.isfinite(weights).all()
    assert float(weights.sum()) == pytest.approx(2.5, rel=1e-5)


def test_weights_are_normalised_when_the_model_says_so_and_then_scaled() -> None:
    scores, chosen = scores_of([0.6, 0.2, 0.1]), torch.tensor([[0, 1]])
    plain = router_of(moe(3, 2, routed_scaling_factor=2.5), [0.0] * 3)
    normed = router_of(moe(3, 2, norm_topk_prob=True, routed_scaling_factor=2.5), [0.0] * 3)
    assert plain.weigh(scores, chosen).tolist() == [pytest.approx([1.5, 0.5])]
    assert normed.weigh(scores, chosen).tolist() == [pytest.approx([1.875, 0.625])]


def test_experts_outside_the_kept_groups_cannot_be_chosen() -> None:
    config = moe(6, 2, n_group=3, topk_group=1)
    # Group 1 has the best pair, 0.5 + 0.5, though the single best expert lies in group 0.
    assert router_of(config, [0.0] * 6).choose(scores_of([0.9, 0.0, 0.5, 0.5, 0.3, 0.3])).tolist() == [[2, 3]]


def test_the_bias_moves_the_choice_of_groups_too() -> None:
    config = moe(6, 2, n_group=3, topk_group=1)
    router = router_of(config, [0.0, 0.0, 0.0, 0.0, 0.5, 0.5])
    assert router.choose(scores_of([0.9, 0.0, 0.5, 0.5, 0.3, 0.3])).tolist() == [[4, 5]]


def test_a_tie_between_groups_is_won_by_the_lower_group() -> None:
    config = moe(6, 2, n_group=3, topk_group=1)
    assert router_of(config, [0.0] * 6).choose(scores_of([0.1, 0.1, 0.4, 0.4, 0.4, 0.4])).tolist() == [[2, 3]]


def test_choices_of_another_implementation_get_their_own_weights() -> None:
    router = router_of(moe(4, 2, norm_topk_prob=True), [0.0] * 4)
    replayed = router.weigh(scores_of([0.9, 0.8, 0.3, 0.1]), torch.tensor([[3, 2]]))
    assert replayed.tolist() == [pytest.approx([0.25, 0.75])]


def choice_by_hand(choice: list[float], groups: int, kept: int, per_token: int) -> list[int]:
    size = len(choice) // groups
    members = [range(group * size, (group + 1) * size) for group in range(groups)]
    rank = [sum(sorted(choice[expert] for expert in group)[-2:]) for group in members]
    best_groups = sorted(range(groups), key=lambda group: (-rank[group], group))[:kept]
    allowed = [expert for group in sorted(best_groups) for expert in members[group]]
    return sorted(allowed, key=lambda expert: (-choice[expert], expert))[:per_token]


@settings(max_examples=100)
@given(data=st.data(), groups=st.sampled_from([1, 2, 4]))
def test_the_choice_is_the_one_made_by_hand_on_plateaus_of_any_shape(data: st.DataObject, groups: int) -> None:
    kept = data.draw(st.integers(1, groups))
    per_token = data.draw(st.integers(1, 8 // groups * kept))
    # quarters add without rounding, so that ties are ties
    scores = data.draw(st.lists(st.sampled_from([0.25, 0.5, 0.75]), min_size=8, max_size=8))
    bias = data.draw(st.lists(st.sampled_from([-0.25, 0.0, 0.25]), min_size=8, max_size=8))
    router = router_of(moe(8, per_token, n_group=groups, topk_group=kept), bias)
    choice = [score + extra for score, extra in zip(scores, bias, strict=True)]
    assert router.choose(scores_of(scores)).tolist() == [choice_by_hand(choice, groups, kept, per_token)]

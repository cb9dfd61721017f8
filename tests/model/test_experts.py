from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longlens.kernels.interface import FeedForward
from longlens.kernels.reference import ReferenceKernels
from longlens.model.config import MoeConfig
from longlens.model.experts import DenseFeedForward, MixtureOfExperts
from longlens.model.router import Router
from longlens.weights.expert_store import ResidentExperts
from tests.model.one_step import Replaced, random_rows, step_of

HIDDEN, WIDTH, EXPERTS, LAYER = 6, 5, 4, 3
KERNELS = ReferenceKernels()
MOE = MoeConfig(EXPERTS, 2, 1, WIDTH, 1, 1, norm_topk_prob=True, routed_scaling_factor=2.5, is_sparse=(True,))


def swiglu(x: Tensor, weights: FeedForward) -> Tensor:
    gate = x @ weights.gate_FD.T
    return (gate * gate.sigmoid() * (x @ weights.up_FD.T)) @ weights.down_DF.T


def bank() -> ResidentExperts:
    return ResidentExperts(
        random_rows(EXPERTS, WIDTH, HIDDEN, seed=1),
        random_rows(EXPERTS, WIDTH, HIDDEN, seed=2),
        random_rows(EXPERTS, HIDDEN, WIDTH, seed=3),
    )


def shared() -> FeedForward:
    return FeedForward(random_rows(7, HIDDEN, seed=4), random_rows(7, HIDDEN, seed=5), random_rows(HIDDEN, 7, seed=6))


def router() -> Router:
    return Router(MOE, random_rows(EXPERTS, HIDDEN, seed=7), random_rows(EXPERTS, seed=8))


def mixture(shared_expert: FeedForward | None) -> MixtureOfExperts:
    return MixtureOfExperts(LAYER, router(), bank(), shared_expert, KERNELS)


def by_hand(hidden: Tensor, expert_ids: Tensor) -> Tensor:
    scores = router().scores(hidden)
    rows = []
    for token, chosen in enumerate(expert_ids.tolist()):
        total = sum(scores[token, expert] for expert in chosen)
        rows.append(
            sum(2.5 * scores[token, expert] / total * swiglu(hidden[token], bank().expert(expert)) for expert in chosen)
        )
    return torch.stack(rows)  # type: ignore[arg-type]


def test_a_dense_layer_is_its_network() -> None:
    hidden = random_rows(3, HIDDEN)
    ours = DenseFeedForward(shared(), KERNELS).forward(step_of([3]), hidden)
    torch.testing.assert_close(ours, swiglu(hidden, shared()), atol=1e-12, rtol=0)


def test_chosen_experts_are_weighted_and_the_shared_expert_is_added_unscaled() -> None:
    hidden = random_rows(5, HIDDEN)
    chosen = router().choose(router().scores(hidden))
    without = mixture(None).forward(step_of([5]), hidden)
    torch.testing.assert_close(without, by_hand(hidden, chosen), atol=1e-12, rtol=0)
    beside = mixture(shared()).forward(step_of([5]), hidden)
    torch.testing.assert_close(beside, without + swiglu(hidden, shared()), atol=1e-12, rtol=0)


def test_replayed_experts_are_used_with_the_weights_that_our_router_gives_them() -> None:
    hidden = random_rows(2, HIDDEN)
    replayed = torch.tensor([[0, 1], [3, 2]])
    trace = Replaced(expert_ids_TA=replayed)
    ours = mixture(None).forward(step_of([2], trace=trace), hidden)
    assert trace.seen == [(LAYER,)]
    torch.testing.assert_close(ours, by_hand(hidden, replayed), atol=1e-12, rtol=0)


@dataclass
class Counting:
    """A bank that keeps which experts were asked for."""

    bank: ResidentExperts
    asked: list[int]

    @property
    def num_experts(self) -> int:
        return self.bank.num_experts

    def expert(self, expert_id: int) -> Any:
        self.asked.append(expert_id)
        return self.bank.expert(expert_id)


def test_only_chosen_experts_are_asked_for_and_each_once() -> None:
    counting = Counting(bank(), [])
    trace = Replaced(expert_ids_TA=torch.tensor([[1, 3], [3, 1], [1, 3]]))
    MixtureOfExperts(LAYER, router(), counting, None, KERNELS).forward(
        step_of([3], trace=trace), random_rows(3, HIDDEN)
    )
    assert counting.asked == [1, 3]

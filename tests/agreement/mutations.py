"""Five wrong models: each undoes one thing that implementations of this architecture got wrong before.

A mutation patches our own code while it is applied; the comparisons must then fail (docs/experiments/mutations.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import pytest
import torch
from torch import Tensor

from longlens.kernels import attention_inputs, reference
from longlens.kernels.interface import IndexInputWeights
from longlens.kernels.rotary import Angles
from longlens.kernels.routing import RouterWeights, weigh_experts
from longlens.kernels.running_topk import RunningTopk
from longlens.model import router as model_router
from longlens.model.index_share import IndexShare

Mutation = Callable[[pytest.MonkeyPatch], None]


def half_split_indexer_rotary(patch: pytest.MonkeyPatch) -> None:
    """Turn the indexer's queries and keys in pairs (j, j + R/2), as DeepSeek-V3.2 does and GLM does not."""

    turn = attention_inputs._turn

    def half_split(x: Tensor, weights: IndexInputWeights, angles: Angles) -> Tensor:
        return turn(x, replace(weights, is_rope_interleaved=False), angles)

    patch.setattr(attention_inputs, "_turn", half_split)


def shared_layer_takes_another_layers_set(patch: pytest.MonkeyPatch) -> None:
    """Hand shared layers the positions of the full layer before their own leader."""
    before: dict[IndexShare, tuple[Tensor, ...]] = {}
    is_fresh: set[IndexShare] = set()
    put, take = IndexShare.put, IndexShare.take

    def remembering_put(self: IndexShare, layer: int, positions: Sequence[Tensor]) -> None:
        before[self] = self._positions
        is_fresh.add(self)
        put(self, layer, positions)

    def wrong_take(self: IndexShare, leader: int) -> tuple[Tensor, ...]:
        own = take(self, leader)
        if self in is_fresh:  # the full layer itself asks first
            is_fresh.remove(self)
            return own
        return before[self] or own

    patch.setattr(IndexShare, "put", remembering_put)
    patch.setattr(IndexShare, "take", wrong_take)


def router_bias_in_the_weights(patch: pytest.MonkeyPatch) -> None:
    """Weigh experts by score plus bias, as if the bias were for more than the choice."""

    def weigh_with_bias(scores_TE: Tensor, expert_ids_TA: Tensor, router: RouterWeights) -> Tensor:
        return weigh_experts(scores_TE + router.bias_E, expert_ids_TA, router)

    patch.setattr(reference, "weigh_experts", weigh_with_bias)
    patch.setattr(model_router, "weigh_experts", weigh_with_bias)


def indexer_key_norm_without_mean(patch: pytest.MonkeyPatch) -> None:
    """Norm the indexer's keys by their root mean square (and bias), without subtracting the mean."""

    def rms(self: object, x_TX: Tensor, weight_X: Tensor, bias_X: Tensor, eps: float) -> Tensor:
        return weight_X * x_TX * torch.rsqrt(x_TX.pow(2).mean(-1, keepdim=True) + eps) + bias_X

    patch.setattr(reference.ReferenceKernels, "layer_norm", rms)


def higher_position_wins_a_tie(patch: pytest.MonkeyPatch) -> None:
    """Fill the last places of a selection with the highest of the equal positions."""

    def merged(self: RunningTopk, scores_tB: Tensor, positions_tB: Tensor, kept: int) -> RunningTopk:
        scores = torch.cat([self.scores_tK, scores_tB], 1)
        positions = torch.cat([self.positions_tK, positions_tB], 1)
        if scores.shape[1] <= kept:
            return RunningTopk(scores, positions)
        order = scores.flip(1).sort(dim=1, descending=True, stable=True).indices[:, :kept]
        places = (scores.shape[1] - 1 - order).sort(1).values
        return RunningTopk(scores.gather(1, places), positions.gather(1, places))

    patch.setattr(RunningTopk, "merged", merged)


MUTATIONS: Mapping[str, Mutation] = MappingProxyType(
    {
        "half-split instead of interleaved indexer rotary": half_split_indexer_rotary,
        "a shared layer takes another layer's set": shared_layer_takes_another_layers_set,
        "router bias added to the weights": router_bias_in_the_weights,
        "the indexer's k_norm as RMS": indexer_key_norm_without_mean,
        "a tie is won by the higher position": higher_position_wins_a_tie,
    }
)

"""Five wrong models: each undoes one thing that implementations of this architecture got wrong before.

A mutation patches our own code while it is applied; the comparisons must then fail (docs/experiments/mutations.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import pytest
import torch
from torch import Tensor

from longlens.kernels import reference
from longlens.model import indexer
from longlens.model.index_share import IndexShare
from longlens.model.rope import Angles, rotate
from longlens.model.router import Router

Mutation = Callable[[pytest.MonkeyPatch], None]


def half_split_indexer_rotary(patch: pytest.MonkeyPatch) -> None:
    """Turn the indexer's queries and keys in pairs (j, j + R/2), as DeepSeek-V3.2 does and GLM does not."""

    def half_split(x: Tensor, angles: Angles, *, is_interleaved: bool) -> Tensor:
        return rotate(x, angles, is_interleaved=False)

    patch.setattr(indexer, "rotate", half_split)


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
    weigh = Router.weigh

    def weigh_with_bias(self: Router, scores_TE: Tensor, expert_ids_TA: Tensor) -> Tensor:
        return weigh(self, scores_TE + self._bias_E, expert_ids_TA)

    patch.setattr(Router, "weigh", weigh_with_bias)


def indexer_key_norm_without_mean(patch: pytest.MonkeyPatch) -> None:
    """Norm the indexer's keys by their root mean square (and bias), without subtracting the mean."""

    def rms(self: object, x_TX: Tensor, weight_X: Tensor, bias_X: Tensor, eps: float) -> Tensor:
        return weight_X * x_TX * torch.rsqrt(x_TX.pow(2).mean(-1, keepdim=True) + eps) + bias_X

    patch.setattr(reference.ReferenceKernels, "layer_norm", rms)


def higher_position_wins_a_tie(patch: pytest.MonkeyPatch) -> None:
    """Fill the last places of a selection with the highest of the equal positions."""

    def merged(self: reference._Best, scores_tB: Tensor, positions_tB: Tensor, kept: int) -> reference._Best:
        scores = torch.cat([self.scores_tK, scores_tB], 1)
        positions = torch.cat([self.positions_tK, positions_tB], 1)
        if scores.shape[1] <= kept:
            return reference._Best(scores, positions)
        order = scores.flip(1).sort(dim=1, descending=True, stable=True).indices[:, :kept]
        places = (scores.shape[1] - 1 - order).sort(1).values
        return reference._Best(scores.gather(1, places), positions.gather(1, places))

    patch.setattr(reference._Best, "merged", merged)


MUTATIONS: Mapping[str, Mutation] = MappingProxyType(
    {
        "half-split instead of interleaved indexer rotary": half_split_indexer_rotary,
        "a shared layer takes another layer's set": shared_layer_takes_another_layers_set,
        "router bias added to the weights": router_bias_in_the_weights,
        "the indexer's k_norm as RMS": indexer_key_norm_without_mean,
        "a tie is won by the higher position": higher_position_wins_a_tie,
    }
)

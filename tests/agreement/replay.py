"""A step trace that replaces our choices by those that another implementation made on the same sequence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass
class Replay:
    """Recorded positions and experts of one sequence, read in one step.

    Attributes:
        positions: by full layer, [T, K], -1 where a row has fewer.
        expert_ids: by layer, [T, A].
        own_positions: what our indexers chose before they were overruled.
        own_expert_ids: what our routers chose before they were overruled.
    """

    positions: Mapping[int, np.ndarray]
    expert_ids: Mapping[int, np.ndarray]
    own_positions: dict[int, np.ndarray] = field(default_factory=dict)
    own_expert_ids: dict[int, np.ndarray] = field(default_factory=dict)

    def selection(self, layer: int, span: int, positions_TK: Tensor) -> Tensor:
        assert span == 0, "one sequence alone"
        self.own_positions[layer] = positions_TK.numpy()
        recorded = torch.from_numpy(self.positions[layer].astype(np.int32))
        assert recorded.shape[0] == positions_TK.shape[0], "the whole sequence in one step"
        return recorded

    def experts(self, layer: int, expert_ids_TA: Tensor) -> Tensor:
        self.own_expert_ids[layer] = expert_ids_TA.sort(-1).values.numpy()
        recorded = torch.from_numpy(self.expert_ids[layer].astype(np.int64))
        assert recorded.shape == expert_ids_TA.shape, "the whole sequence in one step"
        return recorded

    def num_other_rows(self) -> tuple[int, int]:
        """Rows whose own choice was another, and rows in all."""
        pairs = [(self.own_positions[layer], rows) for layer, rows in self.positions.items()]
        pairs += [(self.own_expert_ids[layer], rows) for layer, rows in self.expert_ids.items()]
        # sorted, because -1 stands first or last
        other = sum(int((np.sort(ours) != np.sort(theirs)).any(1).sum()) for ours, theirs in pairs)
        return other, sum(len(theirs) for _, theirs in pairs)

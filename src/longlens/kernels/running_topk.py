"""The best of a row of scores that comes in pieces."""

from __future__ import annotations

import torch
from torch import Tensor


class RunningTopk:
    """The best positions of some rows so far, ascending, with their scores."""

    def __init__(self, scores_tK: Tensor, positions_tK: Tensor) -> None:
        """Begin with some scores and their positions, ascending."""
        self.scores_tK = scores_tK
        self.positions_tK = positions_tK

    def merged(self, scores_tB: Tensor, positions_tB: Tensor, kept: int) -> RunningTopk:
        """Join later positions and keep the `kept` best; an earlier position wins a tie."""
        scores = torch.cat([self.scores_tK, scores_tB], 1)
        positions = torch.cat([self.positions_tK, positions_tB], 1)
        if scores.shape[1] <= kept:
            return RunningTopk(scores, positions)
        threshold_t = scores.topk(kept, dim=1, sorted=True).values[:, -1:]
        above = scores > threshold_t
        equal = scores == threshold_t
        # Columns ascend in position, so the first equals are the lowest positions.
        room_t = kept - above.sum(1, keepdim=True)
        chosen = above | (equal & (equal.cumsum(1) <= room_t))
        columns = chosen.nonzero()[:, 1].view(scores.shape[0], kept)
        return RunningTopk(scores.gather(1, columns), positions.gather(1, columns))

from __future__ import annotations

import torch

from longlens.model.trace import NoTrace


def test_nobody_watching_changes_nothing() -> None:
    positions, experts = torch.tensor([[0, 2, -1]]), torch.tensor([[3, 1]])
    assert NoTrace().selection(4, 0, positions) is positions
    assert NoTrace().experts(4, experts) is experts

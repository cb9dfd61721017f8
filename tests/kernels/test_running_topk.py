"""The best of scores that come in pieces; over tiles of keys, against one sort: tests/kernels/test_reference.py."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from longlens.kernels.running_topk import RunningTopk


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 12), st.integers(1, 9))
def test_pieces_give_what_a_stable_sort_of_all_gives(values: list[int], kept: int, size: int) -> None:
    scores = torch.tensor([values], dtype=torch.float32)
    best = RunningTopk(torch.empty(1, 0), torch.empty(1, 0, dtype=torch.int32))
    for start in range(0, len(values), size):
        positions = torch.arange(start, min(start + size, len(values)), dtype=torch.int32)[None]
        best = best.merged(scores[:, start : start + size], positions, kept)
    expected = scores.sort(dim=1, descending=True, stable=True).indices[:, :kept].sort(1).values
    assert best.positions_tK.tolist() == expected.tolist()
    assert torch.equal(best.scores_tK, scores.gather(1, expected))

"""Rotation of queries and keys. Angles and pairs against the published formula: tests/model/test_rope.py."""

from __future__ import annotations

import torch

from longlens.kernels.rotary import Angles, rotate


def test_rows_of_angles_are_those_of_some_tokens() -> None:
    angles = Angles(torch.arange(12.0).view(6, 2), -torch.arange(12.0).view(6, 2))
    part = angles.rows(2, 4)
    assert torch.equal(part.cos_TR, angles.cos_TR[2:4])
    assert torch.equal(part.sin_TR, angles.sin_TR[2:4])


def test_a_quarter_turn_moves_each_pair_onto_itself() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    quarter = Angles(torch.zeros(1, 2), torch.ones(1, 2))
    assert rotate(x, quarter, is_interleaved=True).tolist() == [[-2.0, 1.0, -4.0, 3.0]]
    assert rotate(x, quarter, is_interleaved=False).tolist() == [[-3.0, -4.0, 1.0, 2.0]]

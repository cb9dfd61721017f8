from __future__ import annotations

import torch
from torch import Tensor

from longlens.kernels.reference import ReferenceKernels
from longlens.model.layer import DecoderLayer
from longlens.model.step import Step
from tests.model.one_step import random_rows, step_of

KERNELS = ReferenceKernels()


class Linear:
    """A part of a layer that multiplies its rows, and keeps what it was given."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.given: list[Tensor] = []

    def forward(self, step: Step, hidden_TD: Tensor) -> Tensor:
        self.given.append(hidden_TD)
        return self.factor * hidden_TD


def test_each_part_reads_the_normed_stream_and_adds_to_the_stream_itself() -> None:
    hidden = random_rows(4, 8)
    norms = random_rows(8, seed=1), random_rows(8, seed=2)
    attention, feed_forward = Linear(2.0), Linear(3.0)
    out = DecoderLayer(norms, 1e-5, attention, feed_forward, KERNELS).forward(step_of([4]), hidden)

    first = norms[0] * hidden / (hidden.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    middle = hidden + 2 * first
    second = norms[1] * middle / (middle.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(attention.given[0], first, atol=1e-12, rtol=0)
    torch.testing.assert_close(feed_forward.given[0], second, atol=1e-12, rtol=0)
    torch.testing.assert_close(out, middle + 3 * second, atol=1e-12, rtol=0)


def test_parts_that_give_nothing_leave_the_stream_as_it_is() -> None:
    hidden = random_rows(2, 8)
    norms = random_rows(8, seed=1), random_rows(8, seed=2)
    layer = DecoderLayer(norms, 1e-5, Linear(0.0), Linear(0.0), KERNELS)
    assert torch.equal(layer.forward(step_of([2]), hidden), hidden)

from __future__ import annotations

import torch

from longlens.model.step import Span
from tests.golden_models import ListState
from tests.model.one_step import step_of


def test_a_span_knows_its_rows_and_how_far_its_sequence_reaches() -> None:
    span = Span(number=1, first_row=4, num_rows=3, first_position=10, state=ListState())
    assert span.stop_row == 7
    assert span.num_positions == 13


def test_spans_of_a_step_lie_one_after_another() -> None:
    step = step_of([4, 1, 2], starts=[0, 9, 5])
    assert [(span.first_row, span.stop_row) for span in step.spans] == [(0, 4), (4, 5), (5, 7)]
    assert step.angles.cos_TR.shape == (7, 4)
    assert torch.equal(step.angles.cos_TR[4], step_of([1], starts=[9]).angles.cos_TR[0])

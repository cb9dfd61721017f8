"""A step over one or more sequences, made by hand, for tests of single parts of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from longlens.model.config import RopeConfig
from longlens.model.index_share import IndexShare
from longlens.model.rope import RotaryTable
from longlens.model.step import Span, Step
from longlens.model.trace import NoTrace, StepTrace
from tests.golden_models import ListState

ROPE = RopeConfig(theta=10000.0, dim=8, is_interleaved=True)


@dataclass
class Replaced:
    """A trace that replaces every selection and every choice of experts."""

    positions_TK: Tensor | None = None
    expert_ids_TA: Tensor | None = None
    seen: list[tuple[int, ...]] = field(default_factory=list)

    def selection(self, layer: int, span: int, positions_TK: Tensor) -> Tensor:
        self.seen.append((layer, span))
        return positions_TK if self.positions_TK is None else self.positions_TK

    def experts(self, layer: int, expert_ids_TA: Tensor) -> Tensor:
        self.seen.append((layer,))
        return expert_ids_TA if self.expert_ids_TA is None else self.expert_ids_TA


def step_of(
    lengths: Sequence[int],
    *,
    starts: Sequence[int] | None = None,
    states: Sequence[ListState] | None = None,
    rope: RopeConfig = ROPE,
    trace: StepTrace | None = None,
) -> Step:
    """Pack sequences of these many tokens, from these first positions on, with these caches."""
    starts = starts or [0] * len(lengths)
    states = states or [ListState() for _ in lengths]
    spans, row = [], 0
    for number, (length, start, state) in enumerate(zip(lengths, starts, states, strict=True)):
        spans.append(Span(number, row, length, start, state))
        row += length
    positions = [torch.arange(span.first_position, span.num_positions) for span in spans]
    angles = RotaryTable(rope, torch.device("cpu")).angles(torch.cat(positions))
    return Step(tuple(spans), angles, IndexShare(), trace or NoTrace())


def random_rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)

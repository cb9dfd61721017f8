"""What all layers of one step share: the packed tokens, their angles, the carry of positions, and who watches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from longlens.model.index_share import IndexShare
from longlens.model.rope import Angles
from longlens.model.state import SequenceState


class StepTrace(Protocol):
    """Sees what a step chose, and may replace it (to replay the choices of another implementation)."""

    def selection(self, layer: int, span: int, positions_TK: Tensor) -> Tensor:
        """Take the positions that a full layer chose for one sequence; return those to use."""
        ...

    def experts(self, layer: int, expert_ids_TA: Tensor) -> Tensor:
        """Take the experts that a layer's router chose for all tokens of the step; return those to use."""
        ...


class NoTrace:
    """Watches nothing and changes nothing."""

    def selection(self, layer: int, span: int, positions_TK: Tensor) -> Tensor:  # noqa: ARG002
        """Return the positions as they are."""
        return positions_TK

    def experts(self, layer: int, expert_ids_TA: Tensor) -> Tensor:  # noqa: ARG002
        """Return the experts as they are."""
        return expert_ids_TA


@dataclass(frozen=True)
class Span:
    """The rows of one sequence in the packed step."""

    number: int
    first_row: int
    num_rows: int
    first_position: int
    state: SequenceState

    @property
    def stop_row(self) -> int:
        """One past the last row."""
        return self.first_row + self.num_rows

    @property
    def num_positions(self) -> int:
        """Cached tokens once this step's are written."""
        return self.first_position + self.num_rows


@dataclass(frozen=True)
class Step:
    """One step over several sequences."""

    spans: Sequence[Span]
    angles: Angles
    share: IndexShare
    trace: StepTrace

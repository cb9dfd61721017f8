"""What all layers of one step share: the packed tokens, their angles, the carry of positions, and who watches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from longlens.kernels.rotary import Angles
from longlens.model.index_share import IndexShare
from longlens.model.state import SequenceState
from longlens.model.trace import StepTrace


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

"""Who watches a step: sees what it chose, and may replace it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


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

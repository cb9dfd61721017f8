"""IndexShare: a shared layer attends to the positions that the last full layer chose.

The carry is overwritten at each full layer. Positions are places in the sequence, so they are valid in every layer. A
shared layer never computes a selection of its own: without the right carry it raises.

Source: arXiv 2603.12201.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from longlens.errors import SelectionError


class IndexShare:
    """The carry of one step: the chosen positions of every sequence, and the layer that chose them."""

    def __init__(self) -> None:
        """Start empty, as every step does."""
        self._layer: int | None = None
        self._positions: tuple[Tensor, ...] = ()

    def put(self, layer: int, positions: Sequence[Tensor]) -> None:
        """Keep a full layer's positions_TK, one tensor a sequence of the step."""
        self._layer = layer
        self._positions = tuple(positions)

    def take(self, leader: int) -> tuple[Tensor, ...]:
        """The positions that the full layer `leader` chose in this step.

        Raises:
            SelectionError: another layer, or none, has put its positions last.
        """
        if self._layer != leader:
            last = "no layer" if self._layer is None else f"layer {self._layer}"
            raise SelectionError(
                f"a shared layer needs the positions of layer {leader}, but {last} chose last",
                "run the layers in order, from a full layer on",
            )
        return self._positions

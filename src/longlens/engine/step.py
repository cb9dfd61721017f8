"""One step: rows of several sequences through the model, all committed or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from longlens.cache.sequence_cache import SequenceCache
from longlens.model.state import CausalModel, SequenceChunk, never_cancelled

WantedRows = Literal["none", "last", "all"]
# A full layer's number, and the positions [K], -1 padded, that one token attends to from it on.
SelectionObserver = Callable[[int, Tensor], None]


@dataclass(frozen=True)
class StepPart:
    """One sequence's part of a step.

    Attributes:
        cache: its rows so far.
        token_ids: tokens whose rows are computed, from position `cache.length` on.
        wanted: the rows whose logits are wanted.
        on_selection: told, once the step has succeeded, what the last row selected, if its logits are wanted.
    """

    cache: SequenceCache
    token_ids: Sequence[int]
    wanted: WantedRows
    on_selection: SelectionObserver | None = None


class _LastSelections:
    """A step trace that keeps the last row's selections of the parts that want them, and changes nothing."""

    def __init__(self, parts: Sequence[StepPart]) -> None:
        self._wanting = {
            span for span, part in enumerate(parts) if part.on_selection is not None and part.wanted != "none"
        }
        self._kept: list[tuple[int, int, Tensor]] = []

    def selection(self, layer: int, span: int, positions_TK: Tensor) -> Tensor:
        """Keep the last row."""
        if span in self._wanting:
            # A copy, so that one row does not keep the whole step's selections alive.
            self._kept.append((span, layer, positions_TK[-1].clone()))
        return positions_TK

    def experts(self, layer: int, expert_ids_TA: Tensor) -> Tensor:  # noqa: ARG002
        """Keep nothing."""
        return expert_ids_TA

    def tell(self, parts: Sequence[StepPart]) -> None:
        """Hand on what was kept."""
        for span, layer, positions_K in self._kept:
            observer = parts[span].on_selection
            if observer is not None:
                observer(layer, positions_K)


def run_step(
    model: CausalModel, parts: Sequence[StepPart], *, is_cancelled: Callable[[], bool] = never_cancelled
) -> list[Tensor]:
    """Compute and commit the rows of all parts.

    Args:
        model: the model.
        parts: at least one; packed in this order.
        is_cancelled: looked at between layers.

    Returns:
        For each part its fp32 logits [rows wanted, vocab_size].

    Raises:
        CancelledError: `is_cancelled` answered true.
        CapacityError: a part's rows do not fit the pool.

        After any exception no part has changed.
    """
    trace = _LastSelections(parts)
    try:
        chunks = []
        for part in parts:
            part.cache.reserve(len(part.token_ids))
            chunks.append(SequenceChunk(part.token_ids, part.cache.length, part.cache))
        with torch.inference_mode():
            hidden_TD = model.forward(chunks, is_cancelled=is_cancelled, trace=trace)
            logits = _wanted_logits(model, parts, hidden_TD)
        if hidden_TD.is_cuda:
            torch.cuda.synchronize(hidden_TD.device)  # so that the caller's clock sees the work, and faults land here
        for part in parts:
            part.cache.commit(len(part.token_ids))
    finally:
        for part in parts:
            part.cache.drop_uncommitted()
    trace.tell(parts)
    return logits


def _wanted_logits(model: CausalModel, parts: Sequence[StepPart], hidden_TD: Tensor) -> list[Tensor]:
    rows: list[int] = []
    counts: list[int] = []
    end = 0
    for part in parts:
        end += len(part.token_ids)
        first = {"none": end, "last": end - 1, "all": end - len(part.token_ids)}[part.wanted]
        rows.extend(range(first, end))
        counts.append(end - first)
    if not rows:
        return [hidden_TD.new_empty((0, model.vocab_size), dtype=torch.float32) for _ in parts]
    selected_TD = hidden_TD[torch.tensor(rows, device=hidden_TD.device)]
    return list(torch.split(model.logits(selected_TD), counts))

"""The whole decoder: token ids and caches in, hidden rows and logits out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longlens.errors import CancelledError, UsageError
from longlens.kernels.interface import Kernels, Matrix
from longlens.model.config import ModelConfig
from longlens.model.index_share import IndexShare
from longlens.model.layer import DecoderLayer
from longlens.model.rope import RotaryTable
from longlens.model.state import CacheSpec, SequenceChunk, never_cancelled
from longlens.model.step import Span, Step
from longlens.model.trace import NoTrace, StepTrace


@dataclass(frozen=True)
class Ends:
    """What stands before the first layer and after the last."""

    embedding_VD: Matrix
    norm_D: Tensor
    head_VD: Matrix


class Transformer:
    """A model that is ready to run. Built by `model/build.py`."""

    def __init__(
        self,
        config: ModelConfig,
        cache_spec: CacheSpec,
        ends: Ends,
        layers: Sequence[DecoderLayer],
        rotary: RotaryTable,
        kernels: Kernels,
    ) -> None:
        """Hold all parts; nothing is read or computed here."""
        self.config = config
        self.cache_spec = cache_spec
        self.kernels = kernels
        self._ends = ends
        self._layers = tuple(layers)
        self._rotary = rotary

    @property
    def vocab_size(self) -> int:
        """Rows of the logits' last axis."""
        return self._ends.head_VD.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._ends.norm_D.device

    def forward(
        self,
        chunks: Sequence[SequenceChunk],
        *,
        is_cancelled: Callable[[], bool] = never_cancelled,
        trace: StepTrace | None = None,
    ) -> Tensor:
        """Run one step over the chunks of several sequences.

        Args:
            chunks: one per sequence; their tokens are packed in this order.
            is_cancelled: looked at between layers.
            trace: sees, and may replace, selections and expert choices.

        Returns:
            hidden_TD after the final norm, T = all tokens of all chunks.

        Raises:
            UsageError: a token id outside of the vocabulary, or an empty chunk.
            CancelledError: `is_cancelled` answered true; rows of this step in the caches are to be dropped.
        """
        token_ids_T = self._token_ids(chunks)
        spans = _spans(chunks)
        positions_T = torch.cat(
            [torch.arange(span.first_position, span.num_positions, device=self.device) for span in spans]
        )
        step = Step(spans, self._rotary.angles(positions_T), IndexShare(), trace or NoTrace())
        hidden_TD = self.kernels.embed(token_ids_T, self._ends.embedding_VD, self._ends.norm_D.dtype)
        for layer in self._layers:
            if is_cancelled():
                raise CancelledError("the step was cancelled", "run it again; finished chunks are kept")
            hidden_TD = layer.forward(step, hidden_TD)
        return self.kernels.rms_norm(hidden_TD, self._ends.norm_D, self.config.rms_norm_eps)

    def logits(self, hidden_TD: Tensor) -> Tensor:
        """Logits in fp32 for some rows of `forward`'s result, [T, vocab_size]."""
        return self.kernels.head(hidden_TD, self._ends.head_VD)

    def _token_ids(self, chunks: Sequence[SequenceChunk]) -> Tensor:
        if not all(chunk.token_ids for chunk in chunks) or not chunks:
            raise UsageError("a sequence has no token to compute", "give at least one token id")
        token_ids = [token_id for chunk in chunks for token_id in chunk.token_ids]
        lowest, highest = min(token_ids), max(token_ids)
        if lowest < 0 or highest >= self.config.vocab_size:
            wrong = lowest if lowest < 0 else highest
            raise UsageError(
                f"token id {wrong} is outside of the vocabulary of {self.config.vocab_size}",
                "encode text with this model's own tokenizer",
            )
        return torch.tensor(token_ids, dtype=torch.int64, device=self.device)


def _spans(chunks: Sequence[SequenceChunk]) -> tuple[Span, ...]:
    spans = []
    row = 0
    for number, chunk in enumerate(chunks):
        spans.append(Span(number, row, len(chunk.token_ids), chunk.first_position, chunk.state))
        row += len(chunk.token_ids)
    return tuple(spans)

"""What one turn read, wrote and cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class TurnRecord:
    """Counts and times of one turn. A session's turn begins when the turn before it ends, so reading ahead counts.

    Attributes:
        prompt_tokens: tokens that the answer could see, those of earlier turns included.
        cached_tokens: of these, the ones whose rows were there when the turn began.
        read_tokens: rows computed in this turn before the first token of the answer; a token is read once, so this is
            `prompt_tokens - cached_tokens` unless the turn was cancelled, or rewound tokens that it had read.
        completion_tokens: tokens of the answer; a stop id that ended it is not one of them.
        prefill_s: seconds of the steps that read, shared steps counted whole.
        decode_s: seconds of the steps that wrote, sampling included; the caller's own time between tokens is not.
        ttft_s: seconds of reading ahead, plus wall-clock seconds from the request to its first token, waiting in the
            queue included; None when there was no token.
        finish_reason: why it ended.
    """

    prompt_tokens: int
    cached_tokens: int
    read_tokens: int
    completion_tokens: int
    prefill_s: float
    decode_s: float
    ttft_s: float | None
    finish_reason: FinishReason


@dataclass
class TurnMeter:
    """The running counts of a turn that has not ended; fields as in `TurnRecord`."""

    cached_tokens: int = 0
    read_tokens: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    ttft_s: float | None = None

    def record(self, *, prompt_tokens: int, completion_tokens: int, finish_reason: FinishReason) -> TurnRecord:
        """Close the turn's books."""
        return TurnRecord(
            prompt_tokens=prompt_tokens,
            cached_tokens=self.cached_tokens,
            read_tokens=self.read_tokens,
            completion_tokens=completion_tokens,
            prefill_s=self.prefill_s,
            decode_s=self.decode_s,
            ttft_s=self.ttft_s,
            finish_reason=finish_reason,
        )

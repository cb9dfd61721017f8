"""What a request gives back: pieces of text as they come, then one record of how it went."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from longlens.engine.turn_record import FinishReason, TurnRecord
from longlens.text.reply import ReasoningDelta, TextDelta, ToolCallDelta

CacheSource = Literal["none", "memory", "disk"]


@dataclass(frozen=True)
class Usage:
    """Tokens of a request.

    Attributes:
        prompt_tokens: tokens that the answer could see.
        cached_tokens: of these, the ones that were not read again.
        read_tokens: of these, the ones that were read for this request.
        completion_tokens: tokens of the answer.
        cache_source: where the cached ones came from.
        cache_verified: whether a stored cache was checked against this model; true also where nothing was taken.
    """

    prompt_tokens: int
    cached_tokens: int
    read_tokens: int
    completion_tokens: int
    cache_source: CacheSource
    cache_verified: bool


@dataclass(frozen=True)
class Timings:
    """Seconds of a request; `load_s` is that of the model, once."""

    load_s: float
    ttft_s: float | None
    prefill_s: float
    decode_s: float


@dataclass(frozen=True)
class Finished:
    """The last event of a request."""

    finish_reason: FinishReason
    usage: Usage
    timings: Timings

    def as_json(self) -> dict[str, object]:
        """Plain values for json.dumps."""
        return asdict(self)


ChatEvent = ReasoningDelta | TextDelta | ToolCallDelta | Finished


def finished(record: TurnRecord, load_s: float) -> Finished:
    """Turn the engine's record into the last event of a request."""
    return Finished(
        finish_reason=record.finish_reason,
        usage=Usage(
            prompt_tokens=record.prompt_tokens,
            cached_tokens=record.cached_tokens,
            read_tokens=record.read_tokens,
            completion_tokens=record.completion_tokens,
            # Rows that were there when the turn began are this process's own: nothing is stored on disk yet.
            cache_source="memory" if record.cached_tokens else "none",
            cache_verified=True,
        ),
        timings=Timings(load_s, record.ttft_s, record.prefill_s, record.decode_s),
    )

"""What the engine says while it works. Token ids only; text is made of them above."""

from __future__ import annotations

from dataclasses import dataclass

from longlens.engine.turn_record import TurnRecord
from longlens.errors import LonglensError


@dataclass(frozen=True)
class TokenEvent:
    """A sequence has one more token."""

    sequence: int
    token_id: int


@dataclass(frozen=True)
class FinishedEvent:
    """A sequence ended as asked: its last event.

    Attributes:
        sequence: its number.
        record: counts, times and the reason.
        stop_token_id: the stop id that ended it; it is neither in a `TokenEvent` nor in the sequence's tokens.
    """

    sequence: int
    record: TurnRecord
    stop_token_id: int | None = None


@dataclass(frozen=True)
class FailedEvent:
    """A sequence could not go on, others can: its last event."""

    sequence: int
    error: LonglensError


EngineEvent = TokenEvent | FinishedEvent | FailedEvent

"""What a reply is made of, as it arrives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class ReasoningDelta:
    """More of what the model thinks."""

    text: str


@dataclass(frozen=True)
class TextDelta:
    """More of what the model says."""

    text: str


@dataclass(frozen=True)
class ToolCallDelta:
    """More of a tool call; the first one of an index says that the call begins.

    Attributes:
        index: its place among the calls of this reply, from 0.
        id: how its result refers to it.
        name: the function.
        arguments: the next piece of a JSON object. Only a finished call's pieces make a whole object.
    """

    index: int
    id: str
    name: str
    arguments: str


ReplyEvent = ReasoningDelta | TextDelta | ToolCallDelta


def merge_events(events: Iterable[ReplyEvent]) -> list[ReplyEvent]:
    """Join neighbours that continue one another."""
    merged: list[ReplyEvent] = []
    for event in events:
        last = merged[-1] if merged else None
        if isinstance(event, ToolCallDelta) and isinstance(last, ToolCallDelta) and last.index == event.index:
            merged[-1] = replace(last, arguments=last.arguments + event.arguments)
        elif isinstance(event, ReasoningDelta) and isinstance(last, ReasoningDelta):
            merged[-1] = ReasoningDelta(last.text + event.text)
        elif isinstance(event, TextDelta) and isinstance(last, TextDelta):
            merged[-1] = TextDelta(last.text + event.text)
        else:
            merged.append(event)
    return merged

from __future__ import annotations

from longlens.text.events import ReasoningDelta, TextDelta, ToolCallDelta, merge_events


def test_neighbours_that_continue_one_another_are_joined() -> None:
    first, second = ToolCallDelta(0, "call_0", "f", ""), ToolCallDelta(1, "call_1", "f", "")
    events = [
        *(ReasoningDelta("a"), ReasoningDelta("b"), TextDelta("c"), TextDelta("d")),
        *(first, ToolCallDelta(0, "call_0", "f", "{"), ToolCallDelta(0, "call_0", "f", "}"), second),
        TextDelta("e"),
    ]
    assert merge_events(events) == [
        *(ReasoningDelta("ab"), TextDelta("cd"), ToolCallDelta(0, "call_0", "f", "{}"), second, TextDelta("e")),
    ]


def test_others_stay_apart() -> None:
    events = [TextDelta("a"), ReasoningDelta("b"), TextDelta("c")]
    assert merge_events(events) == events
    assert merge_events([]) == []

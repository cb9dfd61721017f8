from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.text.messages import Tool
from longlens.text.reply import (
    MARKERS,
    ReasoningDelta,
    ReplyEvent,
    ReplyParser,
    TextDelta,
    ToolCallDelta,
    merge_events,
    opens_reasoning,
)
from longlens.text.segments import ControlTokens, Segment
from longlens.text.stream_decoder import StreamDecoder
from longlens.text.tokenizer import Tokenizer
from tests.text.vocabularies import glm_json

TOOLS = (
    Tool({"name": "read", "parameters": {"properties": {"path": {"type": "string"}, "line": {"type": "integer"}}}}),
    Tool({"name": "now"}),
)
GLM = Tokenizer.from_json(glm_json())
CONTROL = ControlTokens(MARKERS)

Pieces = Iterable[str | Segment]


def parse(
    pieces: Pieces, *, tools: tuple[Tool, ...] = TOOLS, starts_in_reasoning: bool = False
) -> tuple[list[ReplyEvent], ReplyParser]:
    parser = ReplyParser(tools=tools, starts_in_reasoning=starts_in_reasoning)
    events = [event for piece in pieces for event in parser.push(piece)] + parser.finish()
    return merge_events(events), parser


def by_tokens(text: str) -> list[Segment]:
    """The reply as the model makes it: markers as control tokens, token by token."""
    decoder = StreamDecoder(GLM)
    ids = GLM.encode_rendered(GLM.control.split(text))
    return [segment for token_id in ids for segment in decoder.push_segments(token_id)]


def events_of(text: str, *, starts_in_reasoning: bool = False) -> list[ReplyEvent]:
    """Parse text in one piece, by characters and by tokens, which must agree."""
    options = {"starts_in_reasoning": starts_in_reasoning}
    events, _ = parse([text], **options)
    assert parse(text, **options)[0] == events
    assert parse(by_tokens(text), **options)[0] == events
    return events


def test_plain_text_is_text() -> None:
    assert events_of(" Hello,\n world! \n") == [TextDelta(" Hello,\n world! \n")]


def test_reasoning_comes_before_the_text() -> None:
    assert events_of("<think>Hm. </think>\n\nYes.") == [ReasoningDelta("Hm. "), TextDelta("Yes.")]


def test_a_reply_may_begin_inside_of_the_reasoning() -> None:
    assert events_of("Hm.</think>Yes.", starts_in_reasoning=True) == [ReasoningDelta("Hm."), TextDelta("Yes.")]
    assert events_of("<think>Hm.</think>Yes.", starts_in_reasoning=True) == [ReasoningDelta("Hm."), TextDelta("Yes.")]
    assert events_of("</think>Yes.", starts_in_reasoning=True) == [TextDelta("Yes.")]


def test_reasoning_that_never_ends_is_reasoning() -> None:
    assert events_of("Hm. <", starts_in_reasoning=True) == [ReasoningDelta("Hm. <")]


def test_a_call_is_read() -> None:
    text = (
        "I look.\n<tool_call>read<arg_key>path</arg_key><arg_value>a.py</arg_value>"
        "<arg_key>line</arg_key><arg_value>7</arg_value></tool_call>"
    )
    assert events_of(text) == [
        TextDelta("I look."),
        ToolCallDelta(0, "call_0", "read", '{"path": "a.py", "line": 7}'),
    ]


def test_strings_are_taken_as_they_are() -> None:
    value = " \"x\"\n{'a': <b>} \\ 5 \u2028 é"
    text = f"<tool_call>read<arg_key>path</arg_key><arg_value>{value}</arg_value></tool_call>"
    [call] = events_of(text)
    assert json.loads(call.arguments) == {"path": value}


def test_calls_follow_one_another_and_white_space_around_them_is_dropped() -> None:
    assert events_of("a \n<tool_call>now</tool_call>\n<tool_call> now\n</tool_call> \n") == [
        TextDelta("a"),
        ToolCallDelta(0, "call_0", "now", "{}"),
        ToolCallDelta(1, "call_1", "now", "{}"),
    ]


def test_text_after_a_call_keeps_the_white_space_before_it() -> None:
    assert events_of("a<tool_call>now</tool_call>\nb \n") == [
        TextDelta("a"),
        ToolCallDelta(0, "call_0", "now", "{}"),
        TextDelta("\nb"),
    ]
    assert events_of("a \n<tool_call>now</tool_call>b")[-1] == TextDelta("b")


def test_a_call_ends_the_reasoning() -> None:
    assert events_of("Hm.<tool_call>now</tool_call>ok", starts_in_reasoning=True) == [
        ReasoningDelta("Hm."),
        ToolCallDelta(0, "call_0", "now", "{}"),
        TextDelta("ok"),
    ]


def test_a_tool_that_was_not_offered_is_called_all_the_same() -> None:
    text = "<tool_call>write<arg_key>n</arg_key><arg_value>[1]</arg_value></tool_call>"
    assert events_of(text) == [ToolCallDelta(0, "call_0", "write", '{"n": [1]}')]


def test_what_is_no_call_is_text() -> None:
    for text in ("<tool_call> is a tag", "x <tool_call><tool_call", "<tool_call></tool_call>", "<tool_call>a<b"):
        assert events_of(text) == [TextDelta(text)]
    assert events_of("I write <tool_call> first</think>ok", starts_in_reasoning=True) == [
        ReasoningDelta("I write <tool_call> first"),
        TextDelta("ok"),
    ]


def test_what_is_no_call_may_be_followed_by_one() -> None:
    assert events_of("a <tool_call> b<tool_call>now</tool_call>") == [
        TextDelta("a <tool_call> b"),
        ToolCallDelta(0, "call_0", "now", "{}"),
    ]


def test_markers_out_of_place_are_text() -> None:
    text = "a</think>b</tool_call><arg_key>c</arg_value>"
    assert events_of(text) == [TextDelta(text)]
    assert events_of("a<think>b", starts_in_reasoning=True) == [ReasoningDelta("a<think>b")]


def test_a_call_cut_off_before_its_name_is_complete_is_text() -> None:
    for text in ("<tool_call>", "<tool_call>re", "<tool_call>read<arg_", "a <tool_call>read\n"):
        events, parser = parse(text)
        assert events == [TextDelta(text)]
        assert (parser.num_calls, parser.unfinished_call) == (0, None)


@pytest.mark.parametrize(
    ("rest", "arguments"),
    [
        ("<arg_key>", ""),
        ("<arg_key>pa", ""),
        ("<arg_key>path</arg_key><arg_value>a.p", '{"path": "a.p'),
        ("<arg_key>line</arg_key><arg_value>12", '{"line": 12'),
        ("<arg_key>line</arg_key><arg_value>12</arg_value>", '{"line": 12'),
    ],
)
def test_a_call_cut_off_later_is_never_whole(rest: str, arguments: str) -> None:
    text = "<tool_call>now</tool_call><tool_call>read" + rest
    assert events_of(text)[1:] == [ToolCallDelta(1, "call_1", "read", arguments)]
    _, parser = parse(by_tokens(text))
    assert (parser.num_calls, parser.unfinished_call) == (2, 1)


def test_a_finished_reply_has_no_unfinished_call() -> None:
    _, parser = parse("<tool_call>now</tool_call>")
    assert (parser.num_calls, parser.unfinished_call) == (1, None)


def test_letters_are_not_control_tokens() -> None:
    for text in ("<think>a</think>", "<tool_call>now</tool_call>", "a</arg_value>"):
        letters = [Segment(character) for character in text]
        assert parse(letters)[0] == [TextDelta(text)]
        assert parse(letters, starts_in_reasoning=True)[0] == [ReasoningDelta(text)]


def test_a_value_may_spell_every_marker_with_letters() -> None:
    value = "".join(sorted(MARKERS))
    begin = by_tokens("<tool_call>read<arg_key>path</arg_key><arg_value>")
    events, _ = parse([*begin, Segment(value), *by_tokens("</arg_value></tool_call>")])
    assert json.loads(events[0].arguments) == {"path": value}


def test_in_strings_a_value_may_spell_every_marker_but_its_end() -> None:
    value = "".join(sorted(MARKERS - {"</arg_value>"}))
    events, _ = parse(f"<tool_call>read<arg_key>path</arg_key><arg_value>{value}</arg_value></tool_call>")
    assert json.loads(events[0].arguments) == {"path": value}


def test_control_tokens_without_a_meaning_here_are_shown() -> None:
    assert parse([Segment("a"), Segment("<|image|>", is_control=True), Segment("b")])[0] == [TextDelta("a<|image|>b")]


def test_in_strings_thinking_only_comes_first() -> None:
    assert parse(["In HTML, <think> is no tag.</think>"])[0] == [TextDelta("In HTML, <think> is no tag.</think>")]
    think = [Segment("<think>", is_control=True), Segment("b"), Segment("</think>", is_control=True), Segment("c")]
    assert parse([Segment("a "), *think])[0] == [TextDelta("a"), ReasoningDelta("b"), TextDelta("c")]


def test_in_strings_calls_need_tools() -> None:
    text = "Hm <tool_call>now</tool_call>"
    assert parse([text], tools=())[0] == [TextDelta(text)]
    assert parse([text], tools=(), starts_in_reasoning=True)[0] == [ReasoningDelta(text)]
    assert len(parse(by_tokens(text), tools=())[0]) == 2


def test_what_is_certain_comes_at_once() -> None:
    parser = ReplyParser(tools=TOOLS, starts_in_reasoning=True)
    assert parser.push("Hm") == [ReasoningDelta("Hm")]
    assert parser.push(" <") == [ReasoningDelta(" ")]
    assert parser.push("/thin") == []
    assert parser.push("g") == [ReasoningDelta("</thing")]
    assert parser.push("</think>\n") == []
    assert parser.push("Yes \n") == [TextDelta("Yes")]
    assert parser.push("<tool_call>read") == []
    assert parser.push("<arg_key>path</arg_key><arg_value>a") == [
        *(ToolCallDelta(0, "call_0", "read", text) for text in ("", '{"path": "', "a"))
    ]
    assert parser.push("b") == [ToolCallDelta(0, "call_0", "read", "b")]


def test_calls_are_named_by_the_prefix_and_their_index() -> None:
    parser = ReplyParser(call_id_prefix="turn7_")
    events = [event for piece in by_tokens("<tool_call>now</tool_call>") for event in parser.push(piece)]
    assert {event.id for event in events} == {"turn7_0"}


@pytest.mark.parametrize(
    ("prompt", "opens"),
    [
        ([Segment("<think>", is_control=True)], True),
        ([Segment("<think>", is_control=True), Segment("\n")], True),
        ([Segment("<think>", is_control=True), Segment("</think>", is_control=True)], False),
        ([Segment("<|assistant|>", is_control=True)], False),
        ([Segment("<|assistant|><think>\n")], True),
        ([Segment("<think>", is_control=True), Segment("x")], False),
        ([], False),
    ],
)
def test_a_prompt_opens_the_reasoning_by_its_end(prompt: list[Segment], opens: bool) -> None:
    assert opens_reasoning(prompt) is opens


WORDS = [
    *sorted(MARKERS),
    "read",
    "now",
    "path",
    "line",
    " ",
    "\n",
    "x",
    "<",
    "</",
    "7",
    '"',
    "true",
    "é",
    "_key>",
    "a b",
]
REPLIES = st.lists(st.sampled_from(WORDS), max_size=16).map("".join)


@given(REPLIES, st.booleans(), st.sampled_from([TOOLS, ()]), st.data())
def test_strings_give_the_same_events_however_they_are_cut(
    text: str, starts_in_reasoning: bool, tools: tuple[Tool, ...], data: st.DataObject
) -> None:
    options = {"starts_in_reasoning": starts_in_reasoning, "tools": tools}
    whole, _ = parse([text], **options)
    assert parse(text, **options)[0] == whole
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert parse(pieces, **options)[0] == whole


@given(REPLIES, st.booleans(), st.data())
def test_segments_give_the_same_events_however_they_are_cut(
    text: str, starts_in_reasoning: bool, data: st.DataObject
) -> None:
    whole = [
        segment if segment.is_control and data.draw(st.booleans()) else Segment(segment.text)
        for segment in CONTROL.split(text)
    ]
    cut = [
        piece
        for segment in whole
        for piece in ([segment] if segment.is_control else [Segment(character) for character in segment.text])
    ]
    options = {"starts_in_reasoning": starts_in_reasoning}
    assert parse(cut, **options)[0] == parse(whole, **options)[0]


@given(REPLIES, st.booleans())
def test_a_call_is_whole_json_if_and_only_if_it_was_finished(text: str, starts_in_reasoning: bool) -> None:
    events, parser = parse([text], starts_in_reasoning=starts_in_reasoning)
    calls = [event for event in events if isinstance(event, ToolCallDelta)]
    assert [call.index for call in calls] == list(range(parser.num_calls))
    for call in calls:
        if call.index == parser.unfinished_call:
            with pytest.raises(json.JSONDecodeError):
                json.loads(call.arguments)
        else:
            assert isinstance(json.loads(call.arguments), dict)


@given(REPLIES)
def test_no_letter_of_a_reply_without_markers_is_lost(text: str) -> None:
    assert "".join(event.text for event in parse(map(Segment, text))[0]) == text

from __future__ import annotations

from collections.abc import Sequence

import pytest

from longlens.text.call_reader import (
    CALL,
    CALL_MARKERS,
    END_CALL,
    END_KEY,
    END_VALUE,
    KEY,
    VALUE,
    CallReader,
    CallStage,
)
from longlens.text.events import ToolCallDelta

SCHEMAS = {"read": {"path": {"type": "string"}, "line": {"type": "integer"}}}


def read(pieces: Sequence[str]) -> tuple[CallReader, str]:
    """Feed markers and texts; return the reader and the arguments it wrote."""
    reader = CallReader(ToolCallDelta(0, "call_0", "", ""), SCHEMAS)
    for piece in pieces:
        if piece in CALL_MARKERS:
            reader.take_marker(piece)
        else:
            assert reader.take_text(piece) == ""
    return reader, "".join(event.arguments for event in reader.taken_events())


def test_a_call_without_arguments_has_an_empty_object() -> None:
    reader, arguments = read(["now", END_CALL])
    assert (reader.stage, arguments) == (CallStage.FINISHED, "{}")


def test_strings_are_written_as_they_come_and_other_values_when_they_are_whole() -> None:
    _, arguments = read(["read", KEY, "path", END_KEY, VALUE, 'a"'])
    assert arguments == '{"path": "a\\"'
    _, arguments = read(["read", KEY, "line", END_KEY, VALUE, "1"])
    assert arguments == '{"line": '
    _, arguments = read(["read", KEY, "line", END_KEY, VALUE, "1", "2", END_VALUE])
    assert arguments == '{"line": 12'


def test_arguments_follow_one_another() -> None:
    pieces = [
        "read",
        KEY,
        "path",
        END_KEY,
        VALUE,
        "x",
        END_VALUE,
        KEY,
        "line",
        END_KEY,
        VALUE,
        "1",
        END_VALUE,
        END_CALL,
    ]
    assert read(pieces)[1] == '{"path": "x", "line": 1}'


def test_an_empty_string_is_an_argument() -> None:
    assert read(["read", KEY, "path", END_KEY, VALUE, END_VALUE, END_CALL])[1] == '{"path": ""}'


def test_white_space_between_the_parts_is_ignored() -> None:
    pieces = [" read\n", KEY, " path ", END_KEY, "\n", VALUE, " x ", END_VALUE, "\n", END_CALL]
    reader, arguments = read(pieces)
    assert (reader.stage, arguments) == (CallStage.FINISHED, '{"path": " x "}')


@pytest.mark.parametrize("marker", [KEY, END_CALL])
def test_a_call_needs_a_name(marker: str) -> None:
    reader, arguments = read([" ", marker])
    assert (reader.stage, reader.raw, arguments) == (CallStage.REFUSED, "<tool_call> ", "")


@pytest.mark.parametrize(
    ("text", "raw", "rest"), [("a b", "a ", "b"), ("a<", "a", "<"), ("x" * 300, "x" * 256, "x" * 44)]
)
def test_what_is_no_name_is_refused_at_its_first_wrong_character(text: str, raw: str, rest: str) -> None:
    reader = CallReader(ToolCallDelta(0, "call_0", "", ""), SCHEMAS)
    assert reader.take_text(text) == rest
    assert (reader.stage, reader.raw) == (CallStage.REFUSED, "<tool_call>" + raw)


@pytest.mark.parametrize("marker", [VALUE, END_VALUE, END_KEY, CALL])
def test_a_marker_that_no_name_precedes_ends_the_call_without_being_taken(marker: str) -> None:
    reader = CallReader(ToolCallDelta(0, "call_0", "", ""), SCHEMAS)
    reader.take_text("read")
    assert not reader.take_marker(marker)
    assert (reader.stage, reader.raw) == (CallStage.REFUSED, "<tool_call>read")


def test_control_tokens_that_were_forgotten_are_understood() -> None:
    assert read(["read", KEY, "path", VALUE, "x", END_CALL])[1] == '{"path": "x"}'
    assert read(["read", KEY, "path", END_KEY, VALUE, "x", KEY, "line", VALUE, "1", END_CALL])[1] == (
        '{"path": "x", "line": 1}'
    )
    assert read(["read", KEY, "path", END_CALL])[1] == "{}"


def test_a_new_call_ends_one_whose_arguments_are_whole() -> None:
    reader, _ = read(["read", KEY, "path", END_KEY, VALUE, "x", END_VALUE])
    assert not reader.take_marker(CALL)
    assert reader.stage is CallStage.FINISHED
    assert reader.taken_events()[-1].arguments == "}"


def test_control_tokens_inside_of_a_value_that_cannot_end_it_belong_to_it() -> None:
    assert read(["read", KEY, "path", END_KEY, VALUE, CALL, END_KEY, END_VALUE, END_CALL])[1] == (
        '{"path": "<tool_call></arg_key>"}'
    )


def test_a_call_cut_off_is_never_whole() -> None:
    reader, arguments = read(["read", KEY, "line", END_KEY, VALUE, "12"])
    reader.cut_off()
    assert arguments + "".join(event.arguments for event in reader.taken_events()) == '{"line": 12'
    reader, _ = read(["rea"])
    reader.cut_off()
    assert (reader.stage, reader.raw) == (CallStage.REFUSED, "<tool_call>rea")


def test_every_event_names_the_call() -> None:
    reader = CallReader(ToolCallDelta(3, "call_3", "", ""), {})
    reader.take_text("f")
    reader.take_marker(END_CALL)
    assert reader.taken_events() == [ToolCallDelta(3, "call_3", "f", ""), ToolCallDelta(3, "call_3", "f", "{}")]
    assert reader.taken_events() == []

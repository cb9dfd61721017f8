from __future__ import annotations

import io
import json

import pytest

from longlens.cli.answer_writer import AnswerWriter
from longlens.text.reply import ReasoningDelta, TextDelta, ToolCallDelta

EVENTS = (ReasoningDelta("hm [b]"), ReasoningDelta(" yes"), TextDelta("Paris"), TextDelta("."))


class FakeTerminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def write(writer: AnswerWriter) -> None:
    for event in EVENTS:
        writer.take(event)
    writer.end()


def test_text_goes_to_stdout_and_reasoning_to_stderr_on_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    write(AnswerWriter(dims_reasoning=True))
    assert capsys.readouterr() == ("Paris.\n", "hm [b] yes\n")


def test_reasoning_is_dim_on_a_terminal_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {}
    for wish in ("", "1"):
        terminal = FakeTerminal()
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("NO_COLOR", wish)
        write(AnswerWriter(dims_reasoning=True))
        shown[wish] = terminal.getvalue()
    assert shown[""] == "\x1b[2mhm [b]\x1b[0m\x1b[2m yes\x1b[0m\n"
    assert shown["1"] == "hm [b] yes\n"


def test_a_silent_writer_keeps_everything_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    writer = AnswerWriter(is_silent=True)
    assert not writer.has_output
    write(writer)
    assert capsys.readouterr() == ("", "")
    assert ("".join(writer.text), "".join(writer.reasoning)) == ("Paris.", "hm [b] yes")
    assert writer.has_output


def test_a_tool_call_is_one_json_line_after_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    writer = AnswerWriter()
    for event in (TextDelta("so"), ToolCallDelta(0, "call_0", "look", '{"a"'), ToolCallDelta(0, "", "", ": 1}")):
        writer.take(event)
    writer.end()
    text, call = capsys.readouterr().out.splitlines()
    assert text == "so"
    assert json.loads(call) == {"id": "call_0", "name": "look", "arguments": '{"a": 1}'}


def test_control_characters_are_spelled_out_on_a_terminal_and_kept_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    for stream in (FakeTerminal(), io.StringIO()):
        monkeypatch.setattr("sys.stdout", stream)
        AnswerWriter().take(TextDelta("a\tb\n\x1b[2Jé\x9b"))
        shown.append(stream.getvalue())
    assert shown == ["a\tb\n\\x1b[2Jé\\x9b", "a\tb\n\x1b[2Jé\x9b"]

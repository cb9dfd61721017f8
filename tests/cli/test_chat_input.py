from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from longlens.cli.chat_input import Entry, PlainLines, choose_lines, read_entry


class Typed:
    def __init__(self, *lines: str) -> None:
        self.lines = list(lines)
        self.prompts: list[str] = []

    def read(self, prompt: str) -> str | None:
        self.prompts.append(prompt)
        return self.lines.pop(0) if self.lines else None


@pytest.mark.parametrize(
    ("lines", "entry"),
    [
        (["hello"], Entry("hello", is_message=False)),
        (["/exit"], Entry("/exit", is_message=False)),
        (["one\\", "two"], Entry("one\ntwo", is_message=True)),
        (["one\\"], Entry("one", is_message=True)),
        (["one\\", "two\\", "/exit"], Entry("one\ntwo\n/exit", is_message=True)),
        (['"""', "one", "", "two", '"""'], Entry("one\n\ntwo", is_message=True)),
        (['"""one', 'two"""'], Entry("one\ntwo", is_message=True)),
        (['"""one"""'], Entry("one", is_message=True)),
        (['"""/exit"""'], Entry("/exit", is_message=True)),
        (['"""one', "two"], Entry("one\ntwo", is_message=True)),
        (["/exit\npasted"], Entry("/exit\npasted", is_message=True)),
    ],
)
def test_one_line_or_several_make_an_entry(lines: list[str], entry: Entry) -> None:
    typed = Typed(*lines)
    assert read_entry(typed) == entry
    assert typed.prompts[0] == "> "
    assert set(typed.prompts[1:]) <= {"| "}
    assert typed.lines == []


def test_the_end_of_input_is_no_entry() -> None:
    assert read_entry(Typed()) is None


def test_plain_lines_lose_their_ends_and_keep_odd_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    piped = SimpleNamespace(buffer=io.BytesIO(b"one\r\n\ncaf\xe9\nlast"), isatty=lambda: False)
    monkeypatch.setattr("sys.stdin", piped)
    lines = choose_lines()
    assert isinstance(lines, PlainLines)
    assert [lines.read("> ") for _ in range(5)] == ["one", "", "caf\udce9", "last", None]

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import longlens
from longlens import SamplingParams
from longlens.chat.conversation import ChatOptions
from longlens.chat.dialogue import Dialogue
from longlens.chat.facade import LoadedModel
from longlens.cli.chat_loop import ChatLoop
from tests.cli.terminal import TINY

GREEDY = SamplingParams(max_tokens=3, ignore_eos=True)


class Typed:
    """Lines that are typed one after the other; an exception among them is raised."""

    def __init__(self, *lines: str | type[BaseException]) -> None:
        self.lines = list(lines)

    def read(self, prompt: str) -> str | None:
        if not self.lines:
            return None
        line = self.lines.pop(0)
        if isinstance(line, str):
            return line
        raise line


@pytest.fixture(scope="module")
def model() -> Iterator[LoadedModel]:
    with longlens.load(TINY, device="cpu", context=512) as opened:
        yield opened


@pytest.fixture
def dialogue(model: LoadedModel) -> Iterator[Dialogue]:
    with Dialogue(model, options=ChatOptions(template={"enable_thinking": False})) as fresh:
        yield fresh


def loop(dialogue: Dialogue, *lines: str | type[BaseException], params: SamplingParams = GREEDY) -> ChatLoop:
    return ChatLoop(dialogue, params, Typed(*lines), is_quiet=False)


def test_exit_and_the_end_of_input_leave_with_0(dialogue: Dialogue) -> None:
    assert loop(dialogue).run() == 0
    typed = Typed("/exit", "never read")
    assert ChatLoop(dialogue, GREEDY, typed, is_quiet=True).run() == 0
    assert typed.lines == ["never read"]


def test_two_interruptions_in_a_row_leave_with_130(dialogue: Dialogue) -> None:
    assert loop(dialogue, KeyboardInterrupt, "/stats", KeyboardInterrupt, "").run() == 0
    assert loop(dialogue, KeyboardInterrupt, KeyboardInterrupt, "never").run() == 130


def test_every_line_is_a_message_and_empty_ones_are_none(dialogue: Dialogue) -> None:
    loop(dialogue, "one", "", "  ", " /exit").run("zero")
    assert [exchange.question for exchange in dialogue.exchanges] == ["zero", "one", " /exit"]


def test_added_files_go_before_one_message(dialogue: Dialogue, tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("print(1)")
    loop(dialogue, f"/read {file}", "why?", "and?").run()
    assert [exchange.question for exchange in dialogue.exchanges] == [
        f"--- File: {file} ---\nprint(1)\n\nwhy?",
        "and?",
    ]


def test_a_message_that_is_refused_keeps_conversation_and_added_files(
    dialogue: Dialogue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.py"
    file.write_text("print(1)")
    chat = loop(dialogue, "hello", f"/read {file}", "long " * 300, "short")
    assert chat.run() == 0
    assert chat.num_faults == 1
    shown = capsys.readouterr().err
    assert "leaves no room for an answer" in shown
    assert "/rewind drops the last turn" in shown
    assert [exchange.question for exchange in dialogue.exchanges][1].endswith("print(1)\n\nshort")


def test_clear_drops_turns_and_added_files(dialogue: Dialogue, tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("print(1)")
    loop(dialogue, "one", f"/add {file}", "/clear", "two").run()
    assert [exchange.question for exchange in dialogue.exchanges] == ["two"]
    loop(dialogue, "/clear", "/clear").run()
    assert dialogue.exchanges == ()


def test_rewind_drops_as_many_turns_as_are_asked_for(dialogue: Dialogue, capsys: pytest.CaptureFixture[str]) -> None:
    loop(dialogue, "one", "two", "three", "/rewind 2", "/rewind none").run()
    assert [exchange.question for exchange in dialogue.exchanges] == ["one"]
    shown = capsys.readouterr().err
    assert "dropped 2 turns, 1 are left" in shown
    assert "'none' is not a number of turns" in shown


def test_with_a_seed_every_other_answer_is_another_and_all_come_again(model: LoadedModel) -> None:
    sampled = SamplingParams(max_tokens=6, temperature=1.0, seed=7, ignore_eos=True)

    def answers() -> list[str]:
        found = []
        with Dialogue(model, options=ChatOptions(template={"enable_thinking": False})) as fresh:
            chat = loop(fresh, "hello", params=sampled)
            for lines in (["hello"], ["/regen"], ["/regen"]):
                chat._lines = Typed(*lines)
                chat.run()
                answer = fresh.exchanges[-1].answer
                found.append(answer.text if answer is not None else "")
        return found

    first = answers()
    assert len(set(first)) == 3
    assert answers() == first


def test_a_greedy_answer_is_said_to_be_the_same_again(dialogue: Dialogue, capsys: pytest.CaptureFixture[str]) -> None:
    loop(dialogue, "hello", "/regen").run()
    assert "will be the same" in capsys.readouterr().err


def test_regen_without_a_question_is_a_fault(dialogue: Dialogue, capsys: pytest.CaptureFixture[str]) -> None:
    chat = loop(dialogue, "/regen")
    assert chat.run() == 0
    assert chat.num_faults == 1
    assert "there is no question yet" in capsys.readouterr().err


def test_the_answer_is_on_stdout_and_all_else_on_stderr(dialogue: Dialogue, capsys: pytest.CaptureFixture[str]) -> None:
    loop(dialogue, "hello", "/stats", "/help", "/places", "/nothing").run()
    out, err = capsys.readouterr()
    answer = dialogue.exchanges[0].answer
    assert answer is not None
    assert out == answer.text + "\n"
    for part in ("1 turns", "/regen", "was given no files", "/nothing is not a command", "3 tokens"):
        assert part in err


def test_places_names_the_lines_that_an_answer_looked_at(
    dialogue: Dialogue, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("print(1)\n" * 30)
    loop(dialogue, "/places", "/read a.py", "why?", "/places").run()
    shown = capsys.readouterr().err
    assert shown.index("no places yet: there is no answer") < shown.index("added a.py")
    assert re.search(r"looked at:\n  a\.py:\d+", shown)
    loop(dialogue, "/clear", "/places").run()
    assert "no places yet: there is no answer" in capsys.readouterr().err


def test_saying_something_can_be_stopped(dialogue: Dialogue, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> list[str]:
        raise KeyboardInterrupt

    for lines, code in ((["/places", "/stats", KeyboardInterrupt], 0), (["/places", KeyboardInterrupt], 130)):
        chat = loop(dialogue, *lines)
        chat._places.lines = interrupted  # type: ignore[method-assign,assignment]
        assert chat.run() == code
        assert "stopped\n" in capsys.readouterr().err

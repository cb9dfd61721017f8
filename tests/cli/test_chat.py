from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.terminal import TINY, fault_and_mend, longlens

SHORT = ("-c", "512", "-n", "3", "--temp", "0", "--chat-template-kwargs", '{"enable_thinking": false}')


def test_piped_lines_are_messages_and_answers_alone_are_on_stdout() -> None:
    result = longlens("chat", "-m", TINY, *SHORT, stdin=b"hello\n/stats\nagain\n")
    log = result.stderr.decode()
    assert result.returncode == 0, log
    assert result.stdout.count(b"\n") >= 2
    assert b"tokens" not in result.stdout
    assert "conversation: 1 turns, 2 messages" in log
    assert log.count("first token after") == 3


def test_the_prompt_is_the_system_prompt_and_beside_sys_the_first_message(tmp_path: Path) -> None:
    file = tmp_path / "system.txt"
    file.write_text("Be kind.")
    by_word = longlens("chat", "-m", TINY, *SHORT, "-p", "Be kind.", "-i", stdin=b"hello\n/stats\n")
    by_file = longlens("chat", "-m", TINY, *SHORT, "-f", str(file), stdin=b"hello\n/stats\n")
    by_name = longlens("chat", "-m", TINY, *SHORT, "-sys", "Be kind.", "-p", "hello", stdin=b"/stats\n")
    assert by_word.stdout == by_file.stdout == by_name.stdout != b""
    for result in (by_word, by_file, by_name):
        assert b"1 turns, 3 messages" in result.stderr


def test_a_fault_among_piped_lines_shows_in_the_exit_code_and_stops_nothing() -> None:
    result = longlens("chat", "-m", TINY, *SHORT, "-q", stdin=b"/regn\nhello\n")
    assert result.returncode == 1
    assert result.stdout != b""
    assert result.stderr.decode().splitlines()[:2] == [
        "/regn is not a command",
        "hint: did you mean /regen? To say it to the model, begin with a space",
    ]


def test_a_context_above_the_models_own_is_refused_with_the_longest() -> None:
    result = longlens("chat", "-m", TINY, "-p", "x", "-c", "262144", "-n", "1024", "-i")
    fault, mend = fault_and_mend(result)
    assert result.returncode == 1
    assert "262144" in fault
    assert "--context 4096" in mend


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["-p", " "], "prompt is empty"),
        (["-p", "x", "-f", "y"], "once"),
        (["-f", "-"], "standard input"),
        (["--json"], "--json"),
        (["-fa", "off"], "--flash-attn"),
        (["--chat-template-kwargs", '{"volume": 11}'], "volume"),
        (["--temp", "-1"], "temperature"),
    ],
)
def test_an_option_that_means_nothing_is_refused_by_name(words: list[str], shown: str) -> None:
    result = longlens("chat", "-m", TINY, "-q", *words)
    fault, mend = fault_and_mend(result)
    assert result.returncode == 2
    assert shown in fault + mend

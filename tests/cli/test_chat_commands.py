from __future__ import annotations

import pytest

from longlens.cli.chat_commands import COMMAND_NAMES, Command, help_lines, read_command, read_count
from longlens.errors import UsageError


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("/help", Command("/help", "")),
        ("/read a file.py ", Command("/read", "a file.py")),
        ('/read "a file.py"', Command("/read", "a file.py")),
        ("/read '", Command("/read", "'")),
        ("/rewind", Command("/rewind", "")),
        ("/rewind 2", Command("/rewind", "2")),
        ("/exit ", Command("/exit", "")),
    ],
)
def test_a_command_is_a_name_and_what_follows(line: str, command: Command) -> None:
    assert read_command(line) == command


@pytest.mark.parametrize("line", ["", "hello", " /exit", "a /exit"])
def test_a_line_that_does_not_begin_with_a_slash_is_no_command(line: str) -> None:
    assert read_command(line) is None


@pytest.mark.parametrize(
    ("line", "mend"),
    [
        ("/regn", "/regen"),
        ("/quit", "/exit"),
        ("/xyzzy", "/help"),
        ("/", "/help"),
        ("/Exit", "/exit"),
        ("/read", "/read FILE"),
        ("/glob  ", "/glob PATTERN"),
        ("/clear all", "/clear"),
    ],
)
def test_what_is_no_command_is_refused_with_the_nearest(line: str, mend: str) -> None:
    with pytest.raises(UsageError) as error:
        read_command(line)
    assert line.split()[0] in error.value.fault
    assert mend in error.value.mend


def test_rewind_drops_one_turn_unless_a_number_is_given() -> None:
    assert read_count("") == 1
    assert read_count("12") == 12
    for wrong in ("0", "-1", "two", "1.5", "²"):
        with pytest.raises(UsageError, match="turns"):
            read_count(wrong)


def test_help_names_every_command_once() -> None:
    text = "\n".join(help_lines())
    for name in COMMAND_NAMES:
        assert text.count(f"{name} ") == 1

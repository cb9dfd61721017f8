"""What the user types: lines from a terminal or a pipe, and the messages that they make."""

from __future__ import annotations

import sys
from typing import NamedTuple, Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.output import create_output
from prompt_toolkit.shortcuts import CompleteStyle

from longlens.cli.chat_commands import COMMAND_NAMES

FENCE = '"""'
PROMPT, CONTINUATION = "> ", "| "


class Lines(Protocol):
    """Where lines come from."""

    def read(self, prompt: str) -> str | None:
        """Return the next line without its end; None when there is no more.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        ...


class TerminalLines:
    """Lines typed at a terminal, with editing, completion of commands, and a history that ends with the program."""

    def __init__(self) -> None:
        """Ask on stderr: stdout is for answers."""
        self._session: PromptSession[str] = PromptSession(
            history=InMemoryHistory(),
            completer=WordCompleter(COMMAND_NAMES, sentence=True),
            complete_while_typing=False,
            # Below the line, and only when asked for: a menu would keep lines of the screen free for itself.
            complete_style=CompleteStyle.READLINE_LIKE,
            reserve_space_for_menu=0,
            output=create_output(stdout=sys.stderr),
        )

    def read(self, prompt: str) -> str | None:
        """Ask for a line. Text that is pasted may hold several."""
        try:
            return self._session.prompt(prompt)
        except EOFError:
            return None


class PlainLines:
    """Lines of a pipe or a file."""

    def read(self, prompt: str) -> str | None:  # noqa: ARG002  (nobody is there to be asked)
        """Take the next line. Bytes that are not UTF-8 are kept as such; the tokenizer refuses them by place."""
        line = sys.stdin.buffer.readline()
        return line.decode("utf-8", "surrogateescape").rstrip("\r\n") if line else None


def choose_lines() -> Lines:
    """Take a terminal's editing where somebody sits at it, plain lines otherwise."""
    return TerminalLines() if sys.stdin.isatty() and sys.stderr.isatty() else PlainLines()


class Entry(NamedTuple):
    """What was entered.

    Attributes:
        text: one line or several.
        is_message: it is for the model, even if it begins like a command.
    """

    text: str
    is_message: bool


def read_entry(lines: Lines) -> Entry | None:
    """Read a message or a command; None when there is no more.

    A message of several lines stands between two triple quotes, or ends each line but the last in a backslash. Where
    input ends in the middle of one, what is there is the message.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    line = lines.read(PROMPT)
    if line is None:
        return None
    if line.startswith(FENCE):
        return Entry(_fenced(line.removeprefix(FENCE), lines), is_message=True)
    if not line.endswith("\\"):
        return Entry(line, is_message="\n" in line)
    return Entry(_continued(line, lines), is_message=True)


def _fenced(first: str, lines: Lines) -> str:
    pieces = [first]
    while not pieces[-1].endswith(FENCE):
        line = lines.read(CONTINUATION)
        if line is None:
            break
        pieces.append(line)
    pieces[-1] = pieces[-1].removesuffix(FENCE)
    return "\n".join(pieces).strip("\n")


def _continued(first: str, lines: Lines) -> str:
    pieces = [first]
    while pieces[-1].endswith("\\"):
        pieces[-1] = pieces[-1].removesuffix("\\")
        line = lines.read(CONTINUATION)
        if line is None:
            break
        pieces.append(line)
    return "\n".join(pieces)

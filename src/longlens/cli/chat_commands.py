"""The commands of a chat: their names, what they say of themselves, and how a line becomes one."""

from __future__ import annotations

from difflib import get_close_matches
from typing import NamedTuple

from longlens.errors import UsageError

_HELP = (
    ("/help", "", "show this"),
    ("/read", "FILE", "put a file's text before the next message"),
    ("/glob", "PATTERN", "the same for all text files that match, such as src/**/*.py"),
    ("/add", "PATH", "the same for a file, or for all text files of a folder"),
    ("/regen", "", "answer the last message anew, or go on where reading was stopped"),
    ("/rewind", "[N]", "drop the last N turns (1)"),
    ("/clear", "", "drop all turns and added files; the system prompt stays"),
    ("/stats", "", "tokens, what was cached and read, rates, and the room that is left"),
    ("/places", "", "files and lines that the model looked at while it wrote the last answer"),
    ("/exit", "", "leave, as Ctrl-D does"),
)
_NEEDS_ARGUMENT = {name for name, argument, _ in _HELP if argument and not argument.startswith("[")}
_TAKES_ARGUMENT = {name for name, argument, _ in _HELP if argument}
COMMAND_NAMES = tuple(name for name, _, _ in _HELP)


class Command(NamedTuple):
    """A command, and what was written after it."""

    name: str
    argument: str


def read_command(line: str) -> Command | None:
    """Read a line that begins with a slash; another line is no command.

    Raises:
        UsageError: no command has this name, its argument is missing, or it takes none.
    """
    if not line.startswith("/"):
        return None
    name, _, rest = line.partition(" ")
    argument = _unquoted(rest.strip())
    if name not in COMMAND_NAMES:
        close = next(iter(get_close_matches(name, COMMAND_NAMES, n=1, cutoff=0.5)), None)
        near = f"did you mean {close}?" if close else "see /help"
        raise UsageError(f"{name} is not a command", f"{near} To say it to the model, begin with a space")
    if name in _NEEDS_ARGUMENT and not argument:
        raise UsageError(f"{name} needs an argument", f"write {_usage(name)}")
    if argument and name not in _TAKES_ARGUMENT:
        raise UsageError(f"{name} takes no argument", f"write {name}")
    return Command(name, argument)


def read_count(argument: str) -> int:
    """Read the N of `/rewind N`; nothing is 1.

    Raises:
        UsageError: not a number of turns.
    """
    if argument and not (argument.isascii() and argument.isdigit() and int(argument) > 0):
        raise UsageError(f"{argument!r} is not a number of turns", "write /rewind 2, for example")
    return int(argument or 1)


def help_lines() -> list[str]:
    """Every command with what it does, and how to write more than a line."""
    width = max(len(_usage(name)) for name in COMMAND_NAMES)
    return [
        *(f"{_usage(name):<{width}}  {summary}" for name, _, summary in _HELP),
        'Several lines: begin and end with """, or end a line in \\.',
        "Ctrl-C stops an answer or the reading before it; a second one in a row leaves.",
    ]


def _usage(name: str) -> str:
    (argument,) = [argument for known, argument, _ in _HELP if known == name]
    return f"{name} {argument}".strip()


def _unquoted(text: str) -> str:
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if is_quoted else text
